"""hotcoco stays behind one file, and annotations come out as they went in."""

import ast
from pathlib import Path

import pytest

from maskrcnn.data.formats.coco import parse
from maskrcnn.evaluate.hotcoco_engine import Truth

SOURCE = Path(__file__).parents[2] / "src" / "maskrcnn"


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def test_one_file_knows_hotcoco():
    users = [path for path in SOURCE.rglob("*.py") if "hotcoco" in imported(path)]
    assert users == [SOURCE / "evaluate" / "hotcoco_engine.py"]


@pytest.fixture
def truth():
    annotations = [
        {"id": 5, "image_id": 40, "category_id": 9, "bbox": [1, 0, 2, 2], "area": 7.5, "iscrowd": 0}
        | {"segmentation": [[1, 0, 3, 0, 3, 2, 1, 2]]},
        {"id": 3, "image_id": 40, "category_id": 2, "bbox": [0, 0, 1, 1], "iscrowd": 1}
        | {"segmentation": {"size": [2, 4], "counts": [0, 3, 5]}},
        {"id": 8, "image_id": 40, "category_id": 2, "bbox": [2, 0, 1, 2], "area": 2.0, "iscrowd": 0},
        {"id": 9, "image_id": 40, "category_id": 2, "bbox": [0, 0, 1.5, 1], "iscrowd": 0, "segmentation": []},
    ]
    return Truth(
        parse(
            {
                "images": [{"id": 90, "height": 3, "width": 2}, {"id": 40, "height": 2, "width": 4}],
                "categories": [{"id": 9, "name": "dog"}, {"id": 2, "name": "cat"}],
                "annotations": annotations,
            }
        )
    )


def test_images_and_categories_are_counted_in_order_of_their_ids(truth):
    assert (truth.image_ids, truth.sizes) == ([40, 90], [(2, 4), (3, 2)])
    assert (truth.category_ids, truth.names, truth.num_objects()) == ([2, 9], ["cat", "dog"], [2, 1])
    assert [(one["id"], one["image_id"], one["category_id"]) for one in truth.annotations(0, True)] == [
        (5, 0, 1),
        (3, 0, 0),
        (8, 0, 0),
        (9, 0, 0),
    ]
    assert truth.annotations(1, True) == []


def test_every_mask_becomes_run_lengths_and_the_box_stands_in_for_one_that_is_missing(truth):
    masks = [one["segmentation"] for one in truth.annotations(0, True)]
    assert [mask["size"] for mask in masks] == [[2, 4]] * 4
    assert [mask["counts"] for mask in masks] == ["242", "035", "422", "01104"]


def test_an_area_that_is_not_stated_is_that_of_the_mask_or_of_the_box_that_stands_in_for_it(truth):
    for with_masks in (True, False):
        assert [one["area"] for one in truth.annotations(0, with_masks)] == [7.5, 3, 2.0, 1.5]
