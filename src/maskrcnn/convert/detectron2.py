"""Detectron2: its tensor names, and the conventions of its configurations.

Weights do not say how pixels are prepared nor where a bottleneck has its stride. The model zoo's rules decide:

    R50, R101                     MSRA's backbone: stride in the 1 x 1, BGR minus ImageNet's mean, not divided
    R50, R101 with batch norm     the same (3x_syncbn, LSJ of the new baselines)
    R50 with group norm           stride in the 3 x 3, BGR minus the mean, not divided
    X101-32x8d                    stride in the 3 x 3, BGR minus the mean, divided by ImageNet's deviation
    9x_gn, 9x_syncbn (scratch)    stride in the 3 x 3, BGR minus the mean, divided by ImageNet's deviation

A file with `pixel_mean` and `pixel_std` tells itself: where pixels are divided the stride is in the 3 x 3, and a mean
that begins with its largest number is RGB. The published name tells the last row, the baseline without augmentation
(`noaug`), which has Detectron's RoIAlign (no half-cell shift, two samples), and Cityscapes, which has images with a
short side of 1024.
Source: `configs` of Detectron2 0.6; `modeling` and `checkpoint` for what old files lack.
"""

import re

import torch
from msgspec.structs import replace
from torch import Tensor

from maskrcnn.config import Data, Recipe, RoIAlign
from maskrcnn.convert.classes import coco_classes
from maskrcnn.convert.framework import Described, Framework, Rule, State
from maskrcnn.convert.structure import structure_of
from maskrcnn.models.resnet import shape_of

RULES: tuple[Rule, ...] = (
    (r"^backbone\.stem\.", "backbone.bottom_up.stem.conv1."),
    (r"^backbone\.res", "backbone.bottom_up.res"),
    (r"^neck\.(lateral|output)\.(\d)\.", lambda m: f"backbone.fpn_{m[1]}{int(m[2]) + 2}."),
    (r"^rpn\.convs\.0\.", "proposal_generator.rpn_head.conv."),
    (r"^rpn\.convs\.(\d)\.", r"proposal_generator.rpn_head.conv.conv\1."),
    (r"^rpn\.objectness\.", "proposal_generator.rpn_head.objectness_logits."),
    (r"^rpn\.deltas\.", "proposal_generator.rpn_head.anchor_deltas."),
    (r"^box_head\.convs\.(\d)\.", lambda m: f"roi_heads.box_head.conv{int(m[1]) + 1}."),
    (r"^box_head\.fcs\.(\d)\.", lambda m: f"roi_heads.box_head.fc{int(m[1]) + 1}."),
    (r"^box_head\.classes\.", "roi_heads.box_predictor.cls_score."),
    (r"^box_head\.deltas\.", "roi_heads.box_predictor.bbox_pred."),
    (r"^mask_head\.convs\.(\d)\.", lambda m: f"roi_heads.mask_head.mask_fcn{int(m[1]) + 1}."),
    (r"^mask_head\.upsample\.", "roi_heads.mask_head.deconv."),
    (r"^mask_head\.masks\.", "roi_heads.mask_head.predictor."),
)
OTHERS = (
    (r"^roi_heads\.res5\.", "a C4 model, whose heads run res5 on every box"),
    (r"^backbone\.(stem|res\d)\.", "a model without a pyramid, such as DC5"),
    (r"^roi_heads\.box_head\.\d+\.", "a cascade of box heads"),
    (r"^roi_heads\.keypoint_head\.", "a keypoint model"),
    (r"^roi_heads\.mask_(head\.)?(coarse|point)_head\.", "a PointRend model"),
    (r"^roi_heads\.maskiou_head\.", "a Mask Scoring R-CNN model"),
    (r"^roi_heads\.densepose", "a DensePose model"),
    (r"^sem_seg_head\.", "a panoptic model"),
    (r"^head\.", "a one-stage model, such as RetinaNet or FCOS"),
    (r"\.conv2_offset\.", "a model with deformable convolutions"),
    (r"^backbone\.bottom_up\.s\d\.", "a RegNet model"),
    (r"^backbone\.(?!bottom_up\.|fpn_)", "a model with another backbone than a ResNet with FPN"),
)
"""Patterns of tensor names that other networks have, and what to call those; the first match counts."""
WHOLE = (1.0, 1.0, 1.0)
"""Deviation of pixels that are not divided."""
NORM = ".norm.weight"


def _modernise(state: State) -> dict[str, Tensor]:
    """Give the RPN's first convolution one name, and statistics to frozen norms that were saved without.

    Detectron2 too loads mean 0 and variance 1 for such norms. Files with them have no norm in the pyramid, while
    models with group norm do.
    """
    modern = {re.sub(r"^(proposal_generator\.rpn_head\.conv)\.conv0\.", r"\1.", name): state[name] for name in state}
    if f"backbone.fpn_lateral2{NORM}" not in modern:
        for name, scale in state.items():
            if name.startswith("backbone.bottom_up.") and name.endswith(NORM):
                modern.setdefault(name.removesuffix("weight") + "running_mean", torch.zeros_like(scale))
                modern.setdefault(name.removesuffix("weight") + "running_var", torch.ones_like(scale))
    return modern


def _number_convs(state: State) -> dict[str, Tensor]:
    """Invert `_modernise`: number the first of several convolutions of the RPN too."""
    if not any(name.startswith("proposal_generator.rpn_head.conv.conv1.") for name in state):
        return dict(state)
    pattern = r"^(proposal_generator\.rpn_head\.conv)\.(weight|bias)$"
    return {re.sub(pattern, r"\1.conv0.\2", name): tensor for name, tensor in state.items()}


def _describe(state: State, hint: str) -> Described:
    """Derive the structure from names and shapes, and the preprocessing from the rules of the model zoo."""
    model, num_classes = structure_of(state, DETECTRON2.theirs, background_everywhere=False)
    if model.head_norm == "frozen_batch_norm":  # only backbones have frozen norms
        model = replace(model, backbone=replace(model.backbone, norm="batch_norm"), head_norm="batch_norm")
    backbone = model.backbone
    scratch = re.search("_9x_(gn|syncbn)", hint) is not None
    mean, std, bgr = _pixels(state, is_divided=scratch or backbone.kind.startswith("resnext"))
    from_detectron1, is_city = "noaug" in hint, "cityscapes" in hint.lower()
    model = replace(
        model,
        backbone=replace(
            backbone,
            stride_in_1x1=backbone.norm != "group_norm" and std == WHOLE and shape_of(backbone.kind)[0] >= 50,
        ),
        roi_align=RoIAlign(half_pixel=not from_detectron1, sampling_ratio=2 if from_detectron1 else 0),
        rpn=replace(model.rpn, anchor_offset=0.0),
    )
    sides = {"short_sides": (1024,), "max_side": 2048} if is_city else {}
    data = replace(Data(), mean=mean, std=std, whole_levels=True, **sides)
    names, ids = coco_classes(num_classes)
    return Described(
        Recipe(name=f"detectron2_{backbone.kind}", data=data, model=model, classes=names, category_ids=ids), bgr
    )


def _pixels(state: State, is_divided: bool) -> tuple[tuple[float, ...], tuple[float, ...], bool]:
    """Return mean and deviation as RGB, and whether the network takes BGR: from the file, or by the rules."""
    if "pixel_mean" not in state or "pixel_std" not in state:
        return Data().mean, Data().std if is_divided else WHOLE, True
    mean, std = (_triple(state[name]) for name in ("pixel_mean", "pixel_std"))
    bgr = mean[0] <= mean[2]
    return (mean[::-1], std[::-1], True) if bgr else (mean, std, False)


def _triple(tensor: Tensor) -> tuple[float, float, float]:
    """Round three float32 numbers to the digits they were written with."""
    first, second, third = (float(f"{value:.6g}") for value in tensor.flatten().tolist())
    return first, second, third


DETECTRON2 = Framework(
    name="detectron2",
    rules=RULES,
    describe=_describe,
    others=OTHERS,
    mark=r"^(backbone\.(fpn_(lateral|output)\d|bottom_up\.(stem|res\d|s\d))\.|proposal_generator\.)",
    idle=r"^pixel_(mean|std)$|^proposal_generator\.anchor_generator\.|\.num_batches_tracked$",
    modernise=_modernise,
    finish=_number_convs,
)
