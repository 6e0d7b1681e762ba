"""Every format from a folder to a model: written, recognised, read, drawn; all together learnt and scored."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from maskrcnn.config import RPN, Backbone, BoxHead, Data, Evaluate, MaskHead, Model, Neck, Optimizer, Recipe, Train
from maskrcnn.data.convert import convert_data
from maskrcnn.data.dataset import Dataset
from maskrcnn.data.formats.coco import segmentations
from maskrcnn.data.formats.known import FORMATS
from maskrcnn.data.recognise import recognise
from maskrcnn.data.shapes import generate
from maskrcnn.data.split import open_split, read_parts
from maskrcnn.evaluate import run
from maskrcnn.evaluate.hotcoco_engine import run_lengths
from maskrcnn.masks import bitmap_from_counts, counts_from_string
from maskrcnn.report.annotated import draw_annotated, read_pixels
from maskrcnn.report.page import read_metrics
from maskrcnn.run_folder import EVALUATION
from maskrcnn.runtime.distributed import World
from maskrcnn.train import loop
from maskrcnn.weights import load_weights

CLASSES = ("person=disc", "car=square", "rider=triangle", "bus=star", "bicycle=ring")
"""Shapes under names that Cityscapes knows as well."""
FLAT = ("voc", "cityscapes", "instances")
"""Formats in which a pixel belongs to one object: of overlapping ones only what no other covers is compared."""
MODEL = Model(
    backbone=Backbone(kind="resnet18", norm="group_norm", pretrained="", frozen_stages=0, width=8),
    neck=Neck(channels=8),
    rpn=RPN(anchor_sizes=(8, 16, 32, 64, 128), num_train_candidates=32, num_train_proposals=16, num_test_proposals=16),
    box_head=BoxHead(hidden=16, num_rois=16, num_detections=5, score_threshold=0.0),
    mask_head=MaskHead(num_convs=1, channels=8, num_rois=8),
)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> Data:
    folder = generate(tmp_path_factory.mktemp("data") / "shapes", num_train=4, num_val=2, seed=3, side=64)
    return Data(dataset_dir=str(folder), classes=CLASSES)


@pytest.fixture(scope="module")
def written(shapes, tmp_path_factory) -> dict[str, Path]:
    """The shapes in a folder of each format."""
    place = tmp_path_factory.mktemp("formats")
    for name in FORMATS:
        assert list(convert_data(shapes, name, place / name))
    return {name: place / name for name in FORMATS}


def masks(data: Dataset, image: int) -> list[np.ndarray]:
    """The pixels of each object of an image that is no crowd region, the largest first."""
    size = data.sizes[image].tolist()
    found = [
        bitmap_from_counts(counts_from_string(run_lengths(mask, *size)["counts"]), *size)
        for mask, is_crowd in zip(segmentations(data, image), data.crowd[data.objects(image)], strict=True)
        if not is_crowd
    ]
    return sorted(found, key=lambda mask: (-mask.sum(), mask.tobytes()))


@pytest.mark.parametrize("name", FORMATS)
def test_a_folder_of_each_format_is_recognised_and_says_the_same(name, written, shapes):
    assert recognise(written[name]).format == name
    splits, _ = read_parts(Data(dataset_dir=str(written[name])))
    assert sum(len(data.image_ids) for data in splits.values()) == 6
    before = open_split(shapes, "all")
    expected = {Path(file).stem: masks(before, index) for index, file in enumerate(before.file_names)}
    for data in splits.values():
        for index, file in enumerate(data.file_names):
            stem = next(stem for stem in expected if stem in file)
            found = masks(data, index)
            for mine, theirs in zip(found, expected[stem], strict=True):
                hidden = np.logical_or.reduce(
                    [other for other in expected[stem] if other is not theirs] or [0 * theirs]
                )
                visible = ~hidden if name in FLAT else np.ones_like(theirs, bool)
                either = (mine | theirs) & visible
                assert ((mine & theirs) & visible).sum() >= 0.99 * either.sum()
        assert draw_annotated(data, 0, read_pixels(data, 0)).size[0] > 60


def test_all_formats_together_are_learnt_and_scored(written, tmp_path):
    first, *others = written.values()
    names = tuple(one.partition("=")[0] for one in CLASSES)
    recipe = Recipe(
        name="all",
        device="cpu",
        data=Data(
            dataset_dir=str(first),
            also=tuple(map(str, others)),
            classes=names,
            short_sides=(64,),
            max_side=96,
            num_buckets=1,
            num_workers=1,
        ),
        model=MODEL,
        train=Train(batch=8, max_steps=2, optimizer=Optimizer(kind="adamw", lr=1e-3, lr_batch=8)),
        evaluate=Evaluate(batch=8),
    )
    folder = loop.run(recipe, tmp_path / "run")
    assert read_metrics(folder / EVALUATION)["speed"]["images"] >= 2 * (len(FORMATS) - 2)
    weights = load_weights(folder)
    assert weights.recipe.classes == names
    alone = msgspec.structs.replace(recipe, data=msgspec.structs.replace(recipe.data, also=(), dataset_dir=str(first)))
    assert run.run(alone, weights, tmp_path / "scores", World(torch.device("cpu")))["speed"]["images"] == 2
