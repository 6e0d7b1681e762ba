"""Weights in Detectron2's names and file give what Detectron2 itself gave; `detectron2_reference.py` asked it."""

import hashlib
import json
import pickle
import sys
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from maskrcnn.config import Recipe
from maskrcnn.convert.checkpoint import load_any
from maskrcnn.convert.detectron2 import DETECTRON2
from maskrcnn.convert.framework import write
from maskrcnn.instances import from_detections
from maskrcnn.masks import bitmap_from_counts, counts_from_string
from maskrcnn.models.mask_rcnn import MaskRCNN, build
from maskrcnn.ops import conv3x3, visible
from maskrcnn.recipes import read_recipe
from maskrcnn.structures import Detections, ImageBatch, Proposals, Targets
from maskrcnn.train.optimizer import build_optimizer
from maskrcnn.view import View

from .detectron2_reference import (
    CASES,
    CLASSES,
    HEIGHT,
    NUM_PHOTOS,
    PHOTO_MASKS,
    POLYGONS,
    TRAINED,
    TRAINING_CANDIDATES,
    TRAINING_HEIGHT,
    TRAINING_PROPOSALS,
    TRAINING_WIDTH,
    WIDTH,
    entries,
    names_and_shapes,
    photos,
    step,
    weights,
)
from .weights import picture

STORED = Path(__file__).parent / "stored"
LOSSES = {
    "rpn/objectness": "loss_rpn_cls",
    "rpn/box": "loss_rpn_loc",
    "box_head/class": "loss_cls",
    "box_head/box": "loss_box_reg",
    "mask_head/mask": "loss_mask",
}
ALL = 10**4
"""More than there are: every anchor and every proposal enters the losses."""


def load(folder, name, stored, *overrides):
    """Our model and its recipe, by way of a file as the model zoo has them."""
    case = CASES[name]
    path = folder / "model_final.pkl"
    arrays = weights(case, names_and_shapes()[name], stored["bias"].numpy())
    with path.open("wb") as stream:
        pickle.dump({"model": arrays, "__author__": "Detectron2 Model Zoo"}, stream, protocol=3)
    tensors, recipe, _ = load_any(path, [f"model.rpn.num_test_candidates={case.candidates}", *overrides])
    path.unlink()
    model = build(recipe.model, len(recipe.classes))
    model.load_state_dict(tensors)
    return model.eval(), recipe


def batch_of(picture, data, dtype=torch.float32):
    """Normalised and padded to a multiple of the coarsest stride, as both makers do."""
    pixels = (torch.from_numpy(picture).to(dtype) - column(data.mean)) / column(data.std)
    height, width = picture.shape[1:]
    padded = torch.nn.functional.pad(pixels, (0, -width % 32, 0, -height % 32))
    return ImageBatch(padded[None], torch.tensor([[float(height), float(width)]]))


def column(values):
    return torch.tensor(values)[:, None, None]


def detect(model, recipe, picture):
    """What is found, without padding, and as a person gets it."""
    batch = batch_of(picture, recipe.data)
    found = model(batch)
    size = batch.sizes.long()
    instances = from_detections(found, View.whole(size, size), size, recipe.classes)
    return Detections(*(part[0][found.valid[0]] for part in found)), instances[0]


def expect_detections(found, stored):
    """As many, of the same classes, in the same places; where two scores are as good as equal the order may differ."""
    assert len(found.scores) == len(stored["scores"])
    assert (found.scores - stored["scores"]).abs().max() < 1e-4
    order = pairs(found, stored)
    assert torch.equal(order.sort().values, torch.arange(len(order)))
    assert torch.equal(found.labels[order] - 1, stored["classes"].long())
    assert (found.scores[order] - stored["scores"]).abs().max() < 1e-4
    assert (found.boxes[order] - stored["boxes"]).abs().max() < 0.02
    return order


def pairs(found, stored):
    """Which of ours each of theirs is: the nearest of its class."""
    far = (found.boxes[None] - stored["boxes"][:, None]).abs().amax(dim=2)
    return (far + 1e4 * (found.labels[None] - 1 != stored["classes"][:, None])).argmin(dim=1)


def expect_close(found, expected, tolerance):
    """Of the largest value."""
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < tolerance * expected.abs().max()


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    stored = load_file(STORED / f"detectron2_{request.param}.safetensors")
    return *load(tmp_path_factory.mktemp(request.param), request.param, stored), stored


def test_each_part_says_what_detectron2_says(case, monkeypatch):
    """With direct convolutions, as theirs are: ours with fewer products would differ by one and a half of 1e-5."""
    monkeypatch.setattr(conv3x3, "MIN_TILES", sys.maxsize)
    model, recipe, stored = case
    batch = batch_of(picture(HEIGHT, WIDTH), recipe.data)
    with torch.no_grad():
        pyramid = model.neck(model.backbone(batch.pixels))
        for number, level in enumerate(pyramid):
            expect_close(level.flatten()[:: step(level.numel())], stored[f"pyramid.{number}"], 1e-5)
        proposals = model.rpn.propose(pyramid, batch.sizes)
        chosen = stored["proposals"][stored["chosen"].long()]
        logits, deltas = model.box_head._predict(pyramid, chosen[None])
    boxes, objectness = proposals.boxes[proposals.valid], proposals.objectness[proposals.valid]
    assert len(boxes) == len(stored["proposals"])
    expect_close(objectness, stored["objectness"], 1e-5)
    far = (boxes - stored["proposals"][:, None]).abs().amax(dim=2)
    assert far.amin(dim=1).max() < 0.01
    expect_close(logits[0].roll(-1, 1), stored["logits"], 1e-5)
    expect_close(deltas[0].flatten(1), stored["deltas"], 1e-5)


def test_the_same_objects_are_found_with_the_same_masks(case):
    model, recipe, stored = case
    with torch.no_grad():
        found, instances = detect(model, recipe, picture(HEIGHT, WIDTH))
    order = expect_detections(found, stored)
    probabilities = stored["probabilities"].float() / 65535
    assert (found.masks[order[: len(probabilities)]] - probabilities).abs().max() < 1e-3
    theirs = bytes(stored["pasted"].numpy()).split(b"\n")
    for mask, counts in zip(instances.masks[order.numpy()], theirs, strict=True):
        expected = bitmap_from_counts(counts_from_string(counts.decode()), HEIGHT, WIDTH)
        assert (mask ^ expected).sum() <= max(2, 0.001 * expected.sum())  # a pixel may lie on the threshold


@pytest.mark.parametrize("num_photos", [3, pytest.param(NUM_PHOTOS, marks=pytest.mark.exhaustive)])
def test_the_same_objects_are_found_in_photos(tmp_path, shared_data, num_photos):
    folder = shared_data / "coco_mini" / "val2017"
    if not folder.is_dir():
        pytest.skip(f"the photos are not at {folder}")
    path = STORED / "detectron2_photos.safetensors"
    stored = load_file(path)
    with safe_open(path, "pt") as file:
        marks = json.loads(file.metadata()["photos"])
    model, recipe = load(tmp_path, "r50", stored)
    first, masks = 0, 0
    counts = stored["count"].tolist()
    assert (len(counts), sum(counts)) == (NUM_PHOTOS, len(stored["scores"]))
    chosen = islice(((name, pixels) for name, pixels in photos(folder) if name in marks), num_photos)
    for (name, pixels), count in zip(chosen, counts[:num_photos], strict=True):
        if hashlib.sha256(pixels.tobytes()).hexdigest()[:16] != marks[name]:
            pytest.skip(f"{name} has other pixels as this libjpeg and this Pillow make them")
        with torch.no_grad():
            found, instances = detect(model, recipe, pixels)
        these = {key: stored[key][first : first + count] for key in ("boxes", "scores", "classes", "areas")}
        order = expect_detections(found, these)
        shown = stored["probabilities"][masks : masks + min(count, PHOTO_MASKS)].float() / 65535
        assert (found.masks[order[: len(shown)]] - shown).abs().max() < 1e-3
        areas = torch.from_numpy(instances.masks.sum(axis=(1, 2)))[order]
        assert ((areas - these["areas"]).abs() <= (0.001 * these["areas"]).clamp(min=2)).all()
        first, masks = first + count, masks + len(shown)


def targets():
    """The polygons of training."""
    corners = [torch.tensor(polygon).view(-1, 2) for polygon in POLYGONS]
    edges = [torch.cat([ring, ring.roll(-1, 0)], dim=1) for ring in corners]
    first = np.cumsum([0] + [len(one) for one in edges])
    return Targets(
        boxes=torch.stack([torch.cat([ring.amin(dim=0), ring.amax(dim=0)]) for ring in corners])[None],
        labels=torch.tensor(CLASSES)[None] + 1,
        crowd=torch.zeros(1, len(corners), dtype=torch.bool),
        valid=torch.ones(1, len(corners), dtype=torch.bool),
        edges=torch.cat(edges)[None],
        first_edge=torch.from_numpy(first).int()[None],
    )


@pytest.fixture(scope="module", params=TRAINED)
def training(request, tmp_path_factory):
    """A model whose losses see everything, of the recipe `lsj` where its norms are live, and what Detectron2 learnt."""
    stored = load_file(STORED / f"detectron2_{request.param}.safetensors")
    settings = {
        "model.rpn.num_samples": ALL,
        "model.rpn.positive_fraction": 1,
        "model.rpn.num_train_candidates": TRAINING_CANDIDATES,
        "model.rpn.num_train_proposals": TRAINING_PROPOSALS,
        "model.box_head.num_rois": ALL,
        "model.box_head.positive_fraction": 1,
        # A slot for each positive: live norms see neither more nor fewer boxes than theirs.
        "model.mask_head.num_rois": len(stored["mask_boxes"]),
    }
    overrides = [f"{name}={value}" for name, value in settings.items()]
    name, watched = TRAINED[request.param]
    model, recipe = load(tmp_path_factory.mktemp("training"), name, stored, *overrides)
    if name == "lsj":
        tensors, recipe = model.state_dict(), read_recipe("lsj", overrides)
        model = build(recipe.model, 80)
        model.load_state_dict(tensors)
    return Step(model.train(), recipe, stored, watched)


class Step(NamedTuple):
    """A model ready to learn, and what Detectron2's learnt."""

    model: MaskRCNN
    recipe: Recipe
    stored: dict[str, torch.Tensor]
    watched: tuple[str, ...]


@pytest.fixture
def with_their_masks(training, monkeypatch):
    """Mask targets are Detectron2's, which draws them by other rules than ours."""
    stored = training.stored
    theirs = torch.from_numpy(np.unpackbits(stored["mask_targets"].numpy(), axis=1)).view(-1, 28, 28)

    def drawn(edges, first_edge, boxes, images, objects, *, size):
        far = (boxes[:, None] - stored["mask_boxes"]).abs().amax(dim=2)
        far = far + 1e4 * (objects[:, None] != stored["mask_objects"])
        assert far.amin(dim=1).max() < 0.01
        return theirs[far.argmin(dim=1)].to(boxes.dtype)

    monkeypatch.setattr(visible, "rasterize", drawn)


def learn(model, data, dtype):
    """With boxes in float32 whatever the type, as Detectron2 has them: which anchors tie is a matter of rounding."""
    batch = batch_of(picture(TRAINING_HEIGHT, TRAINING_WIDTH), data, dtype)
    model.to(dtype)
    model.rpn.base = model.rpn.base.float()
    return model.losses(batch, targets(), torch.zeros(1, dtype=torch.int64))


def expect_losses(found, stored, tolerance):
    for ours, theirs in LOSSES.items():
        assert found[ours].item() == pytest.approx(stored[f"loss.{theirs}"].item(), rel=tolerance), ours
    assert found["count/positive_anchors"] == stored["anchors"][0]
    assert found["count/positive_rois"] == len(stored["mask_targets"])
    assert found["count/masks_left_out"] == 0


@pytest.mark.usefixtures("with_their_masks")
def test_losses_are_those_of_detectron2(training, monkeypatch):
    """In float32, from our own proposals, and with direct convolutions, as theirs are.

    Live norms over the 12 cells of the coarsest maps make 1.6e-5 of rounding; in float64 all agree within 1e-6.
    """
    monkeypatch.setattr(conv3x3, "MIN_TILES", sys.maxsize)
    tolerance = 5e-5 if training.recipe.name == "lsj" else 1e-5
    with torch.no_grad():
        expect_losses(learn(training.model, training.recipe.data, torch.float32), training.stored, tolerance)


def test_weight_decay_is_that_of_detectron2():
    stored = load_file(STORED / "detectron2_lsj_training.safetensors")
    recipe = read_recipe("lsj")
    model = build(recipe.model, 80)
    groups = build_optimizer(model, recipe.train.optimizer).param_groups
    found = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    decay = {name: torch.full_like(p, found[id(p)]) for name, p in model.named_parameters()}
    buffers = {name: torch.zeros_like(buffer) for name, buffer in model.state_dict().items() if name not in decay}
    theirs = write(DETECTRON2, decay | buffers)
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    names = sorted(name for name in theirs if not name.endswith(statistics))
    assert torch.equal(torch.stack([theirs[name].max() for name in names]), stored["decays"])
    assert recipe.train.optimizer.weight_decay == pytest.approx(stored["decays"].max().item())


@pytest.mark.exhaustive
@pytest.mark.usefixtures("with_their_masks")
def test_gradients_are_those_of_detectron2(training, monkeypatch):
    """In float64 and from the same proposals: in float32 a ReLU that turns can change one by 3e-3."""
    model, stored = training.model, training.stored
    ours, boxes = model.rpn.learn, stored["proposals"][None]

    def given(*arguments):
        losses, _ = ours(*arguments)
        return losses, Proposals(boxes, torch.zeros(boxes.shape[:2]), torch.ones(boxes.shape[:2], dtype=torch.bool))

    monkeypatch.setattr(model.rpn, "learn", given)
    found = learn(model, training.recipe.data, torch.float64)
    expect_losses(found, stored, 1e-6)
    sum(loss for name, loss in found.items() if not name.startswith("count/")).backward()
    known = dict(model.named_parameters())
    gradients = {
        name: known[name].grad if name in known and known[name].grad is not None else torch.zeros_like(tensor)
        for name, tensor in model.state_dict().items()
    }
    theirs = write(DETECTRON2, gradients)
    for name in training.watched:
        gradient, largest = theirs[name].flatten(), stored[f"largest.{name}"].item()
        assert gradient.abs().max().item() == pytest.approx(largest, rel=1e-6)
        assert (gradient[entries(gradient.numel())] - stored[f"gradient.{name}"]).abs().max() < 1e-6 * largest


def test_mask_targets_differ_from_detectron2s_only_along_outlines(training):
    """Ours says of each cell whether its centre is inside; pycocotools, which Detectron2 asks, moves outlines."""
    stored = training.stored
    theirs = torch.from_numpy(np.unpackbits(stored["mask_targets"].numpy(), axis=1)).view(-1, 28, 28).bool()
    goal, boxes = targets(), stored["mask_boxes"]
    images = torch.zeros(len(boxes), dtype=torch.int64)
    objects = stored["mask_objects"].long()
    ours = visible.rasterize(goal.edges, goal.first_edge, boxes, images, objects, size=28).bool()
    assert (ours != theirs).float().mean() < 0.05
    assert ((ours & theirs).sum() / (ours | theirs).sum()) > 0.95
