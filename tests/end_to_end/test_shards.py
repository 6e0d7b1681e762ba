"""Training on tar shards is training on the folder: the same losses to the last bit, here and from a store."""

import json

import pytest
from msgspec import structs

from maskrcnn.config import Data, Evaluate, Optimizer, Recipe, Train
from maskrcnn.data.convert import convert_data
from maskrcnn.data.shapes import generate
from maskrcnn.data.split import find_parts, open_split
from maskrcnn.run_folder import HISTORY
from maskrcnn.train import loop
from tests.end_to_end.test_formats import MODEL
from tests.storage.conftest import cache, clean, store  # noqa: F401

SMALL = {"short_sides": (48,), "max_side": 64, "num_buckets": 1, "num_workers": 1}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """A folder in the COCO layout and its shards."""
    place = tmp_path_factory.mktemp("data")
    folder = generate(place / "coco", num_train=7, num_val=2, seed=5, side=64)
    assert list(convert_data(Data(dataset_dir=str(folder)), "shards", place / "tars", 3))
    return folder, place / "tars"


def losses(folder, out):
    recipe = Recipe(
        name="shards",
        device="cpu",
        data=Data(dataset_dir=str(folder), **SMALL),
        model=MODEL,
        train=Train(batch=2, max_steps=3, log_every=1, optimizer=Optimizer(kind="adamw", lr=1e-3, lr_batch=2)),
        evaluate=Evaluate(batch=2),
    )
    loop.run(recipe, out)
    rows = [json.loads(line) for line in (out / HISTORY).read_text().splitlines()]
    return [{key: value for key, value in row.items() if "loss" in key or "/" in key} for row in rows]


def test_three_steps_have_the_losses_of_the_unpacked_folder(shapes, tmp_path):
    coco, tars = (losses(folder, tmp_path / folder.name) for folder in shapes)
    assert len(coco) >= 3
    assert tars == coco


@pytest.mark.parametrize("address", ["", "/train-{0000..0002}.tar", "/train-*.tar", "/train-0001.tar"])
def test_shards_of_a_store_are_copied_and_are_those_of_the_folder(shapes, store, address):  # noqa: F811
    for path in shapes[1].iterdir():
        store.put(f"sets/{path.name}", path.read_bytes())
    there = Data(dataset_dir=f"obs://bucket/sets{address}", **SMALL)
    here = structs.replace(there, dataset_dir=f"{shapes[1]}{address}")
    one, other = (open_split(settings, "all") for settings in (there, here))
    assert list(one.file_names) == list(other.file_names)
    assert one.rings.points.tobytes() == other.rings.points.tobytes()
    assert one.category_names == other.category_names


def test_shards_that_were_copied_are_read_without_the_store(shapes, store, monkeypatch):  # noqa: F811
    for path in shapes[1].iterdir():
        store.put(f"sets/{path.name}", path.read_bytes())
    settings = Data(dataset_dir="obs://bucket/sets", **SMALL)
    assert len(open_split(settings, "train").image_ids) == 7
    store.kill()
    monkeypatch.setenv("MASKRCNN_STORAGE_PATIENCE", "0")
    assert len(open_split(settings, "train").image_ids) == 7


def test_shards_are_not_streamed(store, shapes):  # noqa: F811
    store.put("sets/a.tar", (shapes[1] / "val-0000.tar").read_bytes())
    with pytest.raises(ValueError, match=r"tar shards are copied before they are read; leave data\.remote=stream out"):
        find_parts(Data(dataset_dir="obs://bucket/sets", remote="stream"))
