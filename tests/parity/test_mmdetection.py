"""Weights in MMDetection's names and file find what MMDetection found; `mmdetection_reference.py` asked it."""

from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import load_file

from maskrcnn.convert.checkpoint import load_any
from maskrcnn.instances import Instances, from_detections
from maskrcnn.models.mask_rcnn import build
from maskrcnn.recipes.adopt import override
from maskrcnn.structures import Detections, ImageBatch, Proposals
from maskrcnn.view import View

from .mmdetection_reference import CASES, HEADS, HEIGHT, MASKS, WIDTH, listed, step, weights
from .weights import picture

STORED = Path(__file__).parent / "stored"
SIZE = torch.tensor([[HEIGHT, WIDTH]])
PADDED = (224, 288)
"""Multiples of 32."""
CLOSE = 1e-4
"""Of the largest number of an output. Measured: 7e-6."""


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return request.param


@pytest.fixture(scope="module")
def stored(case):
    return load_file(STORED / f"mmdetection_{case}.safetensors")


@pytest.fixture(scope="module")
def file(case, stored, tmp_path_factory):
    """As MMDetection publishes: the tensors beside what training knew. The name says nothing of the style."""
    state = {n: torch.from_numpy(x) for n, x in weights(case, listed(case), stored["bias"].numpy()).items()}
    path = tmp_path_factory.mktemp("mmdetection") / "epoch_12.pth"
    content = {"meta": {"epoch": 12, "CLASSES": ("person", "bicycle")}, "state_dict": OrderedDict(state)}
    torch.save(content, path, _use_new_zipfile_serialization=case != "r50")  # files of 2020 are of the older kind
    return path


@pytest.fixture(scope="module")
def loaded(file, case):
    return load_any(file, [f"model.rpn.num_test_proposals={CASES[case].proposals}"])


class Answers(NamedTuple):
    """What our network says where theirs was asked."""

    pyramid: list[torch.Tensor]
    offered: Proposals
    logits: torch.Tensor
    """Of their proposals, as `deltas`."""
    deltas: torch.Tensor
    found: Detections
    pasted: Instances


def network(loaded, *words):
    """Ours, with some settings other than the recipe's."""
    chosen = override(loaded.recipe, words, "other")
    model = build(chosen.model, len(loaded.recipe.classes)).eval()
    model.load_state_dict(loaded.tensors)
    return model


def fed(recipe):
    """The picture, normalised and padded."""
    mean, std = (torch.tensor(x)[:, None, None] for x in (recipe.data.mean, recipe.data.std))
    pixels = torch.zeros(1, 3, *PADDED)
    pixels[0, :, :HEIGHT, :WIDTH] = (torch.from_numpy(picture(HEIGHT, WIDTH)).float() - mean) / std
    return pixels


def some_proposals(stored):
    return stored["proposals"][stored["chosen"].long()][None]


@pytest.fixture(scope="module")
def ours(loaded, stored):
    model, recipe, pixels = network(loaded), loaded.recipe, fed(loaded.recipe)
    with torch.no_grad():
        pyramid = model.neck(model.backbone(pixels))
        offered = model.rpn.propose(pyramid, SIZE.float())
        logits, deltas = model.box_head._predict(pyramid, some_proposals(stored))
        found = model(ImageBatch(pixels, SIZE.float()))
    pasted = from_detections(found, View.whole(SIZE, SIZE), SIZE, recipe.classes, recipe.category_ids)[0]
    return Answers(pyramid, offered, logits[0], deltas[0], found, pasted)


def difference(output, expected):
    """The largest one, as a share of the largest number."""
    return float((output - expected).abs().max() / expected.abs().max())


def test_the_pyramid_is_what_mmdetection_computes(ours, stored):
    for number, level in enumerate(ours.pyramid):
        assert difference(level.flatten()[:: step(level.numel())], stored[f"pyramid.{number}"]) < CLOSE


def test_the_proposals_are_the_same(ours, stored):
    offered = ours.offered
    boxes, scores = offered.boxes[0][offered.valid[0]], offered.objectness[0][offered.valid[0]].sigmoid()
    distances = torch.cdist(stored["proposals"], boxes, p=float("inf"))
    nearest, index = distances.min(dim=1)
    assert len(boxes) == len(stored["proposals"])
    assert (nearest < 0.02).float().mean() > 0.99  # the last ones may change places with what was left out
    sure = len(boxes) // 2
    assert nearest[:sure].max() < 0.02
    assert (scores[index] - stored["objectness"])[:sure].abs().max() < 1e-4


def test_classes_and_boxes_of_their_proposals_are_the_same(ours, stored):
    assert len(ours.logits) == HEADS
    assert difference(ours.logits.roll(-1, 1), stored["logits"]) < CLOSE
    assert difference(ours.deltas.flatten(1)[:, ::3], stored["deltas"]) < CLOSE


def test_the_same_objects_are_found(ours, stored):
    found = ours.found
    number = int(found.valid.sum())
    assert number == len(stored["scores"]) >= 30
    pair = pairs(found, stored)
    assert sorted(pair.tolist()) == list(range(number))
    assert (found.boxes[0, pair] - stored["boxes"]).abs().max() < 0.02
    assert (found.scores[0, pair] - stored["scores"]).abs().max() < 1e-4
    assert (found.labels[0, pair] - 1).tolist() == stored["classes"].tolist()


def test_their_masks_are_the_same(ours, stored):
    found = ours.found
    pair = pairs(found, stored)
    expected = stored["probabilities"].to(torch.float32) / 65535
    assert (found.masks[0, pair[:MASKS]] - expected).abs().max() < 1e-3
    areas = torch.tensor([int(ours.pasted.masks[i].sum()) for i in pair.tolist()])
    assert (areas - stored["areas"]).abs().max() <= 2


def pairs(found, stored):
    """Our detection of each of theirs."""
    far = torch.cdist(stored["boxes"], found.boxes[0], p=float("inf"))
    other = stored["classes"][:, None] != found.labels[0] - 1
    return (far + 1e4 * (other | ~found.valid[0])).argmin(dim=1)


def test_another_stride_would_be_seen(loaded, stored):
    model = network(loaded, f"model.backbone.stride_in_1x1={not loaded.recipe.model.backbone.stride_in_1x1}")
    with torch.no_grad():
        level = model.neck(model.backbone(fed(loaded.recipe)))[1]
    assert difference(level.flatten()[:: step(level.numel())], stored["pyramid.1"]) > 100 * CLOSE


@pytest.mark.parametrize("word", ["sampling_ratio=2", "half_pixel=false"])
def test_another_roi_align_would_be_seen(word, loaded, ours, stored):
    with torch.no_grad():
        logits, _ = network(loaded, f"model.roi_align.{word}").box_head._predict(ours.pyramid, some_proposals(stored))
    assert difference(logits[0].roll(-1, 1), stored["logits"]) > 100 * CLOSE


def test_anchors_around_other_points_would_be_seen(loaded, ours, stored):
    model = network(loaded, "model.rpn.anchor_offset=0.5")
    with torch.no_grad():
        boxes = model.rpn.propose(ours.pyramid, SIZE.float()).boxes[0]
    assert torch.cdist(stored["proposals"], boxes, p=float("inf")).min(dim=1).values.median() > 0.02


def test_the_style_is_known_from_the_weights(case, loaded):
    assert loaded.recipe.model.backbone.stride_in_1x1 == (case == "r50_caffe")
    assert loaded.recipe.data.std == ((1.0, 1.0, 1.0) if case in ("r50_caffe", "gn") else (58.395, 57.12, 57.375))
