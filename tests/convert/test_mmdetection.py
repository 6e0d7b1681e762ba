"""MMDetection's names of a Mask R-CNN's tensors, both ways, without MMDetection."""

import itertools
import re
from functools import cache
from pathlib import Path

import pytest
import torch

from maskrcnn.config import Data
from maskrcnn.convert.framework import read, shapes, write
from maskrcnn.convert.mmdetection import MMDETECTION

NAMES = Path(__file__).with_name("mmdetection_names.txt")
MODELS = {
    "r50": "resnet50",
    "r101": "resnet101",
    "r18": "resnet18",
    "x101-32x4d": "resnext101_32x4d",
    "x101-32x8d": "resnext101_32x8d",
    "x101-64x4d": "resnext101_64x4d",
    "gn": "resnet50",
    "syncbn": "resnet50",
}
IMAGENET = Data().std
WHOLE = (1.0, 1.0, 1.0)


@cache
def listed(model):
    """Names and shapes of a section of the list, written out."""
    section = re.search(rf"^\[{model}\].*\n((?:[^\[].*\n)+)", NAMES.read_text(), re.MULTILINE)[1]
    found = {}
    for line in section.splitlines():
        pattern, *shape = line.split()
        parts = [part.split(",") for part in re.split(r"[{}]", pattern)]
        found.update({"".join(choice): tuple(map(int, shape)) for choice in itertools.product(*parts)})
    return found


def checkpoint(model, means=0.5, **changes):
    """Its tensors without their numbers, but for those that tell the style."""
    state = {name: torch.empty(shape, device="meta") for name, shape in listed(model).items()}
    if model != "gn":
        state["backbone.bn1.running_mean"] = torch.full((64,), means)
    return {**state, **changes}


def described(state, hint=""):
    return MMDETECTION.describe(MMDETECTION.modernise(state), hint)


def without_counters(names):
    return {name for name in names if not re.search(MMDETECTION.idle, name)}


@pytest.mark.parametrize("model", MODELS)
def test_every_tensor_of_mmdetection_has_a_place_of_its_shape(model):
    tensors, recipe, _ = read(MMDETECTION, checkpoint(model))
    assert recipe.model.backbone.kind == MODELS[model]
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {
        name: tuple(shape) for name, shape in shapes(recipe.model, 80).items()
    }


@pytest.mark.parametrize("model", [model for model in MODELS if model not in ("gn", "syncbn")])
def test_every_tensor_of_ours_has_mmdetections_name_and_shape(model):
    ours = shapes(described(checkpoint(model)).recipe.model, 80)
    theirs = {MMDETECTION.theirs(name): tuple(shape) for name, shape in ours.items()}
    expected = listed(model)
    assert theirs == {name: expected[name] for name in without_counters(expected)}


def test_norms_in_the_heads_and_two_convolutions_in_the_rpn_are_seen():
    model = described(checkpoint("syncbn")).recipe.model
    assert (model.backbone.norm, model.head_norm) == ("frozen_batch_norm", "frozen_batch_norm")
    assert (model.rpn.num_convs, model.box_head.num_convs, model.box_head.num_fcs) == (2, 4, 1)
    model = described(checkpoint("gn")).recipe.model
    assert (model.backbone.norm, model.head_norm) == ("group_norm", "group_norm")
    assert (model.rpn.num_convs, model.box_head.num_convs, model.box_head.num_fcs) == (1, 4, 1)
    model = described(checkpoint("r50")).recipe.model
    assert (model.backbone.norm, model.head_norm) == ("frozen_batch_norm", "none")
    assert (model.rpn.num_convs, model.box_head.num_convs, model.box_head.num_fcs) == (1, 0, 2)


def test_the_recipe_has_the_conventions_of_its_configurations():
    recipe = described(checkpoint("r50")).recipe
    assert (recipe.data.short_sides, recipe.data.max_side, recipe.data.antialias) == ((800,), 1333, False)
    model = recipe.model
    assert (model.roi_align.sampling_ratio, model.roi_align.half_pixel, model.smooth_l1_beta) == (0, True, 0)
    assert (model.rpn.anchor_offset, model.rpn.round_anchors, model.rpn.anchor_strides) == (0, False, "exact")
    assert (model.rpn.num_test_candidates, model.rpn.num_test_proposals, model.rpn.nms_threshold) == (1000, 1000, 0.7)
    assert (model.box_head.score_threshold, model.box_head.nms_threshold, model.box_head.num_detections) == (
        0.05,
        0.5,
        100,
    )
    assert (model.rpn.delta_weights, model.box_head.delta_weights) == ((1, 1, 1, 1), (10, 10, 5, 5))
    assert (recipe.classes[0], recipe.classes[-1], recipe.category_ids[-1]) == ("person", "toothbrush", 90)


CAFFE_CONFIG = """img_norm_cfg = dict(
    mean=[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0], to_rgb=False)
model = dict(backbone=dict(depth=50, style='caffe'))"""
OWN_CONFIG = """model = dict(data_preprocessor=dict(bgr_to_rgb=True, mean=[
            10.5,
            20,
            30,
        ], std=[
            1.5,
            2,
            3,
        ]), backbone=dict(style='pytorch'))"""


@pytest.mark.parametrize(
    ("model", "means", "hint", "bgr", "stride_in_1x1", "std"),
    [
        ("r50", 0.5, "", False, False, IMAGENET),
        ("r50", 0.0, "epoch_12", True, True, WHOLE),
        ("r50", 0.5, "mask_rcnn_r50_caffe_fpn_1x_coco", True, True, WHOLE),
        ("r101", 0.0, "", True, True, WHOLE),
        ("x101-32x8d", 0.0, "", True, False, IMAGENET),
        ("x101-32x4d", 0.5, "", False, False, IMAGENET),
        ("gn", None, "", True, False, WHOLE),
        ("gn", None, "mask_rcnn_r50_fpn_gn-all_contrib_2x_coco", False, False, IMAGENET),
        ("gn", None, "scratch_mask_rcnn_r50_fpn_gn_6x", False, False, IMAGENET),
        ("r50", 0.5, CAFFE_CONFIG, True, True, WHOLE),
        ("r50", 0.0, OWN_CONFIG, False, False, (1.5, 2.0, 3.0)),
    ],
)
def test_the_style_is_told_by_weights_name_and_configuration(model, means, hint, bgr, stride_in_1x1, std):
    recipe, found = described(checkpoint(model, means), hint)
    assert (found, recipe.model.backbone.stride_in_1x1, recipe.data.std) == (bgr, stride_in_1x1, std)
    assert recipe.data.mean == ((10.5, 20.0, 30.0) if hint == OWN_CONFIG else Data().mean)


def test_what_was_read_is_written_as_it_was():
    generator = torch.Generator().manual_seed(0)
    state = {name: torch.rand(listed("r18")[name], generator=generator) for name in without_counters(listed("r18"))}
    for hint, bgr in (("", False), ("caffe", True)):
        tensors = read(MMDETECTION, state, hint).tensors
        stem = state["backbone.conv1.weight"]
        assert torch.equal(tensors["backbone.stem.weight"], stem.flip(1) if bgr else stem)
        rows = state["roi_head.bbox_head.fc_cls.bias"]
        assert tensors["box_head.classes.bias"].tolist() == [rows[80], *rows[:80]]
        back = write(MMDETECTION, tensors, bgr)
        assert back.keys() == state.keys()
        assert all(torch.equal(back[name], tensor) for name, tensor in state.items())


OTHERS = {
    "roi_head.bbox_head.0.fc_cls.weight": "cascade",
    "roi_head.mask_head.2.conv_res.conv.weight": "HTC",
    "roi_head.mask_iou_head.convs.0.weight": "Mask Scoring",
    "roi_head.point_head.fcs.0.conv.weight": "PointRend",
    "roi_head.grid_head.convs.0.conv.weight": "Grid R-CNN",
    "roi_head.keypoint_head.convs.0.weight": "keypoints",
    "roi_head.bbox_roi_extractor.pre_module.conv.weight": "GRoIE",
    "roi_head.shared_head.layer4.0.conv1.weight": "C4",
    "roi_head.bbox_head.conv_branch.0.conv1.conv.weight": "Double-Head",
    "roi_head.bbox_head.loss_cls.cum_samples": "Seesaw",
    "roi_head.mask_head.upsample.channel_compressor.weight": "CARAFE",
    "backbone.layer2.0.conv2.conv_offset.weight": "deformable",
    "backbone.layer2.0.conv2_offset.weight": "deformable",
    "backbone.layer3.0.context_block.conv_mask.weight": "context",
    "backbone.layer3.0.gen_attention_block.gamma": "attention",
    "backbone.stem.0.weight": "no plain ResNet",
    "backbone.patch_embed.projection.weight": "no plain ResNet",
    "backbone.layer1.0.convs.0.weight": "no plain ResNet",
    "neck.pafpn_convs.0.conv.weight": "neck",
    "neck.1.refine.g.conv.weight": "neck",
    "rpn_head.conv_loc.weight": "guided",
    "semantic_head.conv_logits.weight": "panoptic",
    "bbox_head.retina_cls.weight": "one stage",
    "bbox_head.fc_cls.weight": "1.x",
    "mask_head.convs.0.conv.weight": "1.x",
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_network_is_refused_by_the_name_that_betrays_it(name):
    with pytest.raises(ValueError, match=rf"received .*{OTHERS[name]}.*\(it has {re.escape(name)}\)"):
        read(MMDETECTION, checkpoint("r50", **{name: torch.empty(1)}))


def test_a_network_without_masks_is_refused():
    state = {name: tensor for name, tensor in checkpoint("r50").items() if "mask_head" not in name}
    with pytest.raises(ValueError, match="Faster R-CNN"):
        read(MMDETECTION, state)


def test_a_backbone_of_other_depth_is_refused():
    state = {name: tensor for name, tensor in checkpoint("r50").items() if "layer3.5." not in name}
    with pytest.raises(ValueError, match="5 blocks"):
        read(MMDETECTION, state)


@pytest.mark.parametrize("hint", ["mask_rcnn_r50_fpn_gn_ws-all_2x_coco", "conv_cfg=dict(type='ConvWS')"])
def test_weight_standardization_is_refused_by_name_since_tensors_do_not_show_it(hint):
    with pytest.raises(ValueError, match="standardization"):
        read(MMDETECTION, checkpoint("gn"), hint)
