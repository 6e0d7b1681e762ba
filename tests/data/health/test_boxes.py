"""Boxes against outlines and images."""

import pytest

from maskrcnn.data.faults import Faults
from maskrcnn.data.formats import coco
from maskrcnn.data.health.boxes import report_boxes

HIGH, WIDE = 40, 60
"""Sides of the image: it is not square."""


def told(write_split, annotate, *rows):
    """What is said of objects with these (box, polygon), without its examples."""
    entries = [
        annotate(id, bbox=box, segmentation=[polygon] if polygon else []) for id, (box, polygon) in enumerate(rows, 1)
    ]
    file, _ = write_split(entries, sizes=[(HIGH, WIDE)])
    return [note.split(":")[0] for note in coco.read(file).remarks]


def around(x1, y1, x2, y2):
    return [x1, y1, x2, y1, x2, y2, x1, y2]


@pytest.mark.parametrize(
    ("box", "polygon", "words"),
    [
        ([10, 5, 20, 20], around(10, 5, 30, 25), None),
        ([8.5, 6, 22, 18], around(10, 5, 30, 25), None),
        ([10, 5, 30, 25], around(10, 5, 30, 25), "has a box that fits when read as corners x1, y1, x2, y2"),
        ([20, 15, 50, 38], None, "has a box that fits when read as corners x1, y1, x2, y2"),
        ([0, 0, 4, 4], around(10, 5, 30, 25), "has a box that does not fit its outline"),
        ([5, 10, 20, 20], around(10, 5, 30, 25), "has a box that does not fit its outline"),
        ([0.25, 0.5, 0.5, 0.25], around(15, 20, 45, 30), "has a box between 0 and 1"),
        ([0.25, 0.5, 0.5, 0.25], around(0.25, 0.5, 0.75, 0.75), "has a box between 0 and 1"),
        ([0.25, 0.5, 0.5, 0.25], None, "has a box between 0 and 1"),
        ([40, 10, 30, 5], None, "has a box that leaves its image"),
        ([-10, 10, 30, 5], None, "has a box that leaves its image"),
        ([-1, 10, 62, 5], None, None),
        ([40, 5, 20, 20], around(40, 5, 100, 25), None),
        ([40, 5, 20, 7], [40, 5, 100, 5, 40, 25], "has a box that does not fit its outline"),
        ([40, 0, 20, 10], [40, 10, 50, -20, 60, 10], None),
        ([43, 0, 13, 10], [43, 0, 50, 10, 57, 0, 50, -90], None),
    ],
)
def test_what_a_box_seems_to_be_is_said(write_split, annotate, box, polygon, words):
    found = told(write_split, annotate, (box, polygon))
    assert [note.partition("; COCO")[0].partition(", as parts")[0] for note in found] == (
        [f"1 object {words}"] if words else []
    )


def test_objects_are_counted_by_what_they_have(write_split, annotate):
    found = told(
        write_split,
        annotate,
        ([10, 5, 20, 20], around(10, 5, 30, 25)),
        ([10, 5, 30, 25], around(10, 5, 30, 25)),
        ([30, 5, 55, 25], around(30, 5, 55, 25)),
        ([0, 0, 4, 4], around(10, 5, 30, 25)),
        ([0.1, 0.1, 0.5, 0.5], None),
    )
    assert [note[:45] for note in found] == [
        "2 objects have a box that fits when read as c",
        "1 object has a box that does not fit its outl",
    ], "one small box among others is an object of less than a pixel"


def test_first_ones_are_named_and_nothing_is_refused(write_split, annotate):
    rows = [annotate(id, 1 + id % 2, bbox=[0, 0, 2, 2]) for id in (4, 5)]
    data = coco.read(*write_split(rows, sizes=[(HIGH, WIDE)] * 2))
    assert data.remarks == (
        "2 objects have a box that does not fit their outline: annotation 4 of image 1, annotation 5 of image 2",
    )


def test_parts_and_holes_count_as_one_outline(write_split, annotate):
    parts = [around(10, 5, 12, 8), around(20, 15, 30, 25)]
    data = coco.read(*write_split([annotate(bbox=[10, 5, 20, 20], segmentation=parts)]))
    assert data.remarks == ()


def test_real_boxes_fit(shared_data):
    for folder, name in (("coco_mini", "train2017"), ("nuclei", "train")):
        data = coco.read(shared_data / folder / "annotations" / f"instances_{name}.json")
        faults = Faults()
        report_boxes(data, faults)
        assert list(faults) == []
