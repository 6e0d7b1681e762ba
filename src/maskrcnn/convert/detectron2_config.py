"""Configuration with which Detectron2 runs our weights."""

from pathlib import Path
from typing import Any

import yaml

from maskrcnn.config import Data, Model, Recipe
from maskrcnn.models.layers import GroupNorm
from maskrcnn.models.mask_rcnn import head_norm
from maskrcnn.models.resnet import shape_of

NORMS = {
    "frozen_batch_norm": "FrozenBN",
    "fixed_batch_norm": "FrozenBN",
    "batch_norm": "BN",
    "sync_batch_norm": "SyncBN",
    "group_norm": "GN",
    None: "",
}
GROUPS = 32
"""Number of groups in Detectron2's group norm, for any number of channels."""
CANNOT = (
    "model.backbone.stem_pool", "model.neck.upsample", "model.rpn.round_anchors", "model.rpn.anchor_strides",
    "model.rpn.max_log_scale", "model.box_head.max_log_scale", "model.mask_head.paste", "data.rounding",
    "data.antialias", "data.averaging", "data.whole_levels", "data.fixed_point", "data.fit", "data.padding",
    "model.rpn.clip_to", "model.rpn.nms_across_levels", "model.box_head.clip",
)  # fmt: skip
"""Settings that Detectron2 does not have."""
ALWAYS = Recipe(data=Data(whole_levels=True))
"""Values of those settings in Detectron2."""


def config_of(recipe: Recipe, weights: Path) -> str:
    """Write YAML for `cfg.merge_from_file`. Raises ValueError for norms that Detectron2 does not have."""
    model, data = recipe.model, recipe.data
    _expect_groups("model.backbone.width", model.backbone.norm, model.backbone.width)
    _expect_groups("model.neck.channels", head_norm(model), model.neck.channels)
    sizes = {"MIN_SIZE_TEST": max(data.short_sides), "MAX_SIZE_TEST": data.max_side}
    settings = {
        "VERSION": 2,
        "INPUT": {"FORMAT": "RGB", "MIN_SIZE_TRAIN": list(data.short_sides), "MAX_SIZE_TRAIN": data.max_side, **sizes},
        "MODEL": {
            "META_ARCHITECTURE": "GeneralizedRCNN",
            "WEIGHTS": str(weights),
            "MASK_ON": True,
            "PIXEL_MEAN": list(data.mean),
            "PIXEL_STD": list(data.std),
            **_pyramid(model),
            **_rpn(model),
            **_roi_heads(model, len(recipe.classes)),
        },
        "TEST": {"DETECTIONS_PER_IMAGE": model.box_head.num_detections},
    }
    return yaml.safe_dump(settings, sort_keys=False)


def _pyramid(model: Model) -> dict[str, Any]:
    depth, groups, group_width = shape_of(model.backbone.kind)
    return {
        "BACKBONE": {"NAME": "build_resnet_fpn_backbone", "FREEZE_AT": model.backbone.frozen_stages},
        "RESNETS": {
            "DEPTH": depth,
            "NORM": NORMS[model.backbone.norm],
            "NUM_GROUPS": groups,
            "WIDTH_PER_GROUP": model.backbone.width * group_width // 64,
            "STRIDE_IN_1X1": model.backbone.stride_in_1x1,
            "STEM_OUT_CHANNELS": model.backbone.width,
            "RES2_OUT_CHANNELS": model.backbone.width * (4 if depth >= 50 else 1),
            "OUT_FEATURES": ["res2", "res3", "res4", "res5"],
        },
        "FPN": {
            "IN_FEATURES": ["res2", "res3", "res4", "res5"],
            "OUT_CHANNELS": model.neck.channels,
            "NORM": NORMS[head_norm(model)],
        },
    }


def _rpn(model: Model) -> dict[str, Any]:
    rpn = model.rpn
    return {
        "ANCHOR_GENERATOR": {
            "SIZES": [[size] for size in rpn.anchor_sizes],
            "ASPECT_RATIOS": [list(rpn.aspect_ratios)],
            "OFFSET": rpn.anchor_offset,
        },
        "RPN": {
            "IN_FEATURES": ["p2", "p3", "p4", "p5", "p6"],
            "CONV_DIMS": [-1] * rpn.num_convs,
            "BBOX_REG_WEIGHTS": list(rpn.delta_weights),
            "SMOOTH_L1_BETA": model.smooth_l1_beta,
            "IOU_THRESHOLDS": [rpn.negative_iou, rpn.positive_iou],
            "BATCH_SIZE_PER_IMAGE": rpn.num_samples,
            "POSITIVE_FRACTION": rpn.positive_fraction,
            "NMS_THRESH": rpn.nms_threshold,
            "PRE_NMS_TOPK_TRAIN": rpn.num_train_candidates,
            "PRE_NMS_TOPK_TEST": rpn.num_test_candidates,
            "POST_NMS_TOPK_TRAIN": rpn.num_train_proposals,
            "POST_NMS_TOPK_TEST": rpn.num_test_proposals,
        },
    }


def _roi_heads(model: Model, num_classes: int) -> dict[str, Any]:
    box, mask = model.box_head, model.mask_head
    pooler = {
        "POOLER_TYPE": "ROIAlignV2" if model.roi_align.half_pixel else "ROIAlign",
        "POOLER_SAMPLING_RATIO": model.roi_align.sampling_ratio,
        "NORM": NORMS[head_norm(model)],
    }
    return {
        "ROI_HEADS": {
            "NAME": "StandardROIHeads",
            "IN_FEATURES": ["p2", "p3", "p4", "p5"],
            "NUM_CLASSES": num_classes,
            "IOU_THRESHOLDS": [box.positive_iou],
            "BATCH_SIZE_PER_IMAGE": box.num_rois,
            "POSITIVE_FRACTION": box.positive_fraction,
            "SCORE_THRESH_TEST": box.score_threshold,
            "NMS_THRESH_TEST": box.nms_threshold,
        },
        "ROI_BOX_HEAD": {
            **pooler,
            "NAME": "FastRCNNConvFCHead",
            "POOLER_RESOLUTION": box.pool_size,
            "NUM_CONV": box.num_convs,
            "CONV_DIM": model.neck.channels,
            "NUM_FC": box.num_fcs,
            "FC_DIM": box.hidden,
            "CLS_AGNOSTIC_BBOX_REG": box.class_agnostic,
            "BBOX_REG_WEIGHTS": list(box.delta_weights),
            "SMOOTH_L1_BETA": model.smooth_l1_beta,
        },
        "ROI_MASK_HEAD": {
            **pooler,
            "NAME": "MaskRCNNConvUpsampleHead",
            "POOLER_RESOLUTION": mask.pool_size,
            "NUM_CONV": mask.num_convs,
            "CONV_DIM": mask.channels,
            "CLS_AGNOSTIC_MASK": mask.class_agnostic,
        },
    }


def _expect_groups(name: str, norm: str | None, channels: int) -> None:
    if norm == "group_norm" and GroupNorm(channels).num_groups != GROUPS:
        raise ValueError(
            f"Detectron2's group norm has {GROUPS} groups; these weights, with {name}={channels}, have "
            f"{GroupNorm(channels).num_groups}, so it cannot run them"
        )
