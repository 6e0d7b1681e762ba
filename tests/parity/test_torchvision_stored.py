"""Weights in torchvision's names and file give what torchvision itself gave; `torchvision_reference.py` asked it."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec import structs
from safetensors import safe_open
from safetensors.torch import load_file

from maskrcnn.convert.checkpoint import load_any
from maskrcnn.convert.framework import write
from maskrcnn.convert.torchvision import TORCHVISION
from maskrcnn.masks import bitmap_from_counts, counts_from_string
from maskrcnn.models.mask_rcnn import build
from maskrcnn.ops import visible
from maskrcnn.predict import Predictor
from maskrcnn.recipes import read_recipe
from maskrcnn.runtime.precision import choose_precision
from maskrcnn.structures import ImageBatch, Proposals, Targets
from maskrcnn.weights import fill

from .torchvision_reference import (
    CASES,
    HEIGHT,
    LABELS,
    MOST,
    NUM_PHOTOS,
    PHOTO_MASKS,
    PHOTO_SIDE,
    POLYGONS,
    POSITIVE_IOU,
    TRAINED,
    TRAINING_HEIGHT,
    TRAINING_WIDTH,
    WATCHED,
    WIDTH,
    entries,
    mark,
    photo,
    step,
    weights,
)
from .weights import picture

STORED = Path(__file__).parent / "stored"
LOSSES = {
    "rpn/objectness": "loss_objectness",
    "rpn/box": "loss_rpn_box_reg",
    "box_head/class": "loss_classifier",
    "box_head/box": "loss_box_reg",
    "mask_head/mask": "loss_mask",
}
ALL = 10**4
"""More than there are: every anchor and every proposal enters the losses."""


@pytest.fixture(scope="session")
def names():
    """The module that lists torchvision's names, old and new."""
    path = Path(__file__).parents[1] / "convert" / "test_torchvision.py"
    spec = importlib.util.spec_from_file_location("torchvision_names", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load(folder, version, bias, names, overrides, *, published=True):
    """Our model and its recipe, by way of a file as torchvision has them.

    published   the first version's file has the names of before 0.13, whose norms have an eps of 0
    """
    arrays = weights(version, names.listed(version), bias.numpy())
    state = {name: torch.from_numpy(array) for name, array in arrays.items()}
    path = folder / "checkpoint.pth"
    torch.save(names.old_names(state) if version == "v1" and published else state, path)
    tensors, recipe, origin = load_any(path, [f"{name}={value}" for name, value in overrides.items()])
    path.unlink()
    model = build(recipe.model, len(recipe.classes))
    fill(model, tensors, origin)
    return model.eval(), recipe


def predictor(model, recipe, side):
    data = structs.replace(recipe.data, short_sides=(side,))
    device = torch.device("cpu")
    return Predictor(model, structs.replace(recipe, data=data), device, choose_precision(device, mixed=False))


def rgb(pixels):
    return np.ascontiguousarray(pixels.transpose(1, 2, 0))


def batch_of(pixels, data, dtype=torch.float32):
    """Normalised and padded to a multiple of 32, as torchvision does; it has the network's size already."""
    mean, std = (torch.tensor(values, dtype=dtype)[:, None, None] for values in (data.mean, data.std))
    normal = (torch.from_numpy(pixels) - mean) / std
    height, width = pixels.shape[1:]
    padded = torch.nn.functional.pad(normal, (0, -width % 32, 0, -height % 32))
    return ImageBatch(padded[None], torch.tensor([[float(height), float(width)]]))


def expect_detections(found, stored):
    """As many, of the same classes, in the same places; where two scores are as good as equal the order may differ."""
    assert len(found) == len(stored["scores"])
    boxes, labels, scores = (torch.from_numpy(part) for part in (found.boxes, found.labels, found.scores))
    far = (boxes - stored["boxes"][:, None]).abs().amax(dim=2) + 1e4 * (labels != stored["labels"][:, None])
    order = far.argmin(dim=1)
    assert torch.equal(order.sort().values, torch.arange(len(order)))
    assert torch.equal(labels[order], stored["labels"].long())
    assert (scores[order] - stored["scores"]).abs().max() < 1e-4
    assert (boxes[order] - stored["boxes"]).abs().max() < 0.02
    shown = stored["probabilities"].float() / 65535
    assert (found.probabilities[order[: len(shown)]] - shown).abs().max() < 1e-3
    return order.numpy()


def expect_close(found, expected, tolerance=1e-5):
    """Of the largest value."""
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < tolerance * expected.abs().max()


@pytest.fixture(scope="module", params=CASES)
def case(request, names, tmp_path_factory):
    version = request.param
    path = STORED / f"torchvision_{version}.safetensors"
    stored = load_file(path)
    with safe_open(path, "pt") as file:
        marks = json.loads(file.metadata()["photos"])
    candidates = CASES[version].candidates
    settings = {"model.rpn.num_test_candidates": candidates, "model.rpn.num_test_proposals": min(5 * candidates, 1000)}
    return version, *load(tmp_path_factory.mktemp(version), version, stored["bias"], names, settings), stored, marks


@torch.inference_mode()
def test_each_part_says_what_torchvision_says(case):
    _, model, recipe, stored, _ = case
    batch = batch_of(picture(HEIGHT, WIDTH), recipe.data)
    pyramid = model.neck(model.backbone(batch.pixels))
    for number, level in enumerate(pyramid):
        expect_close(level.flatten()[:: step(level.numel())], stored[f"pyramid.{number}"])
    proposals = model.rpn.propose(pyramid, batch.sizes)
    boxes = proposals.boxes[proposals.valid]
    assert len(boxes) == len(stored["proposals"])
    assert (boxes - stored["proposals"][:, None]).abs().amax(dim=2).amin(dim=1).max() < 0.01
    logits, deltas = model.box_head._predict(pyramid, stored["proposals"][stored["chosen"].long()][None])
    expect_close(logits[0], stored["logits"])
    expect_close(deltas[0].flatten(1), stored["deltas"][:, 4:])  # the background's are never used


def test_the_same_objects_are_found_with_the_same_masks(case):
    _, model, recipe, stored, _ = case
    found = predictor(model, recipe, HEIGHT).predict(rgb(picture(HEIGHT, WIDTH)), score=0.0)
    order = expect_detections(found, stored)
    theirs = bytes(stored["pasted"].numpy()).split(b"\n")
    for mask, counts in zip(found.masks[order], theirs, strict=True):
        expected = bitmap_from_counts(counts_from_string(counts.decode()), HEIGHT, WIDTH)
        assert (mask ^ expected).sum() <= max(2, 0.001 * expected.sum())  # a pixel may lie on the threshold


@pytest.mark.parametrize("num_photos", [2, pytest.param(NUM_PHOTOS, marks=pytest.mark.exhaustive)])
def test_the_same_objects_are_found_in_photos(case, shared_data, monkeypatch, num_photos):
    """Which both resize, each in its own way, to a short side of PHOTO_SIDE."""
    version, model, recipe, stored, marks = case
    folder = shared_data / "coco_mini" / "val2017"
    if not folder.is_dir():
        pytest.skip(f"the photos are not at {folder}")
    # there are no more than MOST; slots for more take time
    limits = {"score_threshold": CASES[version].photo_score, "num_detections": MOST}
    monkeypatch.setattr(model.box_head, "settings", structs.replace(model.box_head.settings, **limits))
    ours = predictor(model, recipe, PHOTO_SIDE)
    first, masks = 0, 0
    counts = stored["photos.count"].tolist()
    assert (len(counts), sum(counts)) == (len(marks), len(stored["photos.scores"]))
    for (name, expected), count in list(zip(marks.items(), counts, strict=True))[:num_photos]:
        pixels = photo(folder / name)
        if mark(pixels) != expected:
            pytest.skip(f"{name} has other pixels as this libjpeg makes them")
        found = ours.predict(rgb(pixels), score=0.0)
        keys = ("boxes", "scores", "labels", "areas")
        these = {key: stored[f"photos.{key}"][first : first + count] for key in keys}
        number = min(count, PHOTO_MASKS)
        these["probabilities"] = stored["photos.probabilities"][masks : masks + number]
        order = expect_detections(found, these)
        areas = torch.from_numpy(found.masks.sum(axis=(1, 2)))[order]
        assert ((areas - these["areas"]).abs() <= (0.001 * these["areas"]).clamp(min=2)).all()
        first, masks = first + count, masks + number


# Training


def targets():
    """The polygons of training."""
    corners = [torch.tensor(polygon).view(-1, 2) for polygon in POLYGONS]
    edges = [torch.cat([ring, ring.roll(-1, 0)], dim=1) for ring in corners]
    first = np.cumsum([0] + [len(one) for one in edges])
    return Targets(
        boxes=torch.stack([torch.cat([ring.amin(dim=0), ring.amax(dim=0)]) for ring in corners])[None],
        labels=torch.tensor(LABELS)[None],
        crowd=torch.zeros(1, len(corners), dtype=torch.bool),
        valid=torch.ones(1, len(corners), dtype=torch.bool),
        edges=torch.cat(edges)[None],
        first_edge=torch.from_numpy(first).int()[None],
    )


@pytest.fixture(scope="module", params=TRAINED)
def training(request, names, tmp_path_factory):
    """A model whose losses see everything, of the recipe `v2` where its norms are live, and what torchvision learnt."""
    version, live = TRAINED[request.param]
    prefix, every = f"{request.param}.", load_file(STORED / "torchvision_training.safetensors")
    stored = {name.removeprefix(prefix): tensor for name, tensor in every.items() if name.startswith(prefix)}
    settings = {
        "model.rpn.num_samples": ALL,
        "model.rpn.positive_fraction": 1,
        "model.rpn.num_train_proposals": CASES[version].proposals,
        "model.box_head.num_rois": ALL,
        "model.box_head.positive_fraction": 1,
        "model.box_head.positive_iou": POSITIVE_IOU,
        "model.mask_head.num_rois": len(stored["mask_targets"]),
    }
    folder = tmp_path_factory.mktemp("training")
    model, recipe = load(folder, version, stored["bias"], names, settings, published=False)
    if live:
        tensors = model.state_dict()
        recipe = read_recipe("v2", [f"{name}={value}" for name, value in settings.items()])
        model = build(recipe.model, 90)
        model.load_state_dict(tensors)
    return version, model.train(live), recipe.data, stored


@pytest.fixture
def with_their_masks(training, monkeypatch):
    """Mask targets are torchvision's, which averages bitmaps."""
    *_, stored = training
    theirs = stored["mask_targets"] / 255

    def drawn(edges, first_edge, boxes, images, objects, *, size):
        far = (boxes[:, None] - stored["mask_boxes"]).abs().amax(dim=2)
        far = far + 1e4 * (objects[:, None] != stored["mask_objects"])
        assert far.amin(dim=1).max() < 0.01
        return theirs[far.argmin(dim=1)].to(boxes.dtype)

    monkeypatch.setattr(visible, "rasterize", drawn)


def learn(model, data, dtype):
    batch = batch_of(picture(TRAINING_HEIGHT, TRAINING_WIDTH), data, dtype)
    return model.to(dtype).losses(batch, targets(), torch.zeros(1, dtype=torch.int64))


def expect_losses(found, stored, tolerance):
    for ours, theirs in LOSSES.items():
        assert found[ours].item() == pytest.approx(stored[f"loss.{theirs}"].item(), rel=tolerance), ours
    assert found["count/positive_rois"] == len(stored["mask_targets"])
    assert found["count/masks_left_out"] == 0


@pytest.mark.usefixtures("with_their_masks")
def test_losses_are_those_of_torchvision(training):
    """In float32, in which live norms over the 12 cells of the coarsest maps make 1.2e-5 of rounding."""
    _, model, data, stored = training
    with torch.no_grad():
        expect_losses(learn(model, data, torch.float32), stored, 5e-5 if model.training else 1e-5)


@pytest.mark.parametrize(
    "training", [*(pytest.param(name, marks=pytest.mark.exhaustive) for name in CASES), "live"], indirect=True
)
@pytest.mark.usefixtures("with_their_masks")
def test_gradients_are_those_of_torchvision(training, monkeypatch):
    """In float64 and from the same proposals: in float32 a ReLU that turns changes a gradient by a per cent."""
    version, model, data, stored = training
    ours, boxes = model.rpn.learn, stored["proposals"][None].double()

    def given(*arguments):
        losses, _ = ours(*arguments)
        return losses, Proposals(boxes, torch.zeros(boxes.shape[:2]), torch.ones(boxes.shape[:2], dtype=torch.bool))

    monkeypatch.setattr(model.rpn, "learn", given)
    found = learn(model, data, torch.float64)
    expect_losses(found, stored, 1e-6)
    sum(loss for name, loss in found.items() if not name.startswith("count/")).backward()
    known = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    gradients = write(TORCHVISION, known)
    for name in WATCHED[version]:
        gradient, largest = gradients[name].flatten(), stored[f"largest.{name}"].item()
        assert gradient.abs().max().item() == pytest.approx(largest, rel=1e-5)
        assert (gradient[entries(gradient.numel())] - stored[f"gradient.{name}"]).abs().max() < 1e-5 * largest
