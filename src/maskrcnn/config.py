"""Every setting, once: its name, type, default, unit, reason and role. Recipes in YAML fill these structs."""

import math
from enum import StrEnum
from typing import Annotated, Literal, TypeVar

from msgspec import Meta, Struct

Positive = Annotated[int, Meta(gt=0)]
Natural = Annotated[int, Meta(ge=0)]
Fraction = Annotated[float, Meta(ge=0.0, le=1.0)]
Share = Annotated[float, Meta(gt=0.0, le=1.0)]
AboveZero = Annotated[float, Meta(gt=0.0)]
NotNegative = Annotated[float, Meta(ge=0.0)]
Rounding = Literal["nearest", "down"]
Execution = Literal["auto", "eager", "captured", "compiled"]
Four = tuple[AboveZero, AboveZero, AboveZero, AboveZero]
Norm = Literal["frozen_batch_norm", "batch_norm", "group_norm"]
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
]
MAX_LOG_SCALE = math.log(1000.0 / 16)
"""Largest dw and dh by default: a factor of 62.5, so that `exp` stays finite on untrained heads (Detectron)."""


class Role(StrEnum):
    """What a setting decides, and with that when it may change. Each setting names its role in its type."""

    NETWORK = "network"
    """Tensors of the weights: their names and shapes. Travels with the weights."""
    NORM = "norm"
    """Tensors of the weights too, but a live norm predicts as a frozen one does."""
    CONVENTION = "convention"
    """How the same weights compute: another value gives other predictions. Travels with the weights."""
    CLASSES = "classes"
    """Classes of the weights, by name and by id."""
    SIZE = "size"
    """Size at which images are seen. Follows the recipe, fixed within a run."""
    SELECTION = "selection"
    """Boxes that prediction keeps. Follows the recipe, fixed within a run."""
    LEARNING = "learning"
    """What is learned from. No prediction depends on it; fixed within a run."""
    START = "start"
    """Where a run begins. Does not matter once it has begun."""
    RUN = "run"
    """Paths, duration, speed, evaluation and logs. May change whenever a run is resumed."""


T = TypeVar("T")
Network = Annotated[T, Meta(extra={"role": Role.NETWORK})]
NormKind = Annotated[T, Meta(extra={"role": Role.NORM})]
Convention = Annotated[T, Meta(extra={"role": Role.CONVENTION})]
Classes = Annotated[T, Meta(extra={"role": Role.CLASSES})]
Size = Annotated[T, Meta(extra={"role": Role.SIZE})]
Selection = Annotated[T, Meta(extra={"role": Role.SELECTION})]
Learning = Annotated[T, Meta(extra={"role": Role.LEARNING})]
Start = Annotated[T, Meta(extra={"role": Role.START})]
Run = Annotated[T, Meta(extra={"role": Role.RUN})]


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A section of a recipe. Unknown keys are refused."""


class Data(Settings):
    """Where images and annotations are, and how images are brought to the device."""

    dataset_dir: Run[str] = "datasets/coco2017"
    """Folder in the COCO2017 layout; a relative path is taken from the working directory."""
    train_img_dir: Run[str] = "train2017"
    """Folder of the training images, inside `dataset_dir`."""
    train_anno_path: Run[str] = "annotations/instances_train2017.json"
    """Annotation file of the training images, inside `dataset_dir`; `annotation/` is tried where `annotations/` is
    missing."""
    val_img_dir: Run[str] = "val2017"
    """Folder of the validation images, inside `dataset_dir`."""
    val_anno_path: Run[str] = "annotations/instances_val2017.json"
    """Annotation file of the validation images, inside `dataset_dir`."""
    short_sides: Size[tuple[Positive, ...]] = (800,)
    """Lengths in pixels to which the shorter side is resized: training draws one for each image, evaluation takes the
    largest."""
    max_side: Size[Positive] = 1333
    """Largest length in pixels of the longer side after resizing."""
    rounding: Convention[Rounding] = "nearest"
    """How resized sides become whole pixels: `nearest` as in Detectron2, `down` as in torchvision."""
    antialias: Convention[bool] = True
    """Whether shrinking averages all pixels, as Pillow does, or interpolates between two, as torchvision does."""
    whole_levels: Convention[bool] = False
    """Whether resizing rounds to whole levels of 0..255 after its columns and after its rows, as Pillow does."""
    flip: Learning[Fraction] = 0.5
    """Probability of a horizontal flip in training."""
    num_buckets: Learning[Positive] = 6
    """Number of sizes that batches are padded to: more waste less padding, fewer are captured or compiled faster."""
    mean: Convention[tuple[float, ...]] = (123.675, 116.28, 103.53)
    """Mean of each band, 0..255, that is subtracted from pixels; the default is ImageNet's red, green and blue. Images
    have as many bands as there are entries."""
    std: Convention[tuple[float, ...]] = (58.395, 57.12, 57.375)
    """Standard deviation of each band that pixels are divided by; the default is ImageNet's."""
    num_workers: Run[Natural] = 4
    """Number of threads that decode images; 0 decodes in the training thread."""
    prefetch_size: Run[Positive] = 2
    """Batches kept ready by each worker."""
    max_rowsize: Size[Positive] = 64
    """Largest size of a decoded image in MiB; a larger image is reduced by a whole factor while it is decoded."""


class Backbone(Settings):
    """The backbone: images to feature maps."""

    kind: Network[BackboneKind] = "resnet50"
    """Architecture: ResNet (He et al. 2016), or ResNeXt (Xie et al. 2017), named by its groups and their width."""
    norm: NormKind[Norm] = "frozen_batch_norm"
    """Normalisation layer. Frozen batch norm wants pretrained weights; group norm learns from scratch at any batch size
    (Wu and He 2018); live batch norm wants many images on each device."""
    width: Network[Positive] = 64
    """Channels of a ResNet's stem; published weights have 64."""
    stride_in_1x1: Convention[bool] = False
    """Whether a bottleneck halves the map in its first 1 x 1 convolution, as in MSRA's weights, or in its 3 x 3."""
    stem_pool: Convention[Literal["centred", "end"]] = "centred"
    """Padding of the stem's pooling: on all sides, or at the right and bottom alone, as in MindSpore."""
    pretrained: Start[str] = "imagenet"
    """Initial weights: `imagenet` (the published file for `kind`), a published backbone's name, a path, or empty for
    random ones."""
    frozen_stages: Learning[Annotated[int, Meta(ge=0, le=5)]] = 2
    """Number of stages that are not trained, counted from the stem: stem, then the stages of strides 4, 8, 16, 32."""


class Neck(Settings):
    """The feature pyramid (Lin et al. 2017)."""

    channels: Network[Positive] = 256
    """Channels of every pyramid level."""
    upsample: Convention[Literal["nearest", "bilinear"]] = "nearest"
    """Interpolation by which a coarse level is doubled before it is added to the next finer one."""


class RoIAlign(Settings):
    """RoIAlign (He et al. 2017): how box and mask head sample the features of a box."""

    half_pixel: Convention[bool] = True
    """Whether a cell's value belongs to its centre; false, as in torchvision, is off by half a cell."""
    sampling_ratio: Convention[Natural] = 2
    """Samples along each axis of a bin; 0 takes as many as the bin has cells, as Detectron2 does."""


class RPN(Settings):
    """Region proposal network (Ren et al. 2015; Lin et al. 2017 for the pyramid)."""

    anchor_sizes: Convention[tuple[AboveZero, ...]] = (32.0, 64.0, 128.0, 256.0, 512.0)
    """Side in pixels of the square anchor of each level, finest first."""
    aspect_ratios: Convention[tuple[AboveZero, ...]] = (0.5, 1.0, 2.0)
    """Height over width of the anchors of each cell."""
    anchor_offset: Convention[Fraction] = 0.5
    """Centre of a cell's anchors, as a share of the cell: 0.5 is its middle, 0 its corner, as in other systems."""
    round_anchors: Convention[bool] = False
    """Whether anchors around 0 are rounded to whole pixels, as in torchvision."""
    anchor_strides: Convention[Literal["exact", "divided"]] = "exact"
    """Distance between anchors: `divided` takes padded side / cells, as torchvision does: 61 pixels where 800 have 13
    cells of the coarsest level."""
    num_convs: Network[Positive] = 1
    """Number of 3 x 3 convolutions before the two predictions."""
    delta_weights: Convention[Four] = (1.0, 1.0, 1.0, 1.0)
    """Factors of (dx, dy, dw, dh): box deltas are multiplied by them in training and divided by them in prediction."""
    max_log_scale: Convention[AboveZero] = MAX_LOG_SCALE
    """Largest dw and dh of a decoded box."""
    num_samples: Learning[Positive] = 256
    """Number of anchors per image in the loss."""
    positive_fraction: Learning[Share] = 0.5
    """Largest share of positives among the sampled anchors."""
    positive_iou: Learning[Fraction] = 0.7
    """Smallest IoU with an object at which an anchor is positive; each object's best anchor is positive too."""
    negative_iou: Learning[Fraction] = 0.3
    """IoU below which, with every object, an anchor is negative; anchors in between are ignored."""
    num_train_candidates: Learning[Positive] = 2000
    """Number of boxes per level before NMS, in training."""
    num_train_proposals: Learning[Positive] = 1000
    """Number of proposals per image after NMS, in training."""
    num_test_candidates: Selection[Positive] = 1000
    """Number of boxes per level before NMS, in evaluation and prediction."""
    num_test_proposals: Selection[Positive] = 1000
    """Number of proposals per image after NMS, in evaluation and prediction."""
    nms_threshold: Selection[Fraction] = 0.7
    """NMS threshold: a box whose IoU with a better one on its level exceeds this is dropped."""


class BoxHead(Settings):
    """Box head (Girshick 2015): classes and refined boxes."""

    pool_size: Network[Positive] = 7
    """Cells along each side of the features that RoIAlign takes from a box."""
    num_convs: Network[Natural] = 0
    """Number of 3 x 3 convolutions before the fully connected layers; 4 with `num_fcs: 1` learn better with group
    norm."""
    num_fcs: Network[Positive] = 2
    """Number of fully connected layers."""
    hidden: Network[Positive] = 1024
    """Units of each fully connected layer."""
    class_agnostic: Network[bool] = False
    """Whether a proposal has one box for all classes rather than one for each."""
    delta_weights: Convention[Four] = (10.0, 10.0, 5.0, 5.0)
    """Factors of (dx, dy, dw, dh), as `rpn.delta_weights`; they bring deltas to about unit variance."""
    max_log_scale: Convention[AboveZero] = MAX_LOG_SCALE
    """Largest dw and dh of a decoded box."""
    num_rois: Learning[Positive] = 512
    """Number of boxes per image in the loss."""
    positive_fraction: Learning[Share] = 0.25
    """Largest share of positives among the sampled boxes."""
    positive_iou: Learning[Fraction] = 0.5
    """Smallest IoU with an object at which a box is positive; any other box is background."""
    score_threshold: Selection[Fraction] = 0.05
    """Score below which detections are dropped."""
    nms_threshold: Selection[Fraction] = 0.5
    """NMS threshold: a box whose IoU with a better one of its class exceeds this is dropped."""
    num_candidates: Selection[Positive] = 4000
    """Number of (box, class) pairs per image that enter NMS, best first."""
    num_detections: Selection[Positive] = 100
    """Number of detections per image."""


class MaskHead(Settings):
    """Mask head (He et al. 2017): a small fully convolutional network on each box."""

    pool_size: Network[Positive] = 14
    """Cells along each side of the features that RoIAlign takes from a box; the mask has twice as many."""
    num_convs: Network[Positive] = 4
    """Number of 3 x 3 convolutions before the upsampling."""
    channels: Network[Positive] = 256
    """Channels of each convolution."""
    class_agnostic: Network[bool] = False
    """Whether a box has one mask for all classes rather than one for each."""
    paste: Convention[Literal["centres", "inclusive"]] = "centres"
    """Where masks are sampled: at pixel centres, or for boxes of whole pixels that include their last one, as in
    torchvision."""
    num_rois: Learning[Positive] = 64
    """Number of positive boxes per image that the mask loss has slots for, shared over the batch; those without a slot
    are counted."""


class Model(Settings):
    """The network."""

    backbone: Backbone = Backbone()
    neck: Neck = Neck()
    head_norm: NormKind[Literal["", "none", "frozen_batch_norm", "batch_norm", "group_norm"]] = ""
    """Normalisation layer of the neck, the box head and the mask head; empty is none beside frozen batch norm, and
    otherwise that of the backbone."""
    smooth_l1_beta: Learning[NotNegative] = 0.0
    """Size of a delta's error below which box losses are quadratic; 0 is plain L1."""
    roi_align: RoIAlign = RoIAlign()
    rpn: RPN = RPN()
    box_head: BoxHead = BoxHead()
    mask_head: MaskHead = MaskHead()


class Optimizer(Settings):
    """How weights move."""

    kind: Learning[Literal["sgd", "adamw"]] = "sgd"
    """Algorithm: SGD for pretrained weights and long schedules, AdamW for small networks."""
    lr: Run[AboveZero] = 0.02
    """Learning rate for a batch of `lr_batch` images; scaled linearly with `train.batch`."""
    lr_batch: Run[Positive] = 16
    """Images per update that `lr` is meant for."""
    momentum: Run[Fraction] = 0.9
    """Momentum of SGD; AdamW has betas 0.9 and 0.999."""
    weight_decay: Run[NotNegative] = 1e-4
    """Weight decay of all weights and biases but those of norms; AdamW decouples it from the gradient."""
    weight_decay_norm: Run[NotNegative] = 0.0
    """Weight decay of the scales and biases of norms."""
    clip_norm: Run[NotNegative] = 0.0
    """Largest norm of the whole gradient; 0 does not clip."""


class Schedule(Settings):
    """The learning rate over time."""

    kind: Run[Literal["steps", "cosine"]] = "steps"
    """Shape: a staircase, or half a cosine wave that ends at 0."""
    warmup_steps: Run[Natural] = 1000
    """Number of steps over which the rate rises linearly to its full height."""
    warmup_factor: Run[Fraction] = 0.001
    """Learning rate of the first step, as a share of its full height."""
    milestones: Run[tuple[Positive, ...]] = (8, 11)
    """Epochs after which a step schedule multiplies the rate by `decay`."""
    decay: Run[Fraction] = 0.1
    """Factor of the rate at each milestone."""


class Train(Settings):
    """One run."""

    epochs: Run[Positive] = 12
    """Number of passes over the images."""
    max_steps: Run[Natural] = 0
    """Number of steps after which training stops; 0 trains all epochs."""
    batch: Learning[Positive] = 16
    """Images per update, over all devices and accumulated micro-batches."""
    micro_batch: Run[Natural] = 0
    """Images on one device at once; 0 takes batch / devices."""
    mixed_precision: Run[bool] = False
    """Whether bf16 is used where the device has it, otherwise fp16 with a loss scale; float32 on a CPU without bf16."""
    execution: Run[Execution] = "auto"
    """How a step runs: `captured` replays it as one CUDA graph, one for each padded size; `compiled` fuses its kernels
    before; `eager` does neither. `auto` compiles on a CUDA GPU, goes down to `captured` and to `eager` where that does
    not hold there, and is eager elsewhere; the others are insisted on."""
    recompute: Run[bool] = False
    """Whether the backward pass computes the backbone's activations again instead of keeping them: more images fit,
    each step takes longer by most of the backbone's forward pass."""
    deterministic: Run[bool] = False
    """Whether the same run gives the same bits on the same GPU, with slower kernels where there is a choice. A CPU
    always does."""
    ema: Run[Fraction] = 0.0
    """Decay per step of a moving average of the weights, which then is what is evaluated and kept; 0 keeps none."""
    evaluate_every: Run[Natural] = 1
    """Epochs between evaluations; the last epoch is always evaluated unless this is 0."""
    checkpoint_every: Run[Natural] = 0
    """Steps between checkpoints; 0 writes one at the end of each epoch."""
    keep_checkpoints: Run[Positive] = 2
    """Number of checkpoints that are kept; older ones are removed."""
    log_every: Run[Positive] = 20
    """Steps between log lines."""
    tensorboard: Run[bool] = False
    """Whether curves are written for TensorBoard too; needs `pip install tensorboard`."""
    seed: Learning[Natural] = 1234
    """Random seed: decides the first weights and, with (epoch, image), every order, flip and sample."""
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()


class Evaluate(Settings):
    """How the validation images are scored."""

    batch: Run[Positive] = 1
    """Images on one device at once, also in prediction."""
    mixed_precision: Run[bool] = False
    """Whether bf16 or fp16 is used, as `train.mixed_precision`, in evaluation and, unless told otherwise, in
    prediction."""
    execution: Run[Execution] = "auto"
    """How a batch runs, as `train.execution`, in evaluation and prediction."""


class Recipe(Settings):
    """Everything that decides a run."""

    name: Run[str] = "mask_rcnn"
    """Name of the run's folder."""
    device: Run[Literal["auto", "cpu", "gpu", "ascend", "mps", "xpu", "accelerator"]] = "auto"
    """Device: `auto` takes an accelerator where there is one; `mps` is Apple's GPU, `xpu` Intel's, `accelerator` any
    that torch knows here."""
    data: Data = Data()
    model: Model = Model()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    classes: Classes[tuple[str, ...]] = ()
    """Class names in label order, written with the weights. In a recipe: empty, they come from the annotations."""
    category_ids: Classes[tuple[int, ...]] = ()
    """Ids of the classes in the annotations, in label order, written with the weights."""
