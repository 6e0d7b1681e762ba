"""From COCO to a format of polygons and back: masks, classes, splits."""

import shutil

import numpy as np
import pytest
from pycocotools import mask as referee

from maskrcnn.data.faults import Faults
from maskrcnn.data.formats import coco, cvat, labelme, via, yolo
from maskrcnn.data.formats.source import Folder
from maskrcnn.data.shapes import generate

FORMATS = {"yolo": yolo, "labelme": labelme, "cvat": cvat, "via": via}


def masks(data, image):
    """(class, whether a crowd region, mask as COCO draws it) of each object."""
    height, width = data.sizes[image].tolist()
    found = []
    for index, segmentation in enumerate(coco.segmentations(data, image), data.first_object[image]):
        is_list = isinstance(segmentation, list)
        mask = referee.merge(referee.frPyObjects(segmentation, height, width)) if is_list else segmentation
        found.append((data.category_names[data.labels[index] - 1], bool(data.crowd[index]), mask))
    return found


def worst_overlap(data, again):
    """The smallest IoU of an object with the one that was made of it, and the number of objects without one."""
    worst, alone = 1.0, 0
    places = {name: image for image, name in enumerate(again.file_names)}
    for image, name in enumerate(data.file_names):
        others = masks(again, places[name])
        for label, crowd, mask in masks(data, image):
            same = [other for kind, is_crowd, other in others if (kind, is_crowd) == (label, crowd)]
            overlaps = referee.iou([mask], same, [0] * len(same)) if same else np.zeros(0)
            alone += not same
            worst = min(worst, overlaps.max() if same else 1.0)
    return worst, alone


def there_and_back(name, splits, folder):
    """(what was said while writing, what was read)."""
    said = FORMATS[name].write(splits, folder)
    found = {}
    for source in FORMATS[name].find(Folder(folder)):
        faults = Faults()
        found[source.part] = FORMATS[name].read(source, faults)
        faults.refuse(source.labels)
    return said, found


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """The built-in shapes: crowd regions, holes, islands in them, and parts."""
    root = generate(tmp_path_factory.mktemp("data") / "shapes", num_train=14, num_val=3)
    return {
        part: coco.read(root / f"annotations/instances_{part}2017.json", root / f"{part}2017")
        for part in ("train", "val")
    }


@pytest.mark.parametrize("name", FORMATS)
def test_masks_come_back_pixel_by_pixel(name, shapes, tmp_path):
    said, found = there_and_back(name, shapes, tmp_path)
    assert set(found) == {"train", "val"}
    for part, data in shapes.items():
        again = found[part]
        worst, alone = worst_overlap(data, again)
        assert worst == 1
        assert again.category_names == data.category_names
        assert again.sizes.tolist() == data.sizes.tolist()
        crowds = int(data.crowd.sum()) if name == "yolo" else 0
        assert (alone, len(again.labels)) == (crowds, len(data.labels) - crowds)
        assert [(again.images / one).read_bytes() for one in again.file_names] == [
            (data.images / one).read_bytes() for one in data.file_names
        ]
    assert any("stated area" in one for one in said)


@pytest.mark.parametrize("name", FORMATS)
def test_what_was_read_is_written_again_to_the_letter(name, shapes, tmp_path):
    _, once = there_and_back(name, shapes, tmp_path / "one")
    said, twice = there_and_back(name, once, tmp_path / "two")
    for part, data in once.items():
        assert worst_overlap(data, twice[part]) == (1, 0)
        np.testing.assert_array_equal(np.sort(data.stated_boxes, axis=0), np.sort(twice[part].stated_boxes, axis=0))
    assert not any("lose" in one or "left out" in one for one in said)


@pytest.mark.parametrize("name", FORMATS)
def test_real_photos_come_back(name, shared_data, tmp_path):
    root = shared_data / "coco_mini"
    data = coco.read(root / "annotations/instances_val2017.json", root / "val2017")
    _, found = there_and_back(name, {"val": data}, tmp_path)
    worst, alone = worst_overlap(data, found["val"])
    assert worst == 1
    assert alone == (data.crowd.sum() if name == "yolo" else 0)
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("name", FORMATS)
def test_objects_without_an_outline_come_back_as_boxes(name, write_split, annotate, tmp_path):
    file, images = write_split([annotate(segmentation=[])])
    data = coco.read(file, images)
    _, found = there_and_back(name, {"train": data}, tmp_path / "there")
    assert found["train"].flags.tolist() == data.flags.tolist()
    np.testing.assert_allclose(found["train"].stated_boxes, data.stated_boxes, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", FORMATS)
def test_parts_that_overlap_unite_also_for_readers_that_fill_by_even_odd(name, write_split, annotate, tmp_path):
    squares = [[10, 5, 30, 5, 30, 25, 10, 25], [20, 15, 40, 15, 40, 35, 20, 35]]
    file, images = write_split([annotate(bbox=[10, 5, 30, 30], segmentation=squares)])
    data = coco.read(file, images)
    _, found = there_and_back(name, {"train": data}, tmp_path / "there")
    assert worst_overlap(data, found["train"]) == (1, 0)
    assert max(len(one) for one in coco.segmentations(found["train"], 0)) == (1 if name in ("yolo", "via") else 2)


@pytest.mark.parametrize("name", FORMATS)
def test_attributes_come_back_or_are_counted(name, write_split, annotate, tmp_path):
    file, images = write_split([annotate(score=0.5, note="left"), annotate(id=2)])
    data = coco.read(file, images)
    said, found = there_and_back(name, {"train": data}, tmp_path / "there")
    if name == "yolo":
        assert [one for one in said if "attributes" in one] == [
            "1 object loses its attributes, for which YOLO segmentation has no place"
        ]
    else:
        first, second = found["train"].attributes
        assert "left" in first
        assert "0.5" in first
        assert second == ""
