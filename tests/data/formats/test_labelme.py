import base64
import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskrcnn.data.dataset import Flag
from maskrcnn.data.faults import Faults, Severity
from maskrcnn.data.formats import labelme
from maskrcnn.data.formats.source import Folder
from maskrcnn.masks import bitmap_from_rings

TRIANGLE = [[2.5, 1.0], [10.0, 1.0], [10.0, 4.0]]


def shape(points=TRIANGLE, label="cat", shape_type="polygon", **fields):
    """A shape as Labelme 5 writes it."""
    whole = {
        "label": label,
        "points": points,
        "group_id": None,
        "description": "",
        "shape_type": shape_type,
        "flags": {},
    }
    return {**whole, "mask": None, **fields}


def content(*shapes, **fields):
    """A file as Labelme 5 writes it, of an image of 20 x 10 pixels."""
    whole = {"version": "5.5.0", "flags": {}, "shapes": list(shapes), "imagePath": "a.png", "imageData": None}
    return {**whole, "imageHeight": 10, "imageWidth": 20, **fields}


def put(root: Path, files: dict, *images: str) -> Folder:
    for name, value in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(value if isinstance(value, bytes) else json.dumps(value, indent=2).encode())
    for name in images:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 10)).save(root / name)
    return Folder(root)


def read_one(folder: Folder):
    """The one split in a folder, and what was met."""
    [source] = labelme.find(folder)
    faults = Faults()
    return labelme.read(source, faults), {fault.kind.name: fault for fault in faults}


def png(mask) -> str:
    file = BytesIO()
    Image.fromarray(np.array(mask, bool)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_a_file_of_labelme_is_read(tmp_path):
    data, met = read_one(put(tmp_path, {"a.json": content(shape(), shape(label=7))}, "a.png"))
    assert (data.images, list(data.file_names), data.sizes.tolist()) == (tmp_path, ["a.png"], [[10, 20]])
    assert data.category_names == ("7", "cat")
    assert data.labels.tolist() == [2, 1]
    assert data.outline(0).points.tolist() == TRIANGLE
    assert data.boxes[0].tolist() == [2.5, 1, 10, 4]
    assert met == {}


def test_a_list_of_labels_gives_the_order_of_classes(tmp_path):
    files = {"a.json": content(shape()), "labels.txt": b"__ignore__\n_background_\ndog\ncat\n"}
    data, _ = read_one(put(tmp_path, files, "a.png"))
    assert data.category_names == ("dog", "cat")


@pytest.mark.parametrize(
    ("points", "shape_type", "box", "flag"),
    [
        ([[10, 4], [2, 1]], "rectangle", [2, 1, 8, 3], Flag.NO_OUTLINE),
        ([[2, 4], [10, 4], [10, 1], [2, 1]], "rectangle", [2, 1, 8, 3], Flag.NO_OUTLINE),
        ([[6, 5], [9, 5]], "circle", [3, 2, 6, 6], Flag(0)),
        ([[6, 1], [10, 5], [6, 9], [2, 5]], "oriented_rectangle", [2, 1, 8, 8], Flag(0)),
        ([[6, 1], [10, 5], [6, 9], [2, 5]], "rotation", [2, 1, 8, 8], Flag(0)),
        ([[6, 1], [10, 5], [6, 9]], None, [6, 1, 4, 8], Flag(0)),
    ],
)
def test_every_shape_that_covers_something_is_read(tmp_path, points, shape_type, box, flag):
    data, met = read_one(put(tmp_path, {"a.json": content(shape(points, shape_type=shape_type))}, "a.png"))
    np.testing.assert_allclose(data.stated_boxes[0], box, rtol=0, atol=0.02)
    assert data.flags.tolist() == [flag]
    assert met == {}


@pytest.mark.parametrize("shape_type", ["line", "point", "linestrip", "points"])
def test_shapes_that_cover_nothing_are_left_out_with_a_note(tmp_path, shape_type):
    data, met = read_one(
        put(tmp_path, {"a.json": content(shape(), shape([[1, 1], [5, 5]], shape_type=shape_type))}, "a.png")
    )
    assert len(data.labels) == 1
    assert met["labelme-no-area"].kind.severity is Severity.NOTE


def test_a_mask_lies_in_its_box_with_both_ends(tmp_path):
    mask = [[1, 1, 1], [1, 0, 1]]
    files = {"a.json": content(shape([[4, 2], [6, 3]], shape_type="mask", mask=png(mask)))}
    data, _ = read_one(put(tmp_path, files, "a.png"))
    whole = bitmap_from_rings(data.outline(0), (0, 0, 10, 20))
    assert np.argwhere(whole).tolist() == [[2, 4], [2, 5], [2, 6], [3, 4], [3, 6]]
    assert data.flags.tolist() == [Flag.RUN_LENGTHS]


def test_shapes_of_one_label_and_group_are_one_object(tmp_path):
    shapes = [
        shape(group_id=1),
        shape([[12, 1], [18, 1], [18, 5]], group_id=1),
        shape(group_id=2),
        shape(label="dog", group_id=1),
        shape(group_id=None),
    ]
    data, met = read_one(put(tmp_path, {"a.json": content(*shapes)}, "a.png"))
    assert np.diff(data.first_ring).tolist() == [2, 1, 1, 1]
    assert data.boxes[0].tolist() == [2.5, 1, 18, 5]
    assert met["labelme-group"].count == 1


def test_masks_and_polygons_of_one_group_unite(tmp_path):
    frame = shape(
        [[1, 1], [5, 5]], shape_type="mask", mask=png(np.pad(np.zeros((3, 3)), 1, constant_values=1)), group_id=1
    )
    files = {"a.json": content(frame, shape([[4, 4], [9, 4], [9, 9], [4, 9]], group_id=1))}
    data, _ = read_one(put(tmp_path, files, "a.png"))
    whole = bitmap_from_rings(data.outline(0), (0, 0, 10, 20))
    assert whole.sum() == 16 + 25 - 3
    assert not whole[3, 3]


@pytest.mark.parametrize(
    ("image_path", "image", "noted"),
    [
        ("a.png", "a.png", ""),
        ("..\\images\\a.png", "images/a.png", "name-with-backslashes"),
        ("../images/a.png", "images/a.png", ""),
        ("C:\\Users\\me\\a.png", "labels/a.png", "name-with-other-folders"),
        ("a%20b.png", "labels/a b.png", "name-with-percent-signs"),
        ("a.PNG", "labels/a.png", "name-in-other-letters"),
        ("other.png", "labels/x.png", ""),
        (None, "labels/x.png", ""),
    ],
)
def test_the_image_is_found_by_whatever_the_file_calls_it(tmp_path, image_path, image, noted):
    where = "x.json" if image == "a.png" else "labels/x.json"
    data, met = read_one(put(tmp_path, {where: content(shape(), imagePath=image_path)}, image))
    assert (data.images / data.file_names[0]).resolve() == tmp_path / image
    assert set(met) == ({noted} if noted else set())


def test_a_picture_that_is_only_embedded_is_written_to_the_cache(tmp_path, new_cache):
    file = BytesIO()
    Image.new("RGB", (20, 10)).save(file, "PNG")
    files = {"a.json": content(shape(), imageData=base64.b64encode(file.getvalue()).decode())}
    data, met = read_one(put(tmp_path / "set", files))
    assert Image.open(data.images / data.file_names[0]).size == (20, 10)
    assert met["labelme-embedded"].count == 1
    assert (data.images / data.file_names[0]).is_relative_to(new_cache)


def test_a_missing_image_is_left_out_and_refused(tmp_path):
    files = {"a.json": content(shape()), "b.json": content(shape(), imagePath="b.png")}
    data, met = read_one(put(tmp_path, files, "a.png"))
    assert list(data.file_names) == ["a.png"]
    assert "b.json names the image 'b.png'" in met["missing-image"].sentence


def test_sizes_that_are_missing_come_from_the_image(tmp_path):
    files = {
        "a.json": content(shape(), imageHeight=None, imageWidth=None),
        "b.json": content(imagePath="b.png", imageWidth=1e30),
    }
    data, met = read_one(put(tmp_path, files, "a.png", "b.png"))
    assert data.sizes.tolist() == [[10, 20], [10, 20]]
    assert met["size-from-picture"].count == 2


def test_folders_are_splits_by_their_names(tmp_path):
    files = {"train/a.json": content(shape()), "val/b.json": content(shape(), imagePath="b.png")}
    sources = labelme.find(put(tmp_path, files, "train/a.png", "val/b.png"))
    assert {one.part: list(labelme.read(one, Faults()).file_names) for one in sources} == {
        "train": ["a.png"],
        "val": ["b.png"],
    }


def test_several_folders_without_a_split_are_one(tmp_path):
    files = {"x/a.json": content(shape()), "y/b.json": content(shape(), imagePath="b.png")}
    data, _ = read_one(put(tmp_path, files, "x/a.png", "y/b.png"))
    assert list(data.file_names) == ["x/a.png", "y/b.png"]


@pytest.mark.parametrize(
    "value",
    [
        {"images": [], "annotations": [], "categories": []},
        {"shapes": {"a": 1}, "imagePath": 3},
        {"shapes": [[1, 2], [3, 4]]},
        {"a.png1": {"filename": "a.png", "size": 1, "regions": []}},
        [1, 2, 3],
        b"[" * 100_000,
        b'{"shapes": ' + b"[" * 100_000,
    ],
)
def test_json_of_something_else_is_not_taken_for_labelme(tmp_path, value):
    assert labelme.find(put(tmp_path, {"a.json": value}, "a.png")) == []


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (shape([[1, 1], [5, 5]]), "labelme-shape"),
        (shape([[1, 1], [5, 5], [1]]), "labelme-shape"),
        (shape([[1, 1], [5, 5], [1, 1]]), "labelme-shape"),
        (shape([[1, 1], [5, 5], ["x", 1]]), "labelme-shape"),
        (shape([[1, 1], [5, 5], [1e400, 1]]), "labelme-shape"),
        (shape([[1, 1], [5, 5], [float("nan"), 1]]), "labelme-shape"),
        (shape([[1, 1], [5, 5], [1, float("-inf")]]), "labelme-shape"),
        (shape([[1, 1], [5, 5], [10**400, 1]]), "labelme-shape"),
        (shape(label=None), "labelme-shape"),
        (shape(shape_type="hexagon"), "labelme-shape"),
        (shape([[1, 1]], shape_type="circle"), "labelme-shape"),
        (shape([[1, 1], [3, 3]], shape_type="mask", mask="no PNG"), "labelme-shape"),
        (shape([[1, 1], [3, 3]], shape_type="mask"), "labelme-shape"),
        ("a text", "labelme-shape"),
    ],
)
def test_a_shape_that_cannot_be_read_is_refused_and_the_others_are_read(tmp_path, value, kind):
    files = {"a.json": content(shape()), "b.json": content(shape(), value, imagePath="b.png")}
    data, met = read_one(put(tmp_path, files, "a.png", "b.png"))
    assert len(data.labels) == 2
    assert met[kind].kind.severity is Severity.REFUSED
    assert "b.json" in met[kind].sentence


@pytest.mark.parametrize("fields", [{"imageHeight": float("nan")}, {"imagePath": 7}])
def test_a_size_or_name_that_is_none_is_that_of_the_image_of_its_stem(tmp_path, fields):
    data, met = read_one(put(tmp_path, {"a.json": content(shape(), **fields)}, "a.png"))
    assert (list(data.file_names), data.sizes.tolist(), len(data.labels)) == (["a.png"], [[10, 20]], 1)
    assert not [fault for fault in met.values() if fault.kind.severity is Severity.REFUSED]


def test_a_file_with_two_lists_of_shapes_is_refused_and_the_others_are_read(tmp_path):
    twice = json.dumps(content(shape(), shape()))[:-1] + ', "shapes": []}'
    files = {"a.json": content(shape()), "b.json": twice.encode()}
    data, met = read_one(put(tmp_path, files, "a.png", "b.png"))
    assert len(data.labels) == 1
    assert "b.json cannot be read (has `shapes` more than once" in met["labelme-file"].sentence


def test_numbers_as_text_are_read(tmp_path):
    data, met = read_one(put(tmp_path, {"a.json": content(shape([["2.5", "1"], [10, 1], [10, 4]]))}, "a.png"))
    assert data.outline(0).points.tolist() == TRIANGLE
    assert met == {}


def test_files_of_other_code_pages_are_read(tmp_path):
    text = json.dumps(content(shape(label="K\u00e4fer")), ensure_ascii=False)
    for encoding, kind in (("utf-8-sig", "byte-order-mark"), ("utf-16", "not-utf-8"), ("cp1252", "code-page")):
        folder = put(tmp_path / encoding, {"a.json": text.encode(encoding)}, "a.png")
        data, met = read_one(folder)
        assert data.category_names == ("K\u00e4fer",)
        assert set(met) == {kind}


def test_what_a_shape_says_besides_comes_back(tmp_path):
    more = {
        "group_id": 5,
        "flags": {"occluded": True},
        "description": "left",
        "difficult": True,
        "attributes": {"age": "3"},
    }
    data, _ = read_one(
        put(tmp_path / "one", {"a.json": content(shape(**more), shape(flags={"iscrowd": True}))}, "a.png")
    )
    assert data.crowd.tolist() == [False, True]
    assert labelme.write({"": data}, tmp_path / "two") == []
    written = json.loads((tmp_path / "two/a.json").read_text())["shapes"][0]
    assert {name: written[name] for name in more} == more
    again, _ = read_one(Folder(tmp_path / "two"))
    assert list(again.attributes) == list(data.attributes)
    assert again.crowd.tolist() == [False, True]


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
    folder = put(tmp_path, {"a.json": content(shape())}, "a.png")
    (tmp_path / "b.json").symlink_to(tmp_path / "nowhere")
    data, met = read_one(folder)
    assert len(data.labels) == 1
    assert met["labelme-file"].sentence.startswith(f"b.json cannot be read (the file {tmp_path / 'b.json'}")


def test_an_embedded_picture_in_other_letters_is_none(tmp_path):
    files = {"a.json": content(shape()), "b.json": content(imagePath="b.png", imageData="\u00e4")}
    _, met = read_one(put(tmp_path, files, "a.png"))
    assert "is not below" in met["missing-image"].sentence


def test_a_class_that_is_listed_twice_is_one(tmp_path):
    files = {"a.json": content(shape(label="dog")), "labels.txt": b"cat\ndog\ncat\n"}
    data, met = read_one(put(tmp_path, files, "a.png"))
    assert (data.category_names, data.labels.tolist()) == (("cat", "dog"), [2])
    assert met["class-listed-twice"].examples == ["cat"]


def test_where_all_images_are_missing_that_is_said(tmp_path):
    [source] = labelme.find(put(tmp_path, {"a.json": content(shape())}))
    with pytest.raises(ValueError, match=r"restore it or remove a\.json"):
        labelme.read(source, Faults())


def test_a_file_that_is_cut_off_is_named(tmp_path):
    whole = json.dumps(content(shape())).encode()
    [source] = labelme.find(put(tmp_path, {"a.json": whole[:-60]}, "a.png"))
    with pytest.raises(ValueError, match=r"a\.json cannot be read"):
        labelme.read(source, Faults())
