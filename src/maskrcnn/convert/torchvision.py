"""torchvision's `maskrcnn_resnet50_fpn`, its `_v2`, and what its helpers build with other depths and classes.

Source: `models/detection` of torchvision 0.29; names before 0.13 are read too.
"""

import re

import torch
from msgspec.structs import replace
from torch import Tensor

from maskrcnn.config import Data, Recipe
from maskrcnn.convert.classes import coco_classes
from maskrcnn.convert.framework import Described, Framework, Rule, State
from maskrcnn.convert.structure import structure_of
from maskrcnn.models.layers import FrozenBatchNorm

RULES: tuple[Rule, ...] = (
    (r"^backbone\.stem\.norm\.", "backbone.body.bn1."),
    (r"^backbone\.stem\.", "backbone.body.conv1."),
    (r"^backbone\.res(\d)\.", lambda m: f"backbone.body.layer{int(m[1]) - 1}."),
    (r"^(backbone\..*)\.conv(\d)\.norm\.", r"\1.bn\2."),
    (r"\.shortcut\.norm\.", ".downsample.1."),
    (r"\.shortcut\.", ".downsample.0."),
    (r"^neck\.lateral\.", "backbone.fpn.inner_blocks."),
    (r"^neck\.output\.", "backbone.fpn.layer_blocks."),
    (r"^rpn\.convs\.", "rpn.head.conv."),
    (r"^rpn\.objectness\.", "rpn.head.cls_logits."),
    (r"^rpn\.deltas\.", "rpn.head.bbox_pred."),
    (r"^box_head\.fcs\.(\d)\.", lambda m: f"roi_heads.box_head.fc{int(m[1]) + 6}."),
    (r"^box_head\.classes\.", "roi_heads.box_predictor.cls_score."),
    (r"^box_head\.deltas\.", "roi_heads.box_predictor.bbox_pred."),
    (r"^mask_head\.upsample\.", "roi_heads.mask_predictor.conv5_mask."),
    (r"^mask_head\.masks\.", "roi_heads.mask_predictor.mask_fcn_logits."),
    (r"^(box_head|mask_head)\.convs\.", r"roi_heads.\1."),
    # The remaining convolutions with norms are blocks of (convolution, norm) there.
    (r"^(backbone\.fpn\.\w+|rpn\.head\.conv|roi_heads\.(?:box|mask)_head)\.(\d)\.norm\.", r"\1.\2.1."),
    (r"^(backbone\.fpn\.\w+|rpn\.head\.conv|roi_heads\.(?:box|mask)_head)\.(\d)\.(weight|bias)$", r"\1.\2.0.\3"),
)
OLD_NAMES = (
    (r"^(backbone\.fpn\.(?:inner|layer)_blocks\.\d)\.(weight|bias)$", r"\1.0.\2"),
    (r"^rpn\.head\.conv\.(weight|bias)$", r"rpn.head.conv.0.0.\1"),
    (r"^(roi_heads\.mask_head)\.mask_fcn(\d)\.", lambda m: f"{m[1]}.{int(m[2]) - 1}.0."),
)
"""Substitutions from names before 0.13 to today's."""
BEFORE_0_13 = "rpn.head.conv.weight"
LINEAR = r"^roi_heads\.box_head\.(\d+)\.(weight|bias)$"
"""Pattern of a fully connected layer after convolutions, which is numbered like them."""
OTHERS = (
    (r"^roi_heads\.keypoint_", "Keypoint R-CNN"),
    (r"^head\.", "a detector of one stage (RetinaNet, FCOS or SSD)"),
    (r"^backbone\.body\.(0\.|features)", "MobileNet"),
)
"""Patterns of tensor names that other networks have, and what to call those."""
ANCHORS = 3


def _modernise(state: State) -> dict[str, Tensor]:
    """Convert to today's names, with `fc6`, `fc7`, ... for the fully connected layers of every box head.

    Old names mean frozen norms with eps 0, as torchvision sets it for its published file. Scales are enlarged so that
    our norms, which add their eps, give the same result.
    """
    state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    num_convs = sum(re.fullmatch(r"roi_heads\.box_head\.\d\.0\.weight", name) is not None for name in state)
    modern = {}
    for name, tensor in state.items():
        variance = state.get(f"{name.removesuffix('.weight')}.running_var")
        if variance is not None and BEFORE_0_13 in state and _is_frozen(state, name):
            tensor = torch.where(variance > 0, tensor * (1 + FrozenBatchNorm.eps / variance).sqrt(), tensor)
        for pattern, replacement in OLD_NAMES:
            name = re.sub(pattern, replacement, name)
        name = re.sub(LINEAR, lambda m: f"roi_heads.box_head.fc{(int(m[1]) - num_convs - 1) // 2 + 6}.{m[2]}", name)
        modern[name] = tensor
    return modern


def _number_layers(state: State) -> dict[str, Tensor]:
    """Invert `_modernise`: fully connected layers are numbered after convolutions, a flattening and ReLUs."""
    num_convs = sum(re.fullmatch(r"roi_heads\.box_head\.\d\.0\.weight", name) is not None for name in state)
    if not num_convs:
        return dict(state)
    linear = r"^roi_heads\.box_head\.fc(\d)\."
    return {
        re.sub(linear, lambda m: f"roi_heads.box_head.{num_convs + 1 + 2 * (int(m[1]) - 6)}.", name): tensor
        for name, tensor in state.items()
    }


def _describe(state: State, hint: str) -> Described:
    """Derive everything from names and shapes but the anchors, of which torchvision's helpers have one kind."""
    objectness = state.get("rpn.head.cls_logits.bias")
    anchors = ANCHORS if objectness is None else objectness.numel()
    if anchors != ANCHORS:
        raise ValueError(
            f"expected {ANCHORS} anchors in each cell, as torchvision's Mask R-CNN has, received {anchors}, whose "
            "sizes and ratios the file does not contain; choose another checkpoint"
        )
    model, num_classes = structure_of(state, TORCHVISION.theirs, background_everywhere=True)
    backbone_norm, head_norm = (
        "batch_norm" if norm == "frozen_batch_norm" and not _is_frozen(state, name) else norm
        for norm, name in (
            (model.backbone.norm, "backbone.body.bn1.weight"),
            (model.head_norm, "backbone.fpn.inner_blocks.0.1.weight"),
        )
    )
    model = replace(
        model,
        backbone=replace(model.backbone, norm=backbone_norm),
        head_norm=head_norm,
        roi_align=replace(model.roi_align, half_pixel=False),
        smooth_l1_beta=1 / 9,
        rpn=replace(
            model.rpn, anchor_offset=0.0, round_anchors=True, anchor_strides="divided", num_train_proposals=2000
        ),
        mask_head=replace(model.mask_head, paste="inclusive"),
    )
    names, ids = coco_classes(num_classes)
    data = Data(rounding="down", antialias=False)
    return Described(
        Recipe(name=f"torchvision_{model.backbone.kind}", data=data, model=model, classes=names, category_ids=ids)
    )


def _is_frozen(state: State, name: str) -> bool:
    """Tell whether a tensor's norm is frozen: only a live one counts its batches."""
    return f"{name.rpartition('.')[0]}.num_batches_tracked" not in state


TORCHVISION = Framework(
    name="torchvision",
    rules=RULES,
    describe=_describe,
    mark=r"^(module\.)?backbone\.body\.",
    others=OTHERS,
    background_last=False,
    background_everywhere=True,
    modernise=_modernise,
    finish=_number_layers,
)
