"""What has one meaning is read however it is written, with one note for all; what has two is refused with both."""

import json
import re
import time
from contextlib import suppress

import numpy as np
import pytest

from maskrcnn.data.faults import Faults, Severity
from maskrcnn.data.formats import coco
from maskrcnn.masks import string_from_counts

SQUARE = [10, 5, 30, 5, 30, 25, 10, 25]
COUNTS = [405, *[20] * 39, 1215]
RUNS = {"size": [40, 60], "counts": COUNTS}
QUOTED = repr(string_from_counts(COUNTS).encode())
PLAIN = {"boxes": [[10, 5, 30, 25]], "ids": [1], "labels": [2], "crowd": [False], "area": 400.0}


def told(data):
    """What the tests below compare."""
    rings = data.outline(0)
    x, y = rings.points[:, 0].astype(float), rings.points[:, 1].astype(float)
    return {
        "boxes": data.boxes.tolist(),
        "ids": data.annotation_ids.tolist(),
        "labels": data.labels.tolist(),
        "crowd": data.crowd.tolist(),
        "area": abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2,
    }


@pytest.mark.parametrize(
    ("fields", "note"),
    [
        ({"id": "1", "image_id": "1", "category_id": "7"}, "1 object has an id, box or area written as text"),
        ({"id": 1.0, "image_id": 1.0, "category_id": 7.0}, "1 object has an id with a decimal point"),
        ({"bbox": ["10.0", "5", "20", " 20 "]}, "1 object has an id, box or area written as text"),
        ({"bbox": None}, "1 object has no box; its outline's is taken"),
        ({"bbox": []}, "1 object has no box; its outline's is taken"),
        ({"bbox": [0, 0, 0, 0]}, "1 object has a box without width or height beside an outline"),
        ({"bbox": [10, 5, -1, 20]}, "1 object has a box without width or height beside an outline"),
        ({"bbox": None, "segmentation": RUNS}, "1 object has no box; its outline's is taken"),
        ({"id": None}, "1 object has no id; it is numbered"),
        ({"iscrowd": None}, "1 object has an `iscrowd` that is not the whole number 0 or 1"),
        ({"iscrowd": "0"}, "1 object has an `iscrowd` that is not the whole number 0 or 1"),
        ({"iscrowd": 0.0}, "1 object has an `iscrowd` that is not the whole number 0 or 1"),
        ({"area": None}, "1 object states no area"),
        ({"area": "unknown"}, "1 object states no area"),
        ({"segmentation": SQUARE}, "1 object has an outline that is not put into a list"),
        ({"segmentation": [[10, 5], [30, 5], [30, 25], [10, 25]]}, "1 object has an outline of points [x, y]"),
        ({"segmentation": [[[10, 5], [30, 5], [30, 25], [10, 25]]]}, "1 object has an outline of points [x, y]"),
        ({"segmentation": [[*map(str, SQUARE)]]}, "1 object has an outline or run lengths with numbers"),
        ({"segmentation": {**RUNS, "size": ["40", 60.0]}}, "1 object has an outline or run lengths with numbers"),
        ({"segmentation": {"size": [40, 60], "counts": QUOTED}}, "1 object has run lengths with Python's b'...'"),
        ({"segmentation": {}}, "1 object has a box and no outline; its box stands in for it"),
        ({"segmentation": ""}, "1 object has a box and no outline; its box stands in for it"),
    ],
)
def test_an_annotation_that_is_written_otherwise_is_read_with_one_note(write_split, annotate, fields, note):
    data = coco.read(*write_split([annotate(**fields)]))
    (only,) = data.notes
    assert note in only
    assert told(data) == PLAIN


def test_text_that_python_made_of_run_lengths_of_another_size_is_refused(write_split, annotate):
    counts = repr(string_from_counts([*COUNTS[:-1], 1214]).encode())
    with pytest.raises(ValueError, match=r"annotation 1 of image 1 has malformed run lengths .*received 2399"):
        coco.read(*write_split([annotate(segmentation={"size": [40, 60], "counts": counts})]))


@pytest.mark.parametrize(
    ("image", "note"),
    [
        ({"height": "40", "width": "60"}, "1 image has an id or size written as text"),
        ({"height": 40.0, "width": 60.0}, "1 image has an id or size written as text"),
        ({"id": "1"}, "1 image has an id or size written as text"),
        ({"id": 1.0}, "1 image has an id or size written as text"),
        ({"height": -1, "width": -1}, "1 image states no height and width, which the header of the picture tells"),
        ({"height": 0, "width": 0}, "1 image states no height and width, which the header of the picture tells"),
        ({"height": None, "width": None}, "1 image states no height and width, which the header of the picture tells"),
        ({"file_name": None, "coco_url": "http://x.org/train/1.png?v=2"}, "1 image has no `file_name`"),
        ({"file_name": "pictures\\1.png"}, "1 image is named with folders"),
        ({"file_name": "%31.png"}, "1 image is named with percent signs"),
        ({"file_name": "https://x.org/a%20b/1.png"}, "1 image is named by an address"),
        ({"file_name": "/data/local-files/?d=1.png"}, "1 image is named by an address"),
        ({"file_name": "pictures/1.png"}, "1 image is named with folders"),
        ({"file_name": "/home/me/1.png"}, "1 image is named with folders"),
        ({"file_name": "1.PNG"}, "1 image is named in another case or Unicode form"),
        ({"file_name": "C:\\data\\1.Png"}, "1 image is named in another case or Unicode form"),
    ],
)
def test_an_image_that_is_listed_otherwise_is_found_with_one_note(write_split, annotate, image, note):
    entry = {"id": 1, "file_name": "1.png", "height": 40, "width": 60, **image}
    data = coco.read(
        *write_split([annotate()], images=[{key: value for key, value in entry.items() if value is not None}])
    )
    (only,) = data.notes
    assert note in only
    assert told(data) == PLAIN
    assert (data.image_ids.tolist(), list(data.file_names), data.sizes.tolist()) == ([1], ["1.png"], [[40, 60]])


def test_names_with_backslashes_are_found_in_folders_and_in_other_unicode_forms(write_split, annotate):
    file, pictures = write_split([annotate()])
    (pictures / "sub").mkdir()
    (pictures / "1.png").rename(pictures / "sub" / "caf\u00e9.png")
    file.write_text(file.read_text().replace("1.png", "sub\\\\cafe\u0301.png"))
    assert list(coco.read(file, pictures).file_names) == ["sub/caf\u00e9.png"]
    (pictures / "sub" / "caf\u00e9.png").rename(pictures / "sub" / "cafe\u0301.png")
    (note,) = coco.read(file, pictures).notes
    assert "1 image is named with backslashes; it is found with slashes: sub\\cafe\u0301.png" in note


def test_a_picture_that_two_names_could_mean_is_missing_for_both(write_split):
    images = [{"id": id, "file_name": name, "height": 40, "width": 60} for id, name in ((1, "a/1.png"), (2, "b/1.png"))]
    with pytest.raises(FileNotFoundError, match=r"lacks a/1\.png of image 1 \(2 of 2 images"):
        coco.read(*write_split([], images=images))
    images[1]["file_name"] = "1.png"
    with pytest.raises(FileNotFoundError, match=r"lacks a/1\.png of image 1 \(1 of 2 images"):
        coco.read(*write_split([], images=images))


def test_a_picture_that_its_own_folder_lacks_is_missing_whatever_lies_elsewhere(write_split):
    file, pictures = write_split([], images=[{"id": 1, "file_name": "a/1.png", "height": 40, "width": 60}])
    assert list(coco.read(file, pictures).file_names) == ["1.png"]
    (pictures / "a").mkdir()
    with pytest.raises(FileNotFoundError, match=r"lacks a/1\.png of image 1 \(1 of 1 images"):
        coco.read(file, pictures)


def test_a_picture_of_another_ending_is_told(write_split):
    images = [{"id": 1, "file_name": "1.jpg", "height": 40, "width": 60}]
    with pytest.raises(FileNotFoundError, match=r"lacks 1\.jpg .*; there is 1\.png, with another ending; .*complete"):
        coco.read(*write_split([], images=images))


@pytest.mark.parametrize(
    ("encoding", "note"),
    [
        ("utf-8-sig", "1 file begins with a byte order mark"),
        *((name, "1 file is UTF-16 or UTF-32") for name in ("utf-16", "utf-16-le", "utf-16-be", "utf-32")),
        ("utf-32-be", "1 file is UTF-16 or UTF-32"),
        ("cp1252", "1 file is not UTF-8 and is read as Windows-1252"),
    ],
)
def test_encodings_are_understood(write_split, annotate, encoding, note):
    file, pictures = write_split([annotate(note="\u00e9")], categories=[{"id": 7, "name": "K\u00e4se"}])
    file.write_bytes(json.dumps(json.loads(file.read_text()), ensure_ascii=False).encode(encoding))
    data = coco.read(file, pictures)
    assert data.category_names == ("K\u00e4se",)
    assert json.loads(data.attributes[0]) == {"note": "\u00e9"}
    (only,) = data.notes
    assert note in only


def test_what_is_no_text_is_named(write_split, annotate):
    file, _ = write_split([annotate()])
    file.write_bytes(b"\xff\xfe{\x00\x00\xd8")
    with pytest.raises(ValueError, match=r"instances\.json: the text is not utf-16-le, as which it begins"):
        coco.read(file)
    file.write_bytes(b'{"images": "\x81"}')
    with pytest.raises(ValueError, match="save it as UTF-8"):
        coco.read(file)


def test_nan_in_other_fields_and_in_texts_stays(write_split, annotate):
    rows = [annotate(1, score=float("nan"), text='NaN, \\"Infinity'), annotate(2, bbox=[1, 2, float("inf"), 3])]
    faults = Faults()
    data = coco.read(*write_split(rows), faults)
    assert json.loads(data.attributes[0]) == {"score": "NaN", "text": 'NaN, \\"Infinity'}
    assert [str(fault) for fault in faults] == ["1 object has a box that is not finite: annotation 2 of image 1"]


@pytest.mark.parametrize(
    ("ids", "stated", "numbers"),
    [
        (["a", "b", "c"], ["a", "b", "c"], [1, 2, 3]),
        ([2**70, 2**70 + 1, -(2**80)], [str(2**70), str(2**70 + 1), str(-(2**80))], [1, 2, 3]),
        ([7, "x", 5], ["7", "x", "5"], [1, 2, 3]),
        (["007", "7", 8], ["007", "7", "8"], [1, 2, 3]),
        (["9", 8, 7.0], None, [9, 8, 7]),
        ([2**63 - 1, -(2**63), 0], None, [2**63 - 1, -(2**63), 0]),
    ],
)
def test_image_ids_of_every_kind_are_looked_up_and_come_back(write_split, annotate, tmp_path, ids, stated, numbers):
    images = [{"id": id, "file_name": f"{k}.png", "height": 40, "width": 60} for k, id in enumerate(ids, 1)]
    rows = [annotate(k, ids[k % 3]) for k in range(1, 7)]
    file, pictures = write_split(rows, sizes=[(40, 60)] * 3, images=images)
    data = coco.read(file, pictures)
    assert (data.stated_ids and list(data.stated_ids), data.image_ids.tolist()) == (stated, numbers)
    assert data.annotation_ids.tolist() == [3, 6, 1, 4, 2, 5]
    coco.write(data, tmp_path / "again.json")
    again = coco.read(tmp_path / "again.json", pictures)
    assert again.stated_ids == data.stated_ids
    assert again.image_ids.tolist() == numbers
    assert again.annotation_ids.tolist() == data.annotation_ids.tolist()


def test_category_ids_that_are_text_are_numbered_in_their_order(write_split, annotate):
    categories = [{"id": "b", "name": "cup"}, {"id": "a", "name": "cat"}, {"id": 3, "name": "dog"}]
    rows = [annotate(k, category_id=id) for k, id in enumerate(("a", 3, "b"), 1)]
    data = coco.read(*write_split(rows, categories=categories))
    assert (data.category_ids, data.category_names) == ((1, 2, 3), ("cup", "cat", "dog"))
    assert data.labels.tolist() == [2, 3, 1]
    assert data.remarks == (
        "2 category ids do not fit a whole number of 64 bits; all categories get numbers, in the file's order: b, a",
    )


def test_a_category_without_a_name_has_its_id(write_split, annotate):
    data = coco.read(*write_split([annotate()], categories=[{"id": 7}]))
    assert data.category_names == ("7",)


def test_fields_that_are_not_there_at_all_are_made_up(write_split, annotate):
    row = annotate()
    del row["id"], row["bbox"], row["area"], row["iscrowd"]
    data = coco.read(*write_split([row]))
    assert told(data) == PLAIN
    assert [note[:40] for note in data.remarks] == [
        "1 object has no id; it is numbered: anno",
        "1 object has no box; its outline's is ta",
        "1 object states no area, by which scores",
    ]
    del row["segmentation"]
    with pytest.raises(ValueError, match="annotation without id of image 1 has neither a box nor an outline"):
        coco.read(*write_split([row]))


@pytest.mark.parametrize("value", [2, -1])
def test_an_iscrowd_beyond_one_is_a_crowd_region_and_named(value, write_split, annotate):
    data = coco.read(*write_split([annotate(1, iscrowd=value), annotate(2)]))
    assert data.crowd.tolist() == [True, False]
    told = "1 object has an `iscrowd` other than 0 and 1, which is read as 1: nothing is learnt of it"
    assert data.remarks == (f"{told}: annotation 1 of image 1",)


def test_a_box_that_reaches_beyond_all_images_is_drawn_no_further_than_an_outline_may(write_split, annotate):
    data = coco.read(*write_split([annotate(bbox=[0, 0, 1e12, 9], segmentation=[])]))
    assert data.outline(0).points.max() == 2.0**20
    assert data.stated_boxes.tolist() == [[0, 0, 1e12, 9]]


def test_annotations_are_numbered_after_the_largest_where_they_have_no_id_of_their_own(write_split, annotate):
    rows = [annotate(5), annotate(None), annotate("x"), annotate(2**80), annotate(5, category_id=3), annotate(3)]
    data = coco.read(*write_split(rows))
    assert data.annotation_ids.tolist() == [5, 6, 7, 8, 9, 3]
    assert [note.split(":")[0] for note in data.remarks] == [
        "1 object has no id; it is numbered",
        "2 objects have an id that is no whole number of 64 bits; they are numbered",
        "1 object has the id of another object; it is numbered anew",
    ]


def test_where_there_is_no_room_after_the_largest_id_the_free_ones_are_given(write_split, annotate):
    data = coco.read(*write_split([annotate(2**63 - 1), annotate(None), annotate(1), annotate(None)]))
    assert data.annotation_ids.tolist() == [2**63 - 1, 2, 1, 3]


def test_what_is_listed_again_with_the_same_words_counts_once(write_split, annotate):
    image = {"id": 1, "file_name": "1.png", "height": 40, "width": 60}
    rows = [annotate(1), annotate(2), dict(reversed(annotate(1).items())), annotate(2, area=399)]
    data = coco.read(
        *write_split(rows, images=[image, {**image, "license": 3}], categories=[{"id": 7, "name": "a"}] * 2)
    )
    assert data.annotation_ids.tolist() == [1, 2, 3]
    assert data.areas.tolist() == [400, 400, 399]
    assert [note[:40] for note in data.remarks] == [
        "1 image is listed again with the same wo",
        "1 category is listed again with the same",
        "1 object is listed again with the same w",
        "1 object has the id of another object; i",
    ]


def test_all_that_is_wrong_is_gathered_and_the_rest_is_left(write_split, annotate):
    def image(id, name, **fields):
        return {"id": id, "file_name": name, "height": 40, "width": 60, **fields}

    images = [
        image(1, "1.png"),
        image(2, "gone.png"),
        image(3, "a.png"),
        image(3, "b.png"),
        image(4, "4", width=10**12),
    ]
    rows = [
        *(annotate(id, id) for id in (1, 2, 3, 4)),
        annotate(5, 9),
        annotate(6, category_id=8),
        annotate(7, bbox=[1, 2, 3]),
        annotate(8, segmentation={**RUNS, "size": [60, 40]}),
        annotate(9, bbox=[0, 0, 40, 35]),
        "no annotation",
        annotate(11, segmentation=[[10, 5, 30, 5, 30, 25, 10]]),
        annotate(12),
    ]
    faults = Faults()
    data = coco.read(*write_split(rows, images=images), faults)
    assert (data.image_ids.tolist(), data.annotation_ids.tolist()) == ([1], [1, 9, 12])
    assert {fault.kind.name: fault.count for fault in faults} == {
        "image-id-twice": 1,
        "absurd-size": 1,
        "malformed-annotation": 2,
        "unlisted-image": 1,
        "unlisted-category": 1,
        "run-lengths-of-another-size": 1,
        "malformed-outline": 1,
        "missing-image": 1,
        "boxes-beside-outlines": 1,
    }
    assert all(fault.sentence for fault in faults if fault.kind.severity is Severity.REFUSED)
    assert data.remarks == faults.notes()


def test_where_nothing_is_left_the_first_fault_is_told(write_split, annotate):
    images = [{"id": 1, "file_name": "gone.png", "height": 40, "width": 60}]
    file, pictures = write_split([annotate()], images=images)
    with pytest.raises(ValueError, match=r"lacks gone\.png of image 1 \(1 of 1"):
        coco.read(file, pictures, Faults())
    file, pictures = write_split([annotate()], images=[{**images[0], "height": 10**12}])
    with pytest.raises(ValueError, match="expected at most 1000000 pixels a side"):
        coco.read(file, pictures, Faults())


def test_run_lengths_are_compared_with_the_size_that_the_picture_tells(write_split, annotate):
    images = [{"id": 1, "file_name": "1.png"}]
    data = coco.read(*write_split([annotate(segmentation=RUNS)], images=images))
    assert (data.sizes.tolist(), told(data)) == ([[40, 60]], PLAIN)
    with pytest.raises(ValueError, match=r"annotation 1 of image 1 has run lengths for .* \(60, 40\)"):
        coco.read(*write_split([annotate(segmentation={**RUNS, "size": [60, 40]})], images=images))
    with pytest.raises(
        ValueError, match=r"image 1 states no height and no width; `maskrcnn data check DIR --fix DEST` writes"
    ):
        coco.read(write_split([annotate()], images=images)[0])


def test_sizes_that_pictures_told_are_not_kept(write_split, annotate, cache):
    file, pictures = write_split([annotate()], images=[{"id": 1, "file_name": "1.png"}])
    assert coco.read(file, pictures).sizes.tolist() == [[40, 60]]
    assert not list(cache.glob("*.columns"))


def test_the_cache_tells_the_same_notes_and_ids(write_split, annotate, cache):
    images = [{"id": "a", "file_name": "1.PNG", "height": 40, "width": 60}]
    paths = write_split([annotate(None, "a"), annotate(2, "a", bbox=[1, 1, 1, 1])], images=images)
    cold, warm = coco.read(*paths), coco.read(*paths)
    assert len(list(cache.glob("*.columns"))) == 1
    assert list(warm.stated_ids) == list(cold.stated_ids) == ["a"]
    assert len(cold.notes) == 4
    assert warm.notes == cold.notes
    assert list(warm.file_names) == ["1.png"]


DEEP = "[" * 100_000 + "]" * 100_000
PLAIN_ROW = '{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "segmentation": %s}'


@pytest.mark.parametrize(
    ("image", "segmentation", "words"),
    [
        ('"height": 1, "width": 150000000', '{"size": [1, 150000000], "counts": [0, 150000000]}', "width 150000000"),
        ('"height": 40, "width": 1000000000000', "[]", "width 1000000000000"),
        (f'"height": 40, "width": {10**400}', "[]", "width 1000000"),
        (
            '"height": 1e999, "width": 60',
            "[]",
            r"images entry 0, id 1: Number out of range - at `\$\.images\[0\]\.height",
        ),
        ('"height": 40, "width": 60', DEEP, "holds brackets within brackets"),
        ('"height": 40, "width": 60', f'[], "other": {DEEP}', "holds brackets within brackets"),
        ('"height": 40, "width": 60', "[" * 100_000, "holds brackets within brackets"),
        (
            '"height": 40, "width": 60',
            "[[1e999, 1, 2, 2, 3, 3]]",
            "neither polygons nor run lengths .Number out of range",
        ),
        ('"height": 40, "width": 60', f"[[{10**400}, 1, 2, 2, 3, 3]]", "neither polygons nor run lengths"),
        ('"height": 40, "width": 60', f'{{"size": [40, 60], "counts": [{10**30}]}}', "malformed run lengths"),
        ('"height": 40, "width": 60', "[[0, 0, 1e17, 0, 1e17, 1e17]]", "outside every image"),
        ('"height": 40, "width": 60', "5.5", "neither polygons nor run lengths"),
        ('"height": 40, "width": 60', '"' + "x" * 10_000_000 + '"', "neither polygons nor run lengths"),
    ],
    ids=range(13),
)
def test_nothing_that_a_file_says_takes_time_memory_or_stack(tmp_path, image, segmentation, words):
    coco.parse(
        {"images": [{"id": 1, "height": 2, "width": 3}], "categories": [{"id": 1, "name": "a"}], "annotations": []}
    )
    file = tmp_path / "a.json"
    content = '{"images": [{"id": 1, %s}], "categories": [{"id": 1, "name": "a"}], "annotations": [%s]}'
    file.write_text(content % (image, PLAIN_ROW % segmentation))
    for faults in (None, Faults()):
        begin = time.process_time()
        with suppress(ValueError) if faults else pytest.raises(ValueError, match=words) as caught:
            coco.read(file, None, faults)
        assert time.process_time() - begin < 1
        assert faults or len(str(caught.value)) < 600


@pytest.mark.parametrize("name", ["images", "categories", "annotations"])
def test_a_number_in_the_place_of_a_list_is_told(tmp_path, name):
    images = [{"id": 1, "height": 2, "width": 3}]
    content = {"images": images, "categories": [], "annotations": [], name: 5.5}
    file = tmp_path / "a.json"
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=re.escape(f"got `float` - at `$.{name}`; expected a COCO instances file")):
        coco.read(file)
