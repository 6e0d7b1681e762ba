"""Mask R-CNN (He et al. 2017). Two verbs: `forward` predicts, `losses` learns."""

import torch
from jaxtyping import Int
from torch import Tensor, nn

from maskrcnn import config
from maskrcnn.models.backbone import Backbone
from maskrcnn.models.box_head import Boxes, BoxHead
from maskrcnn.models.efficientnet import EfficientNet
from maskrcnn.models.fpn import FPN
from maskrcnn.models.mask_head import MaskHead
from maskrcnn.models.point_head import PointHead
from maskrcnn.models.resnet import ResNet
from maskrcnn.models.rpn import RPN
from maskrcnn.structures import Detections, ImageBatch, Targets


class MaskRCNN(nn.Module):
    """Maps images to objects with classes, boxes and masks. No shape in it depends on a tensor's values."""

    def __init__(
        self,
        backbone: Backbone,
        neck: nn.Module,
        rpn: RPN,
        box_head: BoxHead,
        mask_head: MaskHead,
        point_head: PointHead | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.rpn = rpn
        self.box_head = box_head
        self.mask_head = mask_head
        self.point_head = point_head

    def forward(self, batch: ImageBatch) -> Detections:
        """Predict detections in the frame of `batch.sizes`, best first."""
        pyramid = self.neck(self.backbone(batch.pixels))
        proposals = self.rpn.propose(pyramid, batch.sizes)
        found = self.box_head.detect(pyramid, proposals, batch.sizes)
        return self.segment(pyramid, found)

    def segment(self, pyramid: list[Tensor], found: Boxes) -> Detections:
        """Predict the masks of boxes in the frame of the images that the pyramid is of."""
        detections = self.mask_head.segment(pyramid, found)
        return self.point_head.refine(pyramid, detections) if self.point_head else detections

    def losses(self, batch: ImageBatch, targets: Targets, keys: Int[Tensor, "B"]) -> dict[str, Tensor]:
        """Compute scalars to be summed and minimised, and counts for the log under `count/`.

        keys   one random number for each image, which decides the anchors, boxes and points that are sampled
        """
        pyramid = self.neck(self.backbone(batch.pixels))
        rpn, proposals = self.rpn.learn(pyramid, batch.sizes, targets, keys)
        box, rois = self.box_head.learn(pyramid, proposals, targets, keys)
        mask, masks = self.mask_head.learn(pyramid, rois, targets)
        point = self.point_head.learn(pyramid, masks, targets, keys) if self.point_head else {}
        return {**rpn, **box, **mask, **point}


def build(settings: config.Model, num_classes: int, num_bands: int = 3) -> MaskRCNN:
    """Build the network of a recipe, with random weights, in channels_last memory format."""
    return assemble(build_backbone(settings.backbone, num_bands), settings, num_classes)


def build_backbone(settings: config.Backbone, num_bands: int = 3) -> Backbone:
    """Build the backbone of a recipe, with random weights; its frozen stages have no gradient."""
    family = EfficientNet if settings.is_efficientnet else ResNet
    backbone = family(settings, num_bands)
    for stage in backbone.stages()[: settings.frozen_stages]:
        stage.requires_grad_(False)
    return backbone


def assemble(backbone: Backbone, settings: config.Model, num_classes: int) -> MaskRCNN:
    """Build a network on any backbone, with random weights, in channels_last memory format.

    settings   neck and heads; of `settings.backbone` only the norm is read
    """
    norm, beta, sampling = head_norm(settings), settings.smooth_l1_beta, settings.roi_align
    strides, channels = backbone.strides, settings.neck.channels
    neck = FPN(backbone.channels, strides, channels, norm, settings.neck.upsample)
    model = MaskRCNN(
        backbone,
        neck,
        RPN(settings.rpn, channels, neck.strides, smooth_l1_beta=beta),
        BoxHead(settings.box_head, channels, num_classes, strides, sampling=sampling, norm=norm, smooth_l1_beta=beta),
        MaskHead(settings.mask_head, channels, num_classes, strides, sampling=sampling, norm=norm),
        PointHead(settings.point_head, channels, strides[0]) if settings.point_head.enabled else None,
    )
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it


def head_norm(settings: config.Model) -> str | None:
    """Choose the norm of neck and heads: none beside given statistics, which cannot normalise new layers."""
    norm = settings.backbone.norm
    chosen = settings.head_norm or ("none" if norm in ("frozen_batch_norm", "fixed_batch_norm") else norm)
    return None if chosen == "none" else chosen
