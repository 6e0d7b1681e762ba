"""Weights in MindSpore's names and file give what MindSpore's own network gave; `mindspore_reference.py` asked it."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from maskrcnn import config
from maskrcnn.boxes import decode
from maskrcnn.convert.framework import read, shapes, write
from maskrcnn.convert.mindspore import MINDSPORE
from maskrcnn.convert.mindspore_file import read_ckpt, write_ckpt
from maskrcnn.models.mask_rcnn import build
from maskrcnn.recipes.adopt import override

from .mindspore_reference import BOXES, SEED, STRETCH, STRIDES, normalised
from .weights import generate

CLOSE = 1e-4
"""Of the largest number of an output. Measured: 6e-6; the nearest other convention is off by more than 0.01."""
STORED = load_file(Path(__file__).parent / "stored" / "mindspore_seed.safetensors")


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """Their tensors, by way of their file."""
    theirs = {MINDSPORE.theirs(name): shape for name, shape in shapes(config.Model(), 80).items()}
    return read_ckpt(write_ckpt(tmp_path_factory.mktemp("mindspore") / "seed.ckpt", generate(theirs, SEED)))


@pytest.fixture(scope="module")
def weights(state):
    return read(MINDSPORE, state)


def answers(weights, model_settings):
    """What our network says where theirs was asked."""
    model = build(model_settings, 80).eval()
    model.load_state_dict(weights.tensors)
    boxes = torch.tensor([BOXES])
    with torch.no_grad():
        pyramid = model.neck(model.backbone(torch.from_numpy(normalised())))
        logits, deltas = model.rpn._predict(pyramid)
        classes, refined = model.box_head._predict(pyramid, boxes)
        images = torch.zeros(len(BOXES), dtype=torch.int64)
        # The head gives one class at a time: all 80 for 20 boxes would be 80 passes, so its parts are called.
        cells = model.mask_head.roi_align(pyramid[:4], boxes[0], images)
        doubled = model.mask_head.upsample(model.mask_head.convs(cells))
        masks = model.mask_head.upsample.arranged(model.mask_head.masks(doubled))
    rpn, head = model.rpn, model.box_head
    anchors, around = torch.cat(rpn._anchors(pyramid)), boxes[0, :, None].expand(-1, 80, -1)
    return {
        **{f"pyramid.{level}": x for level, x in enumerate(pyramid)},
        "objectness": torch.cat(logits, 1),
        "deltas": torch.cat(deltas, 1),
        "classes": classes[0].roll(-1, 1),
        "boxes": refined[0],
        "masks": masks,
        "proposals": decode(torch.cat(deltas, 1)[0], anchors, rpn.settings.delta_weights, rpn.settings.max_log_scale),
        "refined": decode(STRETCH * refined[0], around, head.settings.delta_weights, head.settings.max_log_scale),
    }


def differences(ours):
    """The largest difference of each output, as a share of its largest number."""
    sampled = {name: x.contiguous().flatten()[:: STRIDES[name]] for name, x in ours.items()}
    return {name: float((x - STORED[name]).abs().max() / STORED[name].abs().max()) for name, x in sampled.items()}


@pytest.fixture(scope="module")
def ours(weights):
    return answers(weights, weights.recipe.model)


@pytest.mark.parametrize("output", STRIDES)
def test_an_output_of_the_network_is_what_mindspore_computes(output, ours):
    assert differences(ours)[output] < CLOSE


@pytest.mark.parametrize(
    ("word", "output"),
    [
        ("backbone.stem_pool=centred", "pyramid.3"),
        ("neck.upsample=nearest", "pyramid.0"),
        ("roi_align.half_pixel=true", "classes"),
        ("roi_align.sampling_ratio=0", "classes"),
        ("roi_align.half_pixel=true", "masks"),
        ("rpn.anchor_offset=0.5", "proposals"),
        ("box_head.max_log_scale=4.135", "refined"),
    ],
)
def test_another_convention_would_be_seen(word, output, weights):
    other = answers(weights, override(weights.recipe, [f"model.{word}"], "other").model)
    assert differences(other)[output] > 100 * CLOSE


def test_what_was_read_is_written_as_it_was(state, weights):
    back = write(MINDSPORE, weights.tensors)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())


def test_the_recipe_has_the_conventions_of_its_evaluation(weights):
    recipe = weights.recipe
    assert recipe.model.backbone.kind == "resnet50"
    data = recipe.data
    assert (data.fit, data.short_sides, data.max_side, data.padding) == ("box", (768,), 1280, "black")
    assert (data.rounding, data.antialias, data.averaging) == ("nearest", True, "area")
    assert recipe.model.rpn.clip_to == "batch"
    assert (recipe.model.rpn.anchor_offset, recipe.model.rpn.num_test_candidates) == (0.0, 2000)
    assert (recipe.model.rpn.max_log_scale, recipe.model.box_head.max_log_scale) == (4.0, 4.0)
    assert (len(recipe.classes), recipe.classes[-1], recipe.category_ids[-1]) == (80, "toothbrush", 90)


def test_what_training_keeps_beside_the_weights_is_passed_over(state):
    kept = {
        "moments.backbone.bottom_up.conv1.weight": torch.zeros(64, 3, 7, 7),
        "learning_rate": torch.zeros(50),
        "global_step": torch.zeros(1, dtype=torch.int32),
        "momentum": torch.tensor(0.9),
        "scale_sense": torch.tensor(256.0),
        "epoch_num": torch.tensor(3),
    }
    assert read(MINDSPORE, {**state, **kept}).tensors.keys() == read(MINDSPORE, state).tensors.keys()


@pytest.mark.parametrize("model", ["resnet18", "resnet34", "resnet101", "resnet152", "resnext50_32x4d"])
def test_every_backbone_of_its_is_told_from_shapes(model):
    theirs = {
        MINDSPORE.theirs(name): shape
        for name, shape in shapes(config.Model(backbone=config.Backbone(kind=model)), 7).items()
    }
    recipe = MINDSPORE.describe({name: torch.empty(shape, device="meta") for name, shape in theirs.items()}, "").recipe
    assert (recipe.model.backbone.kind, len(recipe.classes)) == (model, 7)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda s: {n: t for n, t in s.items() if not n.startswith("mask_head")},
            "received a network without mask_head",
        ),
        (lambda s: {**s, "backbone.fpn_convs.0.conv.1.gamma": torch.ones(256)}, "conv.1.gamma is unknown"),
        (lambda s: {n: t for n, t in s.items() if "layer3.5" not in n}, "received 5 blocks"),
        (
            lambda s: {n: t for n, t in s.items() if n != "bbox_head.bbox_delta.weight"},
            "there is no bbox_head.bbox_delta.weight",
        ),
        (lambda s: {n: t for n, t in s.items() if ".upsample.6" not in n}, "upsample.6.weight is missing"),
        (lambda s: {**s, "bbox_head.extra": torch.ones(2)}, "bbox_head.extra is unknown"),
    ],
    ids=["faster", "norm", "depth", "missing", "convs", "unknown"],
)
def test_a_network_that_is_not_ours_is_refused_with_a_sentence(change, sentence, state):
    with pytest.raises(ValueError, match=sentence):
        read(MINDSPORE, change(state))
