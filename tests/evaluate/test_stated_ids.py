"""Image ids that are text or larger than 64 bits are those of results, too."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from maskrcnn.data.formats.coco import parse
from maskrcnn.data.split import open_split
from maskrcnn.evaluate import coco, run
from maskrcnn.evaluate.hotcoco_engine import Truth
from maskrcnn.evaluate.results import read
from maskrcnn.report.gallery import examples
from maskrcnn.runtime.distributed import World

from .test_run import Oracle

STATED = ["tile-7", str(2**100), "tile-10", "0012", "b"]
"""In the order of the images."""


@pytest.fixture
def dataset(recipe):
    return replace(open_split(recipe.data, "val"), image_ids=np.arange(1, 6), stated_ids=STATED)


def test_results_carry_the_ids_as_their_source_writes_them(recipe, dataset, tmp_path):
    metrics = run.evaluate(Oracle(recipe.data), dataset, recipe, World(torch.device("cpu")), tmp_path)
    assert metrics["bbox"]["AP"] == pytest.approx(1)
    assert [row["id"] for row in metrics["images"]] == ["tile-7", str(2**100), "0012"]
    entries = json.loads((tmp_path / "predictions.json").read_text())
    assert [entry["image_id"] for entry in entries] == ["tile-7", "tile-7", str(2**100), "0012"]
    assert coco.score(dataset, entries)["bbox"] == metrics["bbox"]
    drawn = examples(dataset, tmp_path / "predictions.json", metrics["images"])
    assert {one.file_name for one in drawn} == {"11.png", "12.png", "14.png"}


@pytest.mark.parametrize("id", [2**100, str(2**100)])
def test_large_whole_numbers_are_found_as_numbers_and_as_text(dataset, tmp_path, id):
    path = tmp_path / "results.json"
    path.write_text(json.dumps([{"image_id": id, "category_id": 3, "score": 1, "bbox": [4, 10, 26, 34]}]))
    [entry] = read(path)
    assert (entry.image_id, Truth(dataset).number_of(entry.image_id)) == (id, 1)


def test_a_table_may_have_written_whole_numbers_with_a_decimal_point():
    results = [{"image_id": 7.0, "category_id": 3.0, "score": 1, "bbox": [5, 4, 10, 20]}]
    content = {"images": [{"id": 7, "height": 30, "width": 50}], "categories": [{"id": 3, "name": "cat"}]}
    objects = [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [5, 4, 10, 20], "area": 200}]
    assert coco.score(content | {"annotations": objects}, results, ["bbox"])["bbox"]["AP"] == pytest.approx(1)


@pytest.mark.parametrize("id", ["tile-8", 12, "12", -1, 2**70])
def test_other_ids_are_refused(dataset, id):
    with pytest.raises(ValueError, match=f"image {id}.* not among the 5 annotated ones, whose ids are tile-7, 126765"):
        coco.score(dataset, [{"image_id": id, "category_id": 3, "score": 1, "bbox": [4, 10, 26, 34]}], ["bbox"])


def test_text_means_a_whole_number_where_ids_are_numbers():
    content = {"images": [{"id": 40, "height": 3, "width": 2}], "categories": [{"id": 1, "name": "cat"}]}
    truth = Truth(parse(content | {"annotations": []}))
    assert [truth.number_of(id) for id in (40, "40", "040", 40.0)] == [0, 0, 0, 0]
    assert {
        truth.number_of(id) for id in ("x", 41, "", 40.5, float("nan"), "\N{SUPERSCRIPT TWO}", 2**70, "9" * 5000)
    } == {-1}
