import json

import numpy as np
import pytest
from PIL import Image

from maskrcnn.data.faults import Faults
from maskrcnn.data.formats import cityscapes, instances, voc
from maskrcnn.data.formats.builder import Builder
from maskrcnn.data.formats.source import Folder
from tests.data.formats.raster_data import add_mask, draw_data, draw_ids, pixels_of, put_image, put_mask, read_all

NAME = "aachen/aachen_000000_000019"
NUMBERS = np.array([7, 26000, 26001, 24000])
"""Road, two cars, a person, for the objects of `draw_ids`."""


def put_labels(root, ids, part="train", name=NAME):
    put_image(root / f"leftImg8bit/{part}/{name}_leftImg8bit.png", ids.shape)
    put_mask(root / f"gtFine/{part}/{name}_gtFine_instanceIds.png", ids, np.uint16)
    put_mask(root / f"gtFine/{part}/{name}_gtFine_labelIds.png", np.where(ids < 1000, ids, ids // 1000))


def put_polygons(root, objects, size=(20, 30), part="train", name=NAME):
    path = root / f"gtFine/{part}/{name}_gtFine_polygons.json"
    put_image(root / f"leftImg8bit/{part}/{name}_leftImg8bit.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    shapes = [{"label": label, "polygon": polygon} for label, polygon in objects]
    path.write_text(json.dumps({"imgHeight": size[0], "imgWidth": size[1], "objects": shapes}))
    return path


FAR = '{"imgHeight": 20, "imgWidth": 30, "objects": [{"label": "car", "polygon": [[1e308, 0], [1, 1], [0, 2]]}]}'


def square(left, top, right, bottom):
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def only(root):
    (source,) = cityscapes.find(Folder(root))
    faults = Faults()
    return cityscapes.read(source, faults), faults


def named(data):
    return [data.category_names[label - 1] for label in data.labels]


def test_numbers_of_thousands_are_objects_of_a_class(tmp_path):
    for part, name in (("train", NAME), ("val", "ulm/ulm_000000_000019")):
        put_labels(tmp_path, NUMBERS[draw_ids()], part, name)
    data = read_all(cityscapes, tmp_path)
    assert list(data) == ["train", "val"]
    assert data["train"].category_names == ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
    expected = [(name, (draw_ids() == id).tobytes()) for id, name in ((1, "car"), (2, "car"), (3, "person"))]
    assert pixels_of(data["train"]) == {f"{NAME}_leftImg8bit.png": sorted(expected)}


def test_groups_are_crowd_regions_and_other_classes_are_left_out(tmp_path):
    put_labels(tmp_path, np.array([7, 26, 26001, 30001])[draw_ids()])
    data, faults = only(tmp_path)
    assert (named(data), data.crowd.tolist()) == (["car", "car"], [True, False])
    assert [(fault.kind.name, fault.count) for fault in faults] == [("cityscapes-region", 1)]


def test_polygons_are_drawn_over_one_another(tmp_path):
    objects = [
        ("road", square(0, 0, 30, 20)),
        ("car", square(2, 2, 12, 12)),
        ("pole", square(4, 0, 5, 20)),
        ("persongroup", square(20, 5, 25, 9)),
        ("car", square(10, 2, 14, 12)),
        ("rider", [[1, 1], [2, 2]]),
    ]
    put_polygons(tmp_path, objects)
    data, faults = only(tmp_path)
    assert (named(data), data.crowd.tolist(), list(faults)) == (["person", "car", "car"], [True, False, False], [])
    first = np.zeros((20, 30), bool)
    first[2:12, 2:10] = True
    first[:, 4] = False
    last = np.zeros((20, 30), bool)
    last[2:12, 10:14] = True
    assert list(pixels_of(data).values()) == [sorted([("car", first.tobytes()), ("car", last.tobytes())])]


def test_numbers_go_before_polygons(tmp_path):
    put_labels(tmp_path, NUMBERS[draw_ids()])
    put_polygons(tmp_path, [("car", square(0, 0, 3, 3))])
    assert len(only(tmp_path)[0].labels) == 3


@pytest.mark.parametrize(
    "text", ["", FAR, "{", '{"imgHeight": 20}', "[" * 100_000, '{"objects": [{"label": 1}]}', "null"]
)
def test_polygons_that_are_none_are_named(text, tmp_path):
    put_polygons(tmp_path, []).write_text(text)
    put_labels(tmp_path, NUMBERS[draw_ids()], name="aachen/b")
    data, faults = only(tmp_path)
    assert data.file_names == ["aachen/b_leftImg8bit.png"]
    assert [fault.kind.name for fault in faults] == ["mask-unreadable"]


def test_other_sizes_and_labels_without_an_image_are_named(tmp_path):
    put_labels(tmp_path, NUMBERS[draw_ids()], name="aachen/b")
    put_labels(tmp_path, NUMBERS[draw_ids()], name="aachen/c")
    put_polygons(tmp_path, [], size=(10**9, 10**9))
    (tmp_path / "leftImg8bit/train/aachen/c_leftImg8bit.png").unlink()
    data, faults = only(tmp_path)
    assert data.file_names == ["aachen/b_leftImg8bit.png"]
    assert [fault.kind.name for fault in faults] == ["mask-size", "mask-without-image"]


def test_no_other_format_takes_it_for_its_own(tmp_path):
    put_labels(tmp_path, NUMBERS[draw_ids()])
    assert [module.find(Folder(tmp_path)) for module in (instances, voc)] == [[], []]


@pytest.mark.parametrize("classes", [("car",), ("Person", "train")])
def test_what_is_written_is_read_again(classes, tmp_path):
    data = draw_data(tmp_path / "from", classes)
    (told,) = cityscapes.write({"train": data, "val": data}, tmp_path / "to")
    assert "another name" in told
    back = read_all(cityscapes, tmp_path / "to")
    assert list(back) == ["train", "val"]
    names = {"a.png": "city/a_leftImg8bit.png", "b/c.jpg": "b/c_leftImg8bit.jpg", "d.png": "city/d_leftImg8bit.png"}
    expected = {
        names[name]: sorted((kind.lower(), mask) for kind, mask in masks) for name, masks in pixels_of(data).items()
    }
    assert pixels_of(back["val"]) == expected


def test_what_cannot_be_kept_is_told(tmp_path):
    put_image(tmp_path / "images/a.png", (40, 60))
    builder = Builder(tmp_path / "x", tmp_path / "images", Faults(), ["car", "cat"])
    builder.add_image("a.png", (40, 60))
    ids = np.arange(2400).reshape(40, 60)
    for id in range(1001):
        add_mask(builder, 0, "car", ids == id)
    add_mask(builder, 0, "cat", ids == 2000)
    for id in (2002, 2005):
        add_mask(builder, 0, "car", ids == id, crowd=True)
    assert cityscapes.write({"": builder.dataset()}, tmp_path / "to") == [
        "1 object beyond 1000 of a class in one image is left out",
        "1 crowd region is joined to one of its class and image",
        "1 object is of a class that Cityscapes lacks and is left out",
        "1 image gets another name: a.png becomes city/a_leftImg8bit.png",
    ]
    path = tmp_path / "to/gtFine/train/city/a_gtFine_instanceIds.png"
    with Image.open(path) as image:
        assert np.unique(np.asarray(image))[[0, 1, 2, -1]].tolist() == [0, 26, 26000, 26999]
