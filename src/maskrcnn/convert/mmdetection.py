"""MMDetection 2.x and 3.x: its tensor names, and the conventions of its configurations.

Source: `configs/mask_rcnn`, `gn`, `gcnet` and `simple_copy_paste` of MMDetection 3.3.
"""

import re
from collections.abc import Callable, Mapping

from msgspec.structs import replace
from torch import Tensor

from maskrcnn.config import Data, Recipe, RoIAlign
from maskrcnn.convert.classes import coco_classes
from maskrcnn.convert.framework import Described, Framework
from maskrcnn.convert.structure import structure_of

RULES: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r"^backbone\.stem\.norm\.", "backbone.bn1."),
    (r"^backbone\.stem\.", "backbone.conv1."),
    (r"^backbone\.res(\d)\.", lambda m: f"backbone.layer{int(m[1]) - 1}."),
    (r"\.shortcut\.norm\.", ".downsample.1."),
    (r"\.shortcut\.", ".downsample.0."),
    (r"^(backbone\..*)\.conv(\d)\.norm\.", r"\1.bn\2."),
    (r"^neck\.lateral\.(\d)\.", r"neck.lateral_convs.\1.conv."),
    (r"^neck\.output\.(\d)\.", r"neck.fpn_convs.\1.conv."),
    (r"^rpn\.convs\.0\.", "rpn_head.rpn_conv."),
    (r"^rpn\.convs\.", "rpn_head.rpn_conv."),
    (r"^rpn\.objectness\.", "rpn_head.rpn_cls."),
    (r"^rpn\.deltas\.", "rpn_head.rpn_reg."),
    (r"^box_head\.convs\.(\d)\.", r"roi_head.bbox_head.shared_convs.\1.conv."),
    (r"^box_head\.fcs\.", "roi_head.bbox_head.shared_fcs."),
    (r"^box_head\.classes\.", "roi_head.bbox_head.fc_cls."),
    (r"^box_head\.deltas\.", "roi_head.bbox_head.fc_reg."),
    (r"^mask_head\.convs\.(\d)\.", r"roi_head.mask_head.convs.\1.conv."),
    (r"^mask_head\.upsample\.", "roi_head.mask_head.upsample."),
    (r"^mask_head\.masks\.", "roi_head.mask_head.conv_logits."),
    (r"\.conv\.norm\.", ".bn."),
)

OTHERS = (
    (r"^(bbox_head\.(fc_|shared_)|mask_head\.(convs|conv_logits)\.)", "a file of MMDetection 1.x, whose boxes differ"),
    (r"^(bbox_head|mask_head)\.", "a network of one stage"),
    (r"^(panoptic_head|semantic_head|panoptic_fusion_head)\.", "a network for panoptic segmentation"),
    (r"^roi_head\.(bbox_head|mask_head)\.\d+\.", "a cascade of heads, as in Cascade Mask R-CNN and HTC"),
    (r"^roi_head\.mask_iou_head\.", "Mask Scoring R-CNN"),
    (r"^roi_head\.(point_head|mask_head\.fcs)\.", "PointRend"),
    (r"^roi_head\.grid_head\.", "Grid R-CNN"),
    (r"^roi_head\.keypoint_head\.", "a network for keypoints"),
    (r"^roi_head\.(bbox|mask)_roi_extractor\.", "a Mask R-CNN with GRoIE"),
    (r"^roi_head\.shared_head\.", "a Mask R-CNN on C4, without a pyramid"),
    (r"^roi_head\.bbox_head\.(conv_branch|fc_branch|res_block)\.", "Double-Head R-CNN"),
    (r"^roi_head\.bbox_head\.loss_cls\.", "a Mask R-CNN with the Seesaw loss, which scores objectness too"),
    (r"^roi_head\.mask_head\.upsample\.\w+\.\w+", "a Mask R-CNN with CARAFE"),
    (r"^rpn_head\.(?!rpn_)", "a network with guided or cascaded anchors"),
    (r"^neck\.(?!(lateral_convs|fpn_convs)\.\d\.(conv|bn)\.)", "a network with another neck than FPN"),
    (r"\.conv2(_offset|\.conv_offset)\.", "a Mask R-CNN with deformable convolutions"),
    (r"\.context_block\d*\.", "a Mask R-CNN with global context blocks"),
    (r"\.gen_attention_block\d*\.", "a network with attention blocks"),
    (r"^backbone\.(?!(conv1|bn1|layer\d\.\d+\.((conv|bn)\d|downsample\.[01]))\.\w+$)", "a network on no plain ResNet"),
)
"""Patterns of tensor names that other networks have, and what to call those."""
SPELLINGS = (
    (r"\.gn(\d?)\.", r".bn\1."),
    (r"^rpn_head\.rpn_conv\.0\.conv\.", "rpn_head.rpn_conv."),
    (r"^rpn_head\.rpn_conv\.(\d)\.conv\.", r"rpn_head.rpn_conv.\1."),
)
"""Substitutions for other names of group norms, and of several convolutions in the RPN."""
DIVIDED = "resnext101_32x8d"
"""Caffe2 backbone that takes pixels divided by their deviation; all others from Caffe take them undivided."""
COLOURS = re.compile(r"to_rgb=(True|False)")
"""Pattern of the channel order in a configuration."""


def _modernise(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    modern = {}
    for name, tensor in state.items():
        for pattern, replacement in SPELLINGS:
            name = re.sub(pattern, replacement, name)
        modern[name] = tensor
    return modern


def _describe(state: Mapping[str, Tensor], hint: str = "") -> Described:
    """Derive the structure from names and shapes, and the style of the backbone and its pixels from the hint.

    hint   published or file name, and the configuration in the file; empty where neither is known
    """
    if re.search(r"gn[-_+]ws|gn%2Bws|ConvWS", hint):
        raise ValueError(
            "expected MMDetection's plain Mask R-CNN, received one with weight standardization (its name says so, its "
            "tensors cannot); choose another checkpoint"
        )
    structure = structure_of(state, MMDETECTION.theirs, background_everywhere=False)
    backbone, norm = structure.model.backbone, structure.model.backbone.norm
    bgr = _is_blue_first(state, norm, hint)
    whole = bgr and backbone.kind != DIVIDED
    model = replace(
        structure.model,
        backbone=replace(
            backbone,
            stride_in_1x1="style='caffe'" in hint if COLOURS.search(hint) else whole and norm != "group_norm",
        ),
        roi_align=RoIAlign(sampling_ratio=0),
        rpn=replace(structure.model.rpn, anchor_offset=0.0),
    )
    data = Data(
        mean=_triple("mean", hint, bgr) or Data().mean,
        std=_triple("std", hint, bgr) or ((1.0, 1.0, 1.0) if whole else Data().std),
        antialias=False,
    )
    names, ids = coco_classes(structure.num_classes)
    recipe = Recipe(name=f"mmdetection_{backbone.kind}", data=data, model=model, classes=names, category_ids=ids)
    return Described(recipe, bgr)


def _is_blue_first(state: Mapping[str, Tensor], norm: str, hint: str) -> bool:
    """Tell whether the network takes BGR: from the configuration, or else whether it comes from Caffe or Caffe2.

    Those have only a scale and a shift for batch norm, so that all means are 0. Group norm has no means: its backbones
    are Detectron's unless the hint says `contrib` or `scratch`.
    """
    told = COLOURS.search(hint)
    if told is not None:
        return told[1] == "False"
    if norm == "group_norm":
        return re.search("contrib|scratch", hint) is None
    means = state.get("backbone.bn1.running_mean")
    return "caffe" in hint or (means is not None and not means.any().item())


def _triple(name: str, hint: str, bgr: bool) -> tuple[float, float, float] | None:
    """Read `mean` or `std` of a configuration as red, green, blue."""
    number = r"\s*([\d.]+)\s*"
    found = re.search(rf"\b{name}=\[{number},{number},{number},?\s*\]", hint)
    if found is None:
        return None
    first, second, third = map(float, found.groups())
    return (third, second, first) if bgr else (first, second, third)


MMDETECTION = Framework(
    name="mmdetection",
    rules=RULES,
    describe=_describe,
    others=OTHERS,
    mark=r"^(roi_head|rpn_head\.rpn_(conv|cls|reg)|neck\.(lateral|fpn)_convs|bbox_head\.(fc_cls|shared_fcs))\.",
    idle=r"\.num_batches_tracked$",
    modernise=_modernise,
)
