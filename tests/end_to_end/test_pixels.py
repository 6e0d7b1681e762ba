"""Whole runs on images that are no RGB of 8 bits."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image

import maskrcnn
from maskrcnn.cli.evaluate import score_weights
from maskrcnn.cli.health import look
from maskrcnn.config import Data
from maskrcnn.data.health.check import entries
from maskrcnn.data.split import open_split
from maskrcnn.predict_files import predict_paths
from maskrcnn.recipes import read_recipe
from maskrcnn.report.numbers import sample_colours
from maskrcnn.train import loop
from tests.end_to_end.pixel_data import write_discs

TINY = str(Path(__file__).parents[1] / "tiny.yml")
MEASURED = ("data.mean=[]", "data.std=[]")
LEARNS = (
    *("train.schedule.kind=cosine", "train.schedule.warmup_steps=20", "train.optimizer.lr=4e-3", "train.epochs=40"),
    *("train.evaluate_every=40", "model.rpn.anchor_sizes=[8, 16, 24, 32, 48]", "model.box_head.hidden=128"),
    *("model.neck.channels=24", "model.mask_head.channels=32"),
)
"""480 steps of the tiny recipe, half a minute of a quiet core."""


def in_the_low_byte(path, scene):
    Image.fromarray((scene * 255).astype(np.uint16)).save(path)


def in_the_fifth_band(path, scene):
    bands = np.random.default_rng(int(1000 * scene.sum())).integers(0, 255, (*scene.shape, 5), np.uint8)
    bands[..., 4] = scene * 255
    np.save(path, bands)


def in_the_fifth_of_16_bits(path, scene):
    bands = np.random.default_rng(int(1000 * scene.sum())).integers(0, 2000, (*scene.shape, 5), np.uint16)
    bands[..., 4] = scene * 2000
    np.save(path, bands)


def recipe_for(folder, *words):
    return read_recipe(TINY, [f"data.dataset_dir={folder}", "data.max_side=64", "data.num_workers=0", *words])


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_images_of_five_bands_go_all_the_way(tmp_path, capsys):
    folder = write_discs(tmp_path / "data", "npy", in_the_fifth_of_16_bits, train=4, val=2)
    settings = Data(dataset_dir=str(folder))
    found = {one.kind.name for one in entries(look(settings, deep=True))}
    assert found.isdisjoint({"image-unreadable", "split-unreadable"})
    assert "image-few-levels" in found
    colours, failures = sample_colours(open_split(settings, "train"), 4)
    assert (len(colours), failures) == (3, [])

    words = (*MEASURED, "data.levels=fixed", "data.shown_bands=[5]", "train.batch=2")
    run = loop.run(recipe_for(folder, *words), tmp_path / "run")
    stored = maskrcnn.load(run).recipe.data
    assert len(stored.mean) == len(stored.std) == len(stored.level_range) == 5
    assert read_recipe(run / "config.yml").data == msgspec.structs.replace(stored)
    assert "measured over 4 training images of 5 bands" in capsys.readouterr().out
    loop.run(recipe_for(folder, *words, "train.epochs=2"), tmp_path / "run", "auto")

    score_weights(str(folder), [], [str(run)], tmp_path / "eval")
    predictor = maskrcnn.load(run)
    result = predictor.predict(folder / "val2017" / "0.npy", score=0.0)
    assert (result.image.shape, result.image.dtype) == ((64, 64, 5), np.float32)
    same = predictor.predict(np.load(folder / "val2017" / "0.npy"), score=0.0)
    np.testing.assert_array_equal(same.boxes, result.boxes)
    assert predict_paths(predictor, [folder / "val2017"], tmp_path / "out") == []
    drawn = np.asarray(Image.open(tmp_path / "out" / "0.png").convert("RGB")).astype(int)
    assert drawn.std() > 20  # the fifth band, stretched


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("ending", "write", "words", "without"),
    [
        ("png", in_the_low_byte, ("data.levels=fixed", *MEASURED), ()),
        ("npy", in_the_fifth_band, MEASURED, None),
    ],
)
def test_what_lies_in_the_low_byte_or_the_fifth_band_is_learnt(tmp_path, ending, write, words, without):
    folder = write_discs(tmp_path / "data", ending, write)
    assert box_and_mask_ap(recipe_for(folder, *LEARNS, *words), tmp_path / "with") > (70, 70)
    if without is not None:
        assert box_and_mask_ap(recipe_for(folder, *LEARNS, *without), tmp_path / "without") < (10, 10)
        return
    for path in folder.glob("*/*.npy"):  # what a recipe of three bands would see of it
        np.save(path, np.load(path)[..., :3])
    assert box_and_mask_ap(recipe_for(folder, *LEARNS), tmp_path / "without") < (10, 10)


def box_and_mask_ap(recipe, out):
    loop.run(recipe, out)
    metrics = msgspec.json.decode((out / "evaluation" / "metrics.json").read_bytes())
    return 100 * metrics["bbox"]["AP"], 100 * metrics["segm"]["AP"]
