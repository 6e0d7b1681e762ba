"""torchvision's names of a Mask R-CNN's tensors, both ways, without torchvision."""

import itertools
import re
from functools import cache
from pathlib import Path

import pytest
import torch

from maskrcnn.convert.framework import read, shapes, write
from maskrcnn.convert.torchvision import TORCHVISION
from maskrcnn.models.layers import FrozenBatchNorm

NAMES = Path(__file__).with_name("torchvision_names.txt")
OLD = (
    (r"(inner|layer)_blocks\.(\d)\.0\.", r"\1_blocks.\2."),
    (r"rpn\.head\.conv\.0\.0\.", "rpn.head.conv."),
    (r"mask_head\.(\d)\.0\.", lambda m: f"mask_head.mask_fcn{int(m[1]) + 1}."),
)


def listed(version):
    """Names and shapes of the file, written out."""
    found = {}
    for line in NAMES.read_text().splitlines():
        if line.startswith("#"):
            continue
        versions, pattern, shape = re.fullmatch(r"(v1 v2|v1|v2) +(\S+) +(.*)", line).groups()
        if version not in versions.split():
            continue
        parts = [part.split(",") for part in re.split(r"[{}]", pattern)]
        for name in map("".join, itertools.product(*parts)):
            if shape.startswith("norm "):
                for field in ("weight", "bias", "running_mean", "running_var"):
                    found[f"{name}.{field}"] = (int(shape.removeprefix("norm ")),)
                if version == "v2":
                    found[f"{name}.num_batches_tracked"] = ()
            else:
                found[name] = tuple(map(int, shape.split()))
    return found


def checkpoint(version, num_classes=90):
    """Numbers of the right shapes; another number of classes has other rows."""
    return dict(_checkpoint(version, num_classes))


@cache
def _checkpoint(version, num_classes):
    rows = {91: num_classes + 1, 364: 4 * (num_classes + 1)}
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in listed(version).items():
        if "predictor" in name:
            shape = tuple(rows.get(side, side) for side in shape)
        state[name] = torch.rand(shape, generator=generator) if shape else torch.tensor(7)
    return state


def old_names(state):
    renamed = {}
    for name, tensor in state.items():
        for pattern, replacement in OLD:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed


@pytest.mark.parametrize(("version", "number"), [("v1", 307), ("v2", 432)])
def test_the_table_gives_exactly_the_published_names_and_shapes(version, number):
    state = checkpoint(version)
    assert len(state) == number
    weights = read(TORCHVISION, state)
    assert {name: tensor.shape for name, tensor in weights.tensors.items()} == shapes(weights.recipe.model, 90)
    back = write(TORCHVISION, weights.tensors)
    assert {name: tuple(tensor.shape) for name, tensor in back.items()} == listed(version)


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("num_classes", [90, 80, 1])
def test_reading_and_writing_keeps_every_bit_but_the_rows_that_nothing_reads(version, num_classes):
    state = checkpoint(version, num_classes)
    weights = read(TORCHVISION, state)
    assert len(weights.recipe.classes) == num_classes
    back = write(TORCHVISION, weights.tensors)
    for name, tensor in state.items():
        unread = 4 if "bbox_pred" in name and "roi_heads" in name else 1 if "mask_fcn_logits" in name else 0
        assert torch.equal(back[name][unread:], tensor[unread:]) if unread else torch.equal(back[name], tensor), name
        assert not unread or not back[name][:unread].any()
    again = read(TORCHVISION, back)
    assert all(torch.equal(again.tensors[name], tensor) for name, tensor in weights.tensors.items())


def test_places_are_worked_out_by_hand():
    state = checkpoint("v2")
    ours = read(TORCHVISION, state).tensors
    assert torch.equal(ours["backbone.stem.weight"], state["backbone.body.conv1.weight"])
    assert torch.equal(ours["backbone.res4.5.conv2.norm.running_var"], state["backbone.body.layer3.5.bn2.running_var"])
    assert torch.equal(ours["backbone.res3.0.shortcut.weight"], state["backbone.body.layer2.0.downsample.0.weight"])
    assert torch.equal(ours["neck.lateral.3.norm.bias"], state["backbone.fpn.inner_blocks.3.1.bias"])
    assert torch.equal(ours["rpn.convs.1.bias"], state["rpn.head.conv.1.0.bias"])
    assert torch.equal(ours["box_head.fcs.0.weight"], state["roi_heads.box_head.5.weight"])
    assert torch.equal(
        ours["box_head.classes.bias"], state["roi_heads.box_predictor.cls_score.bias"]
    )  # background first
    assert torch.equal(ours["box_head.deltas.bias"], state["roi_heads.box_predictor.bbox_pred.bias"][4:])
    assert torch.equal(ours["mask_head.masks.weight"], state["roi_heads.mask_predictor.mask_fcn_logits.weight"][1:])


def test_the_recipe_has_torchvisions_conventions():
    recipe = read(TORCHVISION, checkpoint("v1")).recipe
    model, data = recipe.model, recipe.data
    assert (model.backbone.kind, model.backbone.norm, model.head_norm) == ("resnet50", "frozen_batch_norm", "none")
    assert (model.roi_align.half_pixel, model.roi_align.sampling_ratio, model.smooth_l1_beta) == (False, 2, 1 / 9)
    assert (model.backbone.stride_in_1x1, model.backbone.stem_pool, model.neck.upsample) == (
        False,
        "centred",
        "nearest",
    )
    assert (model.rpn.anchor_offset, model.rpn.round_anchors, model.rpn.anchor_strides) == (0.0, True, "divided")
    assert (model.rpn.num_train_candidates, model.rpn.num_train_proposals) == (2000, 2000)
    assert (model.rpn.num_test_candidates, model.rpn.num_test_proposals) == (1000, 1000)
    assert (model.box_head.score_threshold, model.box_head.nms_threshold, model.box_head.num_detections) == (
        0.05,
        0.5,
        100,
    )
    assert model.mask_head.paste == "inclusive"
    assert (data.rounding, data.antialias, data.short_sides, data.max_side) == ("down", False, (800,), 1333)
    assert recipe.classes[:2] == ("person", "bicycle")
    assert recipe.category_ids == tuple(range(1, 91))


def test_the_second_version_has_live_norms_and_more_convolutions():
    model = read(TORCHVISION, checkpoint("v2")).recipe.model
    assert (model.backbone.norm, model.head_norm) == ("batch_norm", "batch_norm")
    assert (model.rpn.num_convs, model.box_head.num_convs, model.box_head.num_fcs) == (2, 4, 1)


def test_a_model_without_pretrained_backbone_has_live_norms_there_alone():
    state = checkpoint("v1")
    state |= {
        name.replace("running_var", "num_batches_tracked"): torch.tensor(3)
        for name in state
        if name.endswith("running_var")
    }
    weights = read(TORCHVISION, state)
    assert (weights.recipe.model.backbone.norm, weights.recipe.model.head_norm) == ("batch_norm", "none")
    assert write(TORCHVISION, weights.tensors).keys() == state.keys()


@pytest.mark.parametrize(("depth", "blocks"), [(18, (2, 2, 2, 2)), (101, (3, 4, 23, 3)), (152, (3, 8, 36, 3))])
def test_other_depths_are_known_by_their_blocks(depth, blocks):
    state = {name: tensor for name, tensor in checkpoint("v1", 2).items() if "body.layer" not in name}
    inputs, expansion = 64, 1 if depth < 50 else 4
    for stage, number in enumerate(blocks):
        planes = 64 << stage
        for block in range(number):
            layer = f"backbone.body.layer{stage + 1}.{block}."
            sides = [(inputs, 3), (planes, 3)] if depth < 50 else [(inputs, 1), (planes, 3), (planes, 1)]
            for i, (channels, side) in enumerate(sides, 1):
                outputs = planes * expansion if i == len(sides) else planes
                state[f"{layer}conv{i}.weight"] = torch.zeros(outputs, channels, side, side)
                state |= norm(f"{layer}bn{i}", outputs)
            if block == 0 and inputs != planes * expansion:
                state[f"{layer}downsample.0.weight"] = torch.zeros(planes * expansion, inputs, 1, 1)
                state |= norm(f"{layer}downsample.1", planes * expansion)
            inputs = planes * expansion
    for i in range(4):
        state[f"backbone.fpn.inner_blocks.{i}.0.weight"] = torch.zeros(256, (64 << i) * expansion, 1, 1)
    weights = read(TORCHVISION, state)
    assert weights.recipe.model.backbone.kind == f"resnet{depth}"
    assert write(TORCHVISION, weights.tensors).keys() == state.keys()


def norm(name, channels):
    return {f"{name}.{field}": torch.ones(channels) for field in ("weight", "bias", "running_mean", "running_var")}


def test_names_before_0_13_are_read_and_mean_that_norms_have_no_eps():
    state = checkpoint("v1")
    tiny = state["backbone.body.layer1.0.bn1.running_var"] = torch.logspace(-12, 1, 64)
    old = read(TORCHVISION, old_names(state)).tensors
    new = read(TORCHVISION, state).tensors
    for name, tensor in new.items():
        if not re.search(r"norm\.weight$", name):
            assert torch.equal(old[name], tensor), name
    folded = FrozenBatchNorm(64)
    folded.load_state_dict({f: old[f"backbone.res2.0.conv1.norm.{f}"] for f in folded.state_dict()})
    expected = state["backbone.body.layer1.0.bn1.weight"] / tiny.sqrt()
    torch.testing.assert_close(folded.scale_and_shift()[0], expected, rtol=1e-6, atol=0)


def test_weights_of_a_wrapped_model_are_read():
    state = checkpoint("v1", 3)
    wrapped = read(TORCHVISION, {f"module.{name}": tensor for name, tensor in state.items()})
    assert all(torch.equal(wrapped.tensors[name], tensor) for name, tensor in read(TORCHVISION, state).tensors.items())


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("roi_heads.keypoint_head.0.weight", "received Keypoint R-CNN"),
        ("head.classification_head.conv.0.0.weight", "received a detector of one stage"),
        ("backbone.body.0.0.weight", "received MobileNet"),
    ],
)
def test_other_networks_are_named_by_their_tensors(name, what):
    with pytest.raises(ValueError, match=rf"{what}.* \(it has {re.escape(name)}\); choose another"):
        read(TORCHVISION, {**checkpoint("v1"), name: torch.zeros(1)})


def test_a_network_without_masks_is_refused():
    state = {name: tensor for name, tensor in checkpoint("v1").items() if "mask" not in name}
    with pytest.raises(ValueError, match="such as Faster R-CNN, which predicts no masks"):
        read(TORCHVISION, state)


def test_anchors_of_ones_own_are_refused():
    state = checkpoint("v1") | {"rpn.head.cls_logits.bias": torch.zeros(5)}
    with pytest.raises(ValueError, match=r"expected 3 anchors in each cell.* received 5"):
        read(TORCHVISION, state)
