"""Mask R-CNN (He et al. 2017). Two verbs: `forward` predicts, `losses` learns."""

import re

import torch
from jaxtyping import Int
from torch import Tensor, nn

from maskrcnn import config
from maskrcnn.models.box_head import BoxHead
from maskrcnn.models.fpn import FPN
from maskrcnn.models.mask_head import MaskHead
from maskrcnn.models.resnet import ResNet
from maskrcnn.models.rpn import RPN
from maskrcnn.structures import Detections, ImageBatch, Targets


class MaskRCNN(nn.Module):
    """Images to objects with classes, boxes and masks. No shape in it depends on a tensor's values."""

    def __init__(self, backbone: nn.Module, neck: nn.Module, rpn: RPN, box_head: BoxHead, mask_head: MaskHead) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.rpn = rpn
        self.box_head = box_head
        self.mask_head = mask_head

    def forward(self, batch: ImageBatch) -> Detections:
        """Detections in the frame of `batch.sizes`, best first."""
        pyramid = self.neck(self.backbone(batch.pixels))
        proposals = self.rpn.propose(pyramid, batch.sizes)
        found = self.box_head.detect(pyramid, proposals, batch.sizes)
        return self.mask_head.segment(pyramid, found)

    def losses(self, batch: ImageBatch, targets: Targets, keys: Int[Tensor, "B"]) -> dict[str, Tensor]:
        """Scalars: entries under `count/` tell, the others are to be summed and minimised.

        keys   one random number for each image: decides which anchors and boxes are sampled
        """
        pyramid = self.neck(self.backbone(batch.pixels))
        rpn, proposals = self.rpn.learn(pyramid, batch.sizes, targets, keys)
        box, rois = self.box_head.learn(pyramid, proposals, targets, keys)
        mask = self.mask_head.learn(pyramid, rois, targets)
        return {**rpn, **box, **mask}


def build(settings: config.Model, num_classes: int) -> MaskRCNN:
    """The network of a recipe, with random weights, in channels_last memory format."""
    depth, groups, group_width = shape_of(settings.backbone)
    channels = settings.channels
    backbone = ResNet(
        depth,
        norm=settings.norm,
        width=settings.width,
        frozen_stages=settings.frozen_stages,
        groups=groups,
        group_width=group_width,
        stride_in_1x1=settings.stride_in_1x1,
        pool_at_end=settings.stem_pool == "end",
    )
    norm = head_norm(settings)
    rpn, box, mask = settings.rpn, settings.box_head, settings.mask_head
    strides = ResNet.strides
    model = MaskRCNN(
        backbone,
        FPN(backbone.channels, channels, norm, settings.upsample),
        RPN(
            channels,
            strides=(*strides, 2 * strides[-1]),
            anchor_sizes=rpn.anchor_sizes,
            aspect_ratios=rpn.aspect_ratios,
            anchor_offset=rpn.anchor_offset,
            round_anchors=rpn.round_anchors,
            divided_strides=rpn.anchor_strides == "divided",
            convs=rpn.convs,
            delta_weights=rpn.delta_weights,
            max_log_scale=rpn.max_log_scale,
            candidates=(rpn.train_candidates, rpn.test_candidates),
            proposals=(rpn.train_proposals, rpn.test_proposals),
            nms_iou=rpn.nms_iou,
            samples=rpn.samples,
            positive_fraction=rpn.positive_fraction,
            positive_iou=rpn.positive_iou,
            negative_iou=rpn.negative_iou,
            smooth_l1_beta=settings.smooth_l1_beta,
        ),
        BoxHead(
            channels,
            num_classes,
            strides=strides,
            pool=box.pool,
            convs=box.convs,
            fcs=box.fcs,
            hidden=box.hidden,
            rois=box.rois,
            positive_fraction=box.positive_fraction,
            positive_iou=box.positive_iou,
            class_agnostic=box.class_agnostic,
            delta_weights=box.delta_weights,
            max_log_scale=box.max_log_scale,
            smooth_l1_beta=settings.smooth_l1_beta,
            half_pixel=settings.roi_half_pixel,
            samples=settings.roi_samples,
            score=box.score,
            nms_iou=box.nms_iou,
            candidates=box.candidates,
            detections=box.detections,
            norm=norm,
        ),
        MaskHead(
            channels,
            num_classes,
            strides=strides,
            pool=mask.pool,
            convs=mask.convs,
            width=mask.channels,
            rois=mask.rois,
            class_agnostic=mask.class_agnostic,
            half_pixel=settings.roi_half_pixel,
            samples=settings.roi_samples,
            norm=norm,
        ),
    )
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it


def shape_of(backbone: str) -> tuple[int, int, int]:
    """Depth, groups and their width.

    >>> shape_of("resnext101_32x8d"), shape_of("resnet50")
    ((101, 32, 8), (50, 1, 64))
    """
    parts = re.fullmatch(r"resnex?t(\d+)(?:_(\d+)x(\d+)d)?", backbone)
    assert parts is not None, "the names that `config.Model.backbone` admits"
    depth, groups, width = parts.groups()
    return int(depth), int(groups or 1), int(width or 64)


def head_norm(settings: config.Model) -> str | None:
    """The norm of pyramid and heads. A frozen one has nothing to say to new layers."""
    chosen = settings.head_norm or ("none" if settings.norm == "frozen_batch_norm" else settings.norm)
    return None if chosen == "none" else chosen
