"""Detectron2's names, both ways, and what its models are taken for."""

import re
import runpy
from operator import attrgetter
from pathlib import Path

import pytest
import torch
from msgspec import to_builtins

from maskrcnn.convert.detectron2 import DETECTRON2
from maskrcnn.convert.framework import read, shapes, write

NAMES = runpy.run_path(str(Path(__file__).parents[1] / "parity" / "detectron2_reference.py"))["names_and_shapes"]()
"""Names and shapes in the state dicts of Detectron2's models."""
MSRA = {"kind": "resnet50", "norm": "frozen_batch_norm", "head_norm": "none", "stride_in_1x1": True}
GROUPED = {"norm": "group_norm", "head_norm": "group_norm", "stride_in_1x1": False}
LIVE = {"norm": "batch_norm", "head_norm": "batch_norm", "stride_in_1x1": True}
WHOLE, DEVIATION = (1.0, 1.0, 1.0), (58.395, 57.12, 57.375)
EXPECTED = {
    "r50": (MSRA, WHOLE),
    "r101": ({**MSRA, "kind": "resnet101"}, WHOLE),
    "x101": ({**MSRA, "kind": "resnext101_32x8d", "stride_in_1x1": False}, DEVIATION),
    "lsj": ({**MSRA, **LIVE}, WHOLE),
    "gn": ({**MSRA, **GROUPED}, WHOLE),
    "syncbn": ({**MSRA, **LIVE}, WHOLE),
    "agnostic": (MSRA, WHOLE),
}


def state_of(section):
    """Tensors that take no memory."""
    return {name: torch.empty(shape, device="meta") for name, shape in NAMES[section].items()}


@pytest.mark.parametrize("section", NAMES)
def test_every_tensor_has_its_name_in_both_directions(section):
    theirs = NAMES[section]
    tensors, recipe, _ = read(DETECTRON2, state_of(section))
    assert {name: tensor.shape for name, tensor in tensors.items()} == shapes(recipe.model, len(recipe.classes))
    written = write(DETECTRON2, tensors)
    assert {name: tuple(tensor.shape) for name, tensor in written.items()} == theirs


@pytest.mark.parametrize("section", NAMES)
def test_the_rules_of_the_model_zoo_say_what_weights_do_not(section):
    recipe, bgr = DETECTRON2.describe(DETECTRON2.modernise(state_of(section)), "")
    model, std = EXPECTED[section]
    found = {"head_norm": recipe.model.head_norm, **to_builtins(recipe.model.backbone)}
    assert {name: found[name] for name in model} == model
    assert (recipe.data.std, recipe.data.mean, bgr) == (std, (123.675, 116.28, 103.53), True)
    assert (
        recipe.model.roi_align.sampling_ratio,
        recipe.model.roi_align.half_pixel,
        recipe.model.rpn.anchor_offset,
    ) == (0, True, 0.0)
    assert recipe.model.rpn.num_convs == (2 if section == "lsj" else 1)
    heads = (recipe.model.box_head.num_convs, recipe.model.box_head.num_fcs)
    assert heads == ((4, 1) if section in ("lsj", "gn", "syncbn") else (0, 2))
    agnostic = (recipe.model.box_head.class_agnostic, recipe.model.mask_head.class_agnostic)
    assert agnostic == (section == "agnostic",) * 2


@pytest.mark.parametrize(
    ("name", "setting", "expected"),
    [
        ("detectron2://Misc/scratch_mask_rcnn_R_50_FPN_9x_syncbn", "data.std", DEVIATION),
        ("detectron2://Misc/scratch_mask_rcnn_R_50_FPN_9x_syncbn", "model.backbone.stride_in_1x1", False),
        ("detectron2://Misc/scratch_mask_rcnn_R_50_FPN_3x_gn", "data.std", WHOLE),
        ("detectron2://Cityscapes/mask_rcnn_R_50_FPN", "data.short_sides", (1024,)),
        ("detectron2://Detectron1-Comparisons/mask_rcnn_R_50_FPN_noaug_1x", "model.roi_align.half_pixel", False),
        ("detectron2://Detectron1-Comparisons/mask_rcnn_R_50_FPN_noaug_1x", "model.roi_align.sampling_ratio", 2),
    ],
)
def test_a_published_name_says_what_tensors_do_not(name, setting, expected):
    section = "gn" if name.endswith("_gn") else "syncbn" if name.endswith("_syncbn") else "r50"
    recipe, _ = DETECTRON2.describe(state_of(section), name)
    assert attrgetter(setting)(recipe) == expected


@pytest.mark.parametrize(
    ("mean", "std", "bgr", "stride_in_1x1"),
    [
        ((103.53, 116.28, 123.675), WHOLE, True, True),
        ((103.53, 116.28, 123.675), DEVIATION[::-1], True, False),
        ((123.675, 116.28, 103.53), DEVIATION, False, False),
    ],
)
def test_a_file_with_its_pixel_mean_is_taken_at_its_word(mean, std, bgr, stride_in_1x1):
    pixels = {"pixel_mean": torch.tensor(mean).view(3, 1, 1), "pixel_std": torch.tensor(std).view(3, 1, 1)}
    tensors, recipe, _ = read(DETECTRON2, {**state_of("r50"), **pixels})
    assert recipe.data.mean == (123.675, 116.28, 103.53)
    assert recipe.data.std == (WHOLE if std == WHOLE else DEVIATION)
    assert DETECTRON2.describe({**state_of("r50"), **pixels}, "").bgr == bgr
    assert recipe.model.backbone.stride_in_1x1 == stride_in_1x1
    assert "pixel_mean" not in tensors


def test_blue_comes_first_and_the_background_last():
    state = state_of("r50")
    state["backbone.bottom_up.stem.conv1.weight"] = torch.arange(3.0).view(1, 3, 1, 1).expand(64, 3, 7, 7)
    state["roi_heads.box_predictor.cls_score.bias"] = torch.arange(81.0)
    tensors = read(DETECTRON2, state).tensors
    assert tensors["backbone.stem.weight"][5, :, 1, 2].tolist() == [2, 1, 0]
    assert tensors["box_head.classes.bias"][:3].tolist() == [80, 0, 1]


def test_frozen_norms_written_without_statistics_have_those_that_detectron2_gives_them():
    state = {name: tensor for name, tensor in state_of("r50").items() if "running" not in name}
    scale = "backbone.bottom_up.res2.0.conv1.norm.weight"
    state[scale] = torch.full((64,), 3.0)
    tensors, recipe, _ = read(DETECTRON2, state)
    assert recipe.model.backbone.norm == "frozen_batch_norm"
    assert tensors["backbone.res2.0.conv1.norm.running_mean"].tolist() == [0.0] * 64
    assert tensors["backbone.res2.0.conv1.norm.running_var"].tolist() == [1.0] * 64


def test_anchors_that_old_files_hold_are_left_out():
    anchors = {"proposal_generator.anchor_generator.cell_anchors.0": torch.zeros(3, 4)}
    assert (
        read(DETECTRON2, {**state_of("r50"), **anchors}).tensors.keys()
        == read(DETECTRON2, state_of("r50")).tensors.keys()
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("roi_heads.res5.0.conv1.weight", "a C4 model"),
        ("backbone.res5.0.conv1.weight", "without a pyramid, such as DC5"),
        ("roi_heads.box_head.0.fc1.weight", "a cascade of box heads"),
        ("roi_heads.keypoint_head.conv_fcn1.weight", "a keypoint model"),
        ("roi_heads.mask_head.point_head.fc1.weight", "a PointRend model"),
        ("roi_heads.mask_point_head.fc1.weight", "a PointRend model"),
        ("sem_seg_head.p2.0.weight", "a panoptic model"),
        ("head.cls_subnet.0.weight", "a one-stage model, such as RetinaNet or FCOS"),
        ("backbone.bottom_up.res3.0.conv2_offset.weight", "deformable convolutions"),
        ("backbone.bottom_up.s1.b1.a.weight", "a RegNet model"),
        ("backbone.net.blocks.0.norm1.weight", "another backbone than a ResNet"),
    ],
)
def test_models_of_another_kind_are_refused_by_name(name, words):
    with pytest.raises(ValueError, match=f"{words}.*\\(it has {re.escape(name)}\\)"):
        read(DETECTRON2, {**state_of("r50"), name: torch.zeros(1)})


def test_a_detector_without_masks_is_refused():
    state = {name: tensor for name, tensor in state_of("r50").items() if "mask_head" not in name}
    with pytest.raises(ValueError, match="Faster R-CNN, which predicts no masks"):
        read(DETECTRON2, state)
