import json
import re
import subprocess
import sys
from dataclasses import fields

import numpy as np
import pytest

from maskrcnn import masks
from maskrcnn.data.annotations import packed
from maskrcnn.data.dataset import Flag, select, summary
from maskrcnn.data.faults import Faults
from maskrcnn.data.formats import coco
from maskrcnn.data.formats.coco_extras import extras_of

RUNS = {"size": [40, 60], "counts": [2400]}


def outline_area(data, row):
    return masks.signed_areas(data.outline(row)).sum()


def test_columns_hold_what_the_file_says_sorted_by_image(write_split, annotate):
    rows = [
        annotate(5, 2),
        annotate(6, 1, category_id=3, bbox=[1, 2, 30, 10], iscrowd=1, segmentation=[]),
        annotate(4, 2),
    ]
    data = coco.read(*write_split(rows, sizes=[(40, 60), (50, 45), (30, 31)]))
    assert data.image_ids.tolist() == [1, 2, 3]
    assert data.sizes.tolist() == [[40, 60], [50, 45], [30, 31]]
    assert data.first_object.tolist() == [0, 1, 3, 3], "an image without objects stays"
    assert data.annotation_ids.tolist() == [6, 5, 4]
    assert data.boxes.tolist() == [[1, 2, 31, 12], [10, 5, 30, 25], [10, 5, 30, 25]]
    assert data.crowd.tolist() == [True, False, False]
    assert data.remarks == ()


def test_labels_ascend_with_category_ids_despite_gaps(write_split, annotate):
    data = coco.read(*write_split([annotate(1), annotate(2, category_id=3)]))
    assert (data.category_ids, data.category_names) == ((3, 7), ("cat", "cup"))
    assert data.labels.tolist() == [2, 1]


def test_every_form_of_segmentation_becomes_rings(write_split, annotate):
    mask = np.zeros((40, 60), bool)
    mask[5:25, 10:30] = True
    mask[10:20, 15:20] = False
    counts = masks.counts_from_bitmap(mask)
    parts = [[0, 0, 4, 0, 4, 3, 0, 3], [10, 10, 12, 10, 12, 15]]
    rows = [
        annotate(1, segmentation=parts, bbox=[0, 0, 12, 15]),
        annotate(2, segmentation={"size": [40, 60], "counts": counts.tolist()}),
        annotate(3, segmentation={"size": [40, 60], "counts": masks.string_from_counts(counts)}),
        annotate(4, segmentation=[]),
        annotate(5),
    ]
    data = coco.read(*write_split(rows))
    assert np.diff(data.first_ring).tolist() == [2, 2, 2, 1, 1]
    assert [outline_area(data, row) for row in range(5)] == [12 + 5, 350, 350, 400, 400]
    assert data.outline(1).points.tolist() == data.outline(2).points.tolist()
    assert data.flags.tolist() == [0, Flag.RUN_LENGTHS, Flag.RUN_LENGTHS, Flag.NO_OUTLINE, 0]
    assert data.notes == ("1 object has a box and no outline; its box stands in for it, first annotation 4",)


def test_outlines_follow_their_objects_when_the_file_is_not_sorted_by_image(write_split, annotate):
    def tall(height):
        return [[1.0, 1.0, 3.0, 1.0, 3.0, 1.0 + height, 1.0, 1.0 + height]]

    rows = [annotate(id, 1 + id % 3, segmentation=tall(id)) for id in range(1, 12)]
    data = coco.read(*write_split(rows, sizes=[(40, 60)] * 3))
    assert [outline_area(data, row) for row in range(11)] == (2 * data.annotation_ids).tolist()


def test_missing_and_degenerate_outlines_are_replaced_by_the_box_and_counted(write_split, annotate):
    without = annotate(1)
    del without["segmentation"]
    rows = [without, annotate(2, segmentation=None), annotate(3, segmentation=[[1, 2, 3, 4]])]
    data = coco.read(*write_split(rows))
    assert [outline_area(data, row) for row in range(3)] == [400, 400, 400]
    assert data.notes == (
        "1 object has a polygon of fewer than three points, which is left out, first annotation 3",
        "3 objects have a box and no outline; their box stands in for it, first annotation 1",
    )


def test_objects_without_area_in_the_image_are_kept_and_not_learnt(write_split, annotate):
    rows = [
        annotate(1, bbox=[10, 5, 0, 20], segmentation=[]),
        annotate(2, bbox=[60, 5, 9, 9], segmentation=[]),
        annotate(3),
        annotate(4, bbox=[0, 0, -4, 9], segmentation=[]),
    ]
    data = coco.read(*write_split(rows))
    assert data.annotation_ids.tolist() == [1, 2, 3, 4]
    assert data.learnt.tolist() == [False, False, True, False]
    assert "3 objects have no box of positive width" in data.notes[0]
    assert "first annotation 1" in data.notes[0]


def test_any_number_of_objects_is_kept(write_split, annotate):
    data = coco.read(*write_split([annotate(id) for id in range(1, 5001)]))
    assert len(data.labels) == 5000
    assert data.first_ring[-1] == 5000


def test_it_does_not_matter_how_many_annotations_a_thread_takes(write_split, annotate, monkeypatch):
    rows = [
        annotate(id, 1 + id % 3, bbox=[1, 2, id, 4] if id % 4 else ["1", "2", "3", "4"], segmentation=shape)
        for id, shape in enumerate(
            ([[1, 2, 3, 4, 5, 9]], None, RUNS, [[1, 2], [1, 1, 9, 1, 9, 9]], [[1e1, 2, 3, 4, 5, 6]])
        )
    ]
    paths = write_split(rows, sizes=[(40, 60)] * 3)
    met = Faults(), Faults()
    whole = packed.read_content(paths[0].read_bytes(), paths[0], met[0])
    monkeypatch.setattr(packed, "SLICE", 2)
    parts = packed.read_content(paths[0].read_bytes(), paths[0], met[1])
    assert (len(whole.outlines), len(parts.outlines)) == (1, 3)
    for one, other in zip(packed.arrange(whole), packed.arrange(parts), strict=True):
        assert np.array_equal(one, other)
    assert met[0].notes() == met[1].notes() != ()


def test_an_entry_is_counted_in_the_whole_file(write_split, annotate, monkeypatch):
    monkeypatch.setattr(packed, "SLICE", 2)
    file, pictures = write_split([annotate(1), annotate(2), annotate(3), annotate(4, bbox=7)])
    with pytest.raises(ValueError, match=r"annotations entry 3, id 4: .*\$\.annotations\[3\]\.bbox"):
        coco.read(file, pictures)


def test_pictures_may_lie_in_folders_below(write_split):
    names = ["1.png", "a/2.png", "a/b/3.png"]
    images = [{"id": id, "file_name": name, "height": 40, "width": 60} for id, name in enumerate(names, 1)]
    file, pictures = write_split([], images=images)
    for name in names[1:]:
        (pictures / name).parent.mkdir()
        (pictures / name).touch()
    assert list(coco.read(file, pictures).file_names) == names
    (pictures / "a" / "2.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks a/2\.png of image 2 \(1 of 3 images"):
        coco.read(file, pictures)


def test_a_split_without_objects_is_read(write_split):
    data = coco.read(*write_split([]))
    assert data.first_object.tolist() == [0, 0]
    assert data.boxes.shape == (0, 4)


def test_the_summary_counts_everything(write_split, annotate):
    text = summary(coco.read(*write_split([annotate(1), annotate(2, iscrowd=1)], sizes=[(40, 60), (20, 30)])))
    assert "2 images (1 without objects), 2 objects (1 crowd region), 2 categories" in text
    assert "cat (id 3): 0, cup (id 7): 2" in text


def test_the_summary_of_many_categories_is_one_short_line(write_split, annotate):
    categories = [{"id": id, "name": f"class {id}"} for id in range(1, 81)]
    text = summary(coco.read(*write_split([annotate(1)], categories=categories)))
    assert text.splitlines()[1].endswith("class 12 (id 12): 0 and 68 more")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"image_id": 9}, ["annotation 1 of image 9", "does not list", "remove"]),
        ({"category_id": 4}, ["annotation 1 of image 1", "category 4"]),
        ({"segmentation": [[1, 2, float("nan"), 4, 5, 6]]}, ["annotation 1 of image 1", "NaN"]),
        ({"segmentation": [[1, 2, 1e300, 4, 5, 6]]}, ["annotation 1 of image 1", "finite"]),
        ({"segmentation": [[1, 2, 3, 4, 5, 6, 7]]}, ["annotation 1 of image 1", "x1, y1"]),
        ({"segmentation": [[1, 2, 3, 4, "5a", 6]]}, ["annotation 1 of image 1", "neither polygons nor run lengths"]),
        ({"segmentation": [[1, 2, [3], 4, 5, 6]]}, ["annotation 1 of image 1", "neither polygons nor run lengths"]),
        ({"segmentation": [[1, 2, 3e6, 4, 5, 6]]}, ["annotation 1 of image 1", "3000000.0", "outside every image"]),
        ({"bbox": None, "segmentation": []}, ["annotation 1 of image 1", "neither a box nor an outline"]),
        ({"segmentation": {**RUNS, "size": [60, 40]}}, ["annotation 1 of image 1", "(60, 40)", "(40, 60)"]),
        ({"segmentation": {**RUNS, "counts": [2399]}}, ["annotation 1 of image 1", "malformed run lengths"]),
        ({"segmentation": {**RUNS, "counts": [-1, 2401]}}, ["annotation 1 of image 1", "malformed run lengths"]),
        ({"segmentation": {**RUNS, "counts": "\u00e9!"}}, ["annotation 1 of image 1", "malformed run lengths"]),
        ({"bbox": [1, 2, 3]}, ["annotations entry 0, id 1", "length 4"]),
        ({"bbox": [1, 2, 3, None]}, ["annotations entry 0, id 1", "null"]),
        ({"bbox": [1, 2, 1e300, 4]}, ["annotation 1 of image 1", "box"]),
        ({"bbox": [1, 2, float("nan"), 4]}, ["annotation 1 of image 1", "box", "nan"]),
        ({"image_id": "a"}, ["annotation 1 of image a", "names image a", "does not list"]),
        ({"image_id": None}, ["annotations entry 0, id 1", "null"]),
    ],
)
def test_a_malformed_annotation_is_named_in_one_sentence(write_split, annotate, fields, words):
    paths = write_split([annotate(1, **fields)])
    with pytest.raises(ValueError, match=re.escape(str(paths[0]))) as caught:
        coco.read(*paths)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"images": []}, ["`images` is empty"]),
        ({"categories": []}, ["`categories` is empty"]),
        (
            {"categories": [{"id": 7, "name": "cup"}, {"id": "7", "name": "cat"}]},
            ["category id 7 occurs more than once", "'cup'", "'cat'"],
        ),
        (
            {"images": [{"id": (1, "1")[k], "file_name": f"{k}.png", "height": 40, "width": 60} for k in (0, 1)]},
            ["image id 1 occurs more than once", "0.png", "1.png"],
        ),
        ({"images": [{"id": 1, "file_name": "1.png", "height": "4x", "width": 60}]}, ["images entry 0, id 1", "str"]),
        ({"images": [{"id": 1, "file_name": "no.png", "width": 60}]}, ["image 1", "height 0", "does not exist"]),
        ({"annotations": None}, ["expected a COCO instances file"]),
    ],
)
def test_a_malformed_file_is_named_in_one_sentence(write_split, annotate, content, words):
    paths = write_split(**{"annotations": [], **content})
    with pytest.raises(ValueError, match=re.escape(str(paths[0]))) as caught:
        coco.read(*paths)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_truncated_file_is_named(write_split, annotate):
    file, pictures = write_split([annotate(1)])
    file.write_text(file.read_text()[:-20])
    with pytest.raises(ValueError, match=r"instances\.json: is not complete JSON .* export it again"):
        coco.read(file, pictures)


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_a_list_that_stands_twice_is_refused(write_split, annotate, key):
    file, pictures = write_split([annotate(1)])
    file.write_text(file.read_text().rstrip()[:-1] + f', "{key}": []}}')
    with pytest.raises(ValueError, match=rf"instances\.json: has `{key}` more than once"):
        coco.read(file, pictures)


def test_missing_files_are_named(write_split, annotate, tmp_path):
    file, pictures = write_split([annotate(1)])
    with pytest.raises(FileNotFoundError, match=r"nothing\.json does not exist; .* holds instances\.json, pictures/"):
        coco.read(tmp_path / "nothing.json", pictures)
    with pytest.raises(FileNotFoundError, match=r"image folder .*elsewhere"):
        coco.read(file, tmp_path / "elsewhere")
    (pictures / "1.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks 1\.png of image 1 \(1 of 1 images missing\)"):
        coco.read(file, pictures)


@pytest.mark.parametrize(("wanted", "present"), [("annotations", "annotation"), ("annotation", "annotations")])
def test_both_names_of_the_annotation_folder_are_found(tmp_path, wanted, present):
    (tmp_path / "train2017").mkdir()
    (tmp_path / present).mkdir()
    (tmp_path / present / "a.json").touch()
    found = coco.find_split(tmp_path, "train2017", f"{wanted}/a.json")
    assert found == (tmp_path / present / "a.json", tmp_path / "train2017")


def test_a_missing_split_says_what_is_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"set data\.dataset_dir"):
        coco.find_split(tmp_path / "no", "train", "annotations/a.json")
    with pytest.raises(FileNotFoundError, match=r"train2017 does not exist; .* holds nothing"):
        coco.find_split(tmp_path, "train2017", "annotations/a.json")
    (tmp_path / "train2017").mkdir()
    (tmp_path / "annotation").mkdir()
    (tmp_path / "annotation" / "b.json").touch()
    with pytest.raises(FileNotFoundError, match=r"a\.json does not exist; .*annotation holds b\.json"):
        coco.find_split(tmp_path, "train2017", "annotations/a.json")


@pytest.mark.parametrize(
    ("folder", "split", "anno", "counts"),
    [
        ("coco_mini", "train2017", "instances_train2017.json", (160, 1444, 14, 80)),
        ("coco_mini", "val2017", "instances_val2017.json", (79, 624, 5, 80)),
        ("nuclei", "train", "instances_train.json", (234, 6730, 0, 1)),
        ("nuclei", "val", "instances_val.json", (50, 1542, 0, 1)),
    ],
)
def test_real_data_are_read_whole_and_outlines_fill_the_stated_area(shared_data, folder, split, anno, counts):
    data = coco.read(*coco.find_split(shared_data / folder, split, f"annotation/{anno}"))
    assert (len(data.image_ids), len(data.labels), data.crowd.sum(), len(data.category_ids)) == counts
    assert (np.diff(data.first_ring) > 0).all()
    ids = {row["id"]: row for row in json.loads(data.annotations.read_text())["annotations"]}
    area = np.array([outline_area(data, row) for row in range(len(data.labels))])
    single = (np.diff(data.first_ring) == 1) & ~data.crowd
    stated = np.array([ids[id]["area"] for id in data.annotation_ids.tolist()])
    agree = np.abs(area - stated)[single] <= 0.01 * stated[single] + 1
    assert agree.mean() > 0.99, "parts may overlap, so objects of one ring are compared"


def test_annotation_files_are_read_without_torch():
    """Whose libraries take two seconds and hundreds of megabytes."""
    code = "import sys, maskrcnn.data.formats.coco; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def columns_of(data):
    """Everything but where the data lie, as lists."""
    skipped = {"annotations", "images", "rings"}
    values = {one.name: getattr(data, one.name) for one in fields(data) if one.name not in skipped}
    values |= {"points": data.rings.points, "first_point": data.rings.first, "file_names": list(data.file_names)}
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values.items()}


def test_what_is_written_is_read_as_the_same_columns(write_split, annotate, tmp_path):
    holed = np.zeros((40, 60), bool)
    holed[5:25, 10:30] = True
    holed[10:20, 15:20] = False
    counts = masks.counts_from_bitmap(holed)
    pose = [3.5, 4, 2, 0, 0, 0]
    rows = [
        annotate(5, 2, iscrowd=1, segmentation={"size": [50, 45], "counts": [7, 30, 20, 9, 2184]}),
        annotate(6, segmentation={"size": [40, 60], "counts": masks.string_from_counts(counts)}, area=349.5),
        annotate(9, segmentation=[[0.7, 2.33, 9.1, 2, 9, 30.07], [1, 1, 2, 1, 2, 3]], bbox=[0.1, 0.2, 0.3, 38.65]),
        annotate(2, segmentation=[], keypoints=pose, num_keypoints=1, attributes={"occluded": True}),
        annotate(7, bbox=[99, 1, 2, 3], area=None),
    ]
    categories = [{"id": 7, "name": "cup", "keypoints": ["rim", "foot"]}, {"id": 3, "name": "cat"}]
    data = coco.read(*write_split(rows, sizes=[(40, 60), (50, 45)], categories=categories))
    assert data.keypoints[2].tolist() == [[3.5, 4, 2], [0, 0, 0]]
    again_file = tmp_path / "again.json"
    coco.write(data, again_file)
    again = coco.read(again_file, data.images)
    ours, theirs = columns_of(data), columns_of(again)
    assert np.isnan(ours["areas"].pop(3))
    assert np.isnan(theirs["areas"].pop(3))
    for texts in (ours.pop("attributes"), theirs.pop("attributes")):
        assert [text and json.loads(text) for text in texts] == ["", "", {"attributes": {"occluded": True}}, "", ""]
    assert ours == theirs


def test_a_file_of_real_photos_is_written_to_the_last_digit(shared_data, tmp_path):
    file = shared_data / "coco_mini" / "annotations" / "person_keypoints_val2017.json"
    coco.write(coco.read(file), tmp_path / "again.json")
    before, after = (
        {row["id"]: row for row in json.loads(path.read_text())["annotations"]}
        for path in (file, tmp_path / "again.json")
    )
    for id, row in before.items():
        again = after.pop(id)
        if isinstance(row["segmentation"], list):  # whose polygons may turn the other way
            row["segmentation"], again["segmentation"] = (
                [sorted(polygon) for polygon in one["segmentation"]] for one in (row, again)
            )
        else:
            runs = masks.counts_from_string(again.pop("segmentation")["counts"])
            assert runs.tolist() == row.pop("segmentation")["counts"]
        assert again == row
    assert after == {}


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ([1, 2, 2], "annotation 4 of image 1 has 3 numbers of keypoints, expected x, y and visibility of 2"),
        (["a"], r"annotation 4 of image 1 has keypoints that cannot be read \(Expected `float`, got `str`"),
    ],
)
def test_malformed_keypoints_are_named(write_split, annotate, points, words):
    categories = [{"id": 7, "name": "cup", "keypoints": ["rim", "foot"]}]
    with pytest.raises(ValueError, match=words):
        coco.read(*write_split([annotate(4, keypoints=points), annotate(5)], categories=categories))


def test_keypoints_of_two_kinds_are_not_read(write_split, annotate):
    categories = [{"id": 7, "name": "cup", "keypoints": ["rim"]}, {"id": 3, "name": "cat", "keypoints": ["tail"]}]
    assert coco.read(*write_split([annotate(1, keypoints=[1, 2, 2])], categories=categories)).keypoints is None


def test_pictures_need_names_and_scores_do_not(write_split):
    file, pictures = write_split([], images=[{"id": 1, "height": 40, "width": 60}])
    assert coco.read(file).sizes.tolist() == [[40, 60]]
    with pytest.raises(ValueError, match=r"instances\.json: image 1 has no `file_name`"):
        coco.read(file, pictures)


def test_where_nothing_can_be_learnt_a_note_says_so(write_split, annotate):
    data = coco.read(*write_split([annotate(1, iscrowd=1), annotate(2, bbox=[0, 0, 0, 0], segmentation=[])]))
    assert data.notes[-1] == "there is nothing to learn: 2 objects: 1 crowd region and 1 without area in the image"


def test_images_that_are_chosen_bring_their_objects_and_outlines(write_split, annotate):
    rows = [annotate(id, 1 + id % 3, segmentation=[[1, 1, 3, 1, 3, 1 + id]] * (1 + id % 2)) for id in range(1, 12)]
    data = coco.read(*write_split(rows, sizes=[(40, 60)] * 3))
    some = select(data, np.array([2, 0, 2]))
    assert some.image_ids.tolist() == [3, 1, 3]
    assert list(some.file_names) == ["3.png", "1.png", "3.png"]
    assert some.annotation_ids.tolist() == [2, 5, 8, 11, 3, 6, 9, 2, 5, 8, 11]
    for place, id in enumerate(some.annotation_ids.tolist()):
        whole = data.outline(data.annotation_ids.tolist().index(id))
        assert some.outline(place).points.tolist() == whole.points.tolist()
        assert some.outline(place).first.tolist() == whole.first.tolist()


def test_a_file_that_ends_in_zeros_is_refused_unread(write_split, annotate):
    paths = write_split([annotate()])
    with paths[0].open("r+b") as file:
        file.truncate(1 << 33)
    with pytest.raises(ValueError, match=r"instances\.json ends in zeros, as an interrupted copy does"):
        coco.read(*paths)


def test_keypoints_are_written_where_the_source_has_them(write_split, annotate, tmp_path):
    pose = [3.5, 4.0, 2, 0, 0, 0]
    rows = [annotate(1, keypoints=pose, num_keypoints=1), annotate(2), annotate(3, category_id=3)]
    categories = [{"id": 7, "name": "cup", "keypoints": ["rim", "foot"]}, {"id": 3, "name": "cat"}]
    data = coco.read(*write_split(rows, categories=categories))
    coco.write(data, tmp_path / "copy.json", extras_of(data))
    copy = json.loads((tmp_path / "copy.json").read_text())
    assert ["keypoints" in row for row in copy["annotations"]] == [True, True, False]
    assert {row["name"]: row.get("keypoints") for row in copy["categories"]} == {"cup": ["rim", "foot"], "cat": None}
