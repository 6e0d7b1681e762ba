"""Every setting, once: its name, type, default, unit and reason. A recipe is a YAML file that fills these structs."""

import math
from typing import Annotated, Literal

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
MAX_LOG_SCALE = math.log(1000.0 / 16)
"""A decoded box grows at most 62.5 times: `exp` stays finite on untrained heads (Girshick 2015, Detectron)."""


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A section of a recipe. Unknown keys are refused."""


class Data(Settings):
    """Where the pictures are, and how they are brought to the device."""

    dataset_dir: str = "datasets/coco2017"
    """Folder in the COCO2017 layout; a relative one is taken from the working directory."""
    train_img_dir: str = "train2017"
    """Pictures to learn from, inside `dataset_dir`."""
    train_anno_path: str = "annotations/instances_train2017.json"
    """`annotation/` is tried where `annotations/` is missing."""
    val_img_dir: str = "val2017"
    """Pictures that are evaluated."""
    val_anno_path: str = "annotations/instances_val2017.json"
    """Of the pictures that are evaluated."""
    short_sides: tuple[Positive, ...] = (800,)
    """Pixels; training draws one of them for each image, evaluation takes the largest."""
    max_side: Positive = 1333
    """Pixels; the longer side never exceeds it."""
    rounding: Rounding = "nearest"
    """Of the resized sides to whole pixels: Detectron2's way, or torchvision's."""
    antialias: bool = True
    """Shrinking averages all pixels, as Pillow does; false takes two beside each sample, as torchvision does."""
    whole_levels: bool = False
    """Resizing rounds to whole levels of 0..255, after its columns and after its rows, as Pillow does."""
    flip: Fraction = 0.5
    """Probability of a horizontal flip in training."""
    num_buckets: Positive = 6
    """Sizes that batches are padded to; more waste less padding, fewer are captured or compiled faster."""
    mean: tuple[float, ...] = (123.675, 116.28, 103.53)
    """Mean level of each band, 0..255; by default ImageNet's red, green and blue. Their number is that of the bands."""
    std: tuple[float, ...] = (58.395, 57.12, 57.375)
    """Standard deviation of each band, by which pixels are divided."""
    num_workers: Natural = 4
    """Threads that decode pictures; 0 decodes in the training thread."""
    prefetch_size: Positive = 2
    """Batches kept ready for each worker."""
    max_rowsize: Positive = 64
    """MiB of one decoded picture; a larger one is reduced by a whole factor while it is decoded."""


class RPN(Settings):
    """Region proposal network (Ren et al. 2015; Lin et al. 2017 for the pyramid)."""

    anchor_sizes: tuple[AboveZero, ...] = (32.0, 64.0, 128.0, 256.0, 512.0)
    """Pixels, side of the square anchor of each level, finest first."""
    aspect_ratios: tuple[AboveZero, ...] = (0.5, 1.0, 2.0)
    """Height over width."""
    anchor_offset: Fraction = 0.5
    """Where in a cell its anchors are centred: 0.5 is the middle; 0, the corner, is where other systems have them."""
    round_anchors: bool = False
    """Anchors around 0 have whole pixels, as torchvision's."""
    anchor_strides: Literal["exact", "divided"] = "exact"
    """`divided` takes padded side / cells, as torchvision: 61 pixels where 800 have 13 cells of the coarsest level."""
    convs: Positive = 1
    """3 x 3 convolutions before the two predictions."""
    delta_weights: Four = (1.0, 1.0, 1.0, 1.0)
    """Of (dx, dy, dw, dh): box deltas are multiplied by them in training and divided by them in prediction."""
    max_log_scale: AboveZero = MAX_LOG_SCALE
    """Largest dw and dh."""
    samples: Positive = 256
    """Anchors per image in the loss."""
    positive_fraction: Share = 0.5
    """Largest share of positives among them."""
    positive_iou: Fraction = 0.7
    """An anchor that overlaps an object at least this much is positive, and so is each object's best."""
    negative_iou: Fraction = 0.3
    """One that overlaps none this much is negative; what lies between is ignored."""
    train_candidates: Positive = 2000
    """Per level, before suppression."""
    train_proposals: Positive = 1000
    """Per image, after suppression."""
    test_candidates: Positive = 1000
    """As `train_candidates`, in evaluation and prediction."""
    test_proposals: Positive = 1000
    """As `train_proposals`, in evaluation and prediction."""
    nms_iou: Fraction = 0.7
    """Of two boxes on one level that overlap more than this, the better stays."""


class BoxHead(Settings):
    """Classes and refined boxes (Girshick 2015)."""

    pool: Positive = 7
    """Cells along each side of what RoIAlign takes from a box."""
    convs: Natural = 0
    """3 x 3 convolutions before the fully connected layers; 4 with `fcs: 1` learn better with group norm."""
    fcs: Positive = 2
    """Fully connected layers."""
    hidden: Positive = 1024
    """Units of each fully connected layer."""
    class_agnostic: bool = False
    """One box for all classes of a proposal rather than one for each."""
    delta_weights: Four = (10.0, 10.0, 5.0, 5.0)
    """As `rpn.delta_weights`; brings deltas to about unit variance."""
    max_log_scale: AboveZero = MAX_LOG_SCALE
    """Largest dw and dh."""
    rois: Positive = 512
    """Per image in the loss."""
    positive_fraction: Share = 0.25
    """Largest share of positives among them."""
    positive_iou: Fraction = 0.5
    """A box that overlaps an object at least this much is positive, any other is background."""
    score: Fraction = 0.05
    """Detections below it are dropped."""
    nms_iou: Fraction = 0.5
    """Of two boxes of one class that overlap more than this, the better stays."""
    candidates: Positive = 4000
    """(box, class) pairs per image that enter suppression, best first."""
    detections: Positive = 100
    """Per image."""


class MaskHead(Settings):
    """A small fully convolutional network on each box (He et al. 2017)."""

    pool: Positive = 14
    """Cells along each side of what RoIAlign takes from a box; the mask has twice as many."""
    convs: Positive = 4
    """3 x 3 convolutions before the doubling."""
    channels: Positive = 256
    """Of each of them."""
    class_agnostic: bool = False
    """One mask for all classes of a box rather than one for each."""
    paste: Literal["centres", "inclusive"] = "centres"
    """Masks meet pixels at their centres, or boxes are whole pixels with their last one inside, as in torchvision."""
    rois: Positive = 64
    """Positive boxes per image that the mask loss has room for, shared over the batch; what exceeds it is counted."""


class Model(Settings):
    """The network."""

    backbone: Literal[
        "resnet18",
        "resnet34",
        "resnet50",
        "resnet101",
        "resnet152",
        "resnext50_32x4d",
        "resnext101_32x4d",
        "resnext101_32x8d",
        "resnext101_64x4d",
    ] = "resnet50"
    """He et al. 2016; ResNeXt (Xie et al. 2017) is named by its groups and their width."""
    norm: Literal["frozen_batch_norm", "batch_norm", "group_norm"] = "frozen_batch_norm"
    """Group norm learns from scratch at any batch size (Wu and He 2018); frozen batch norm wants pretrained weights;
    live batch norm wants many images on each device."""
    head_norm: Literal["", "none", "frozen_batch_norm", "batch_norm", "group_norm"] = ""
    """Of the pyramid, the box head and the mask head; empty is none beside frozen batch norm, and otherwise `norm`."""
    stride_in_1x1: bool = False
    """A bottleneck halves the map in its first convolution, as in MSRA's weights, rather than in its 3 x 3."""
    stem_pool: Literal["centred", "end"] = "centred"
    """Padding of the stem's pooling: on all sides, or at the right and bottom alone, as in MindSpore."""
    upsample: Literal["nearest", "bilinear"] = "nearest"
    """How the pyramid doubles a map."""
    roi_half_pixel: bool = True
    """RoIAlign knows that a cell's value belongs to its centre; false, as in torchvision, is off by half a cell."""
    roi_samples: Natural = 2
    """Samples of RoIAlign along each axis of a bin; 0 takes as many as the bin has cells, as Detectron2 does."""
    smooth_l1_beta: NotNegative = 0.0
    """Box losses are quadratic below it, in units of deltas; 0 is plain L1."""
    pretrained: str = "imagenet"
    """`imagenet` (torchvision's published file for the backbone), a published backbone's name, a path to weights, or
    empty for none."""
    frozen_stages: Annotated[int, Meta(ge=0, le=5)] = 2
    """How many of (stem, res2, res3, res4, res5) are not trained."""
    width: Positive = 64
    """Channels of the stem; published weights have 64."""
    channels: Positive = 256
    """Of the pyramid."""
    rpn: RPN = RPN()
    box_head: BoxHead = BoxHead()
    mask_head: MaskHead = MaskHead()


class Optimizer(Settings):
    """How weights move."""

    kind: Literal["sgd", "adamw"] = "sgd"
    """SGD for pretrained weights and long schedules, AdamW for small networks from scratch."""
    lr: AboveZero = 0.02
    """For an effective batch of `lr_batch`; scaled linearly with `train.batch`."""
    lr_batch: Positive = 16
    """Images per update."""
    momentum: Fraction = 0.9
    """SGD's; AdamW has betas 0.9 and 0.999."""
    weight_decay: NotNegative = 1e-4
    """For all weights and biases but those of norms; AdamW decouples it from the gradient."""
    weight_decay_norm: NotNegative = 0.0
    """For the scales and biases of norms."""
    clip_norm: NotNegative = 0.0
    """Largest norm of the whole gradient; 0 does not clip."""


class Schedule(Settings):
    """The learning rate over time."""

    kind: Literal["steps", "cosine"] = "steps"
    """A staircase, or half a cosine wave that ends at 0."""
    warmup_steps: Natural = 1000
    """Steps over which the rate rises linearly to its full height."""
    warmup_factor: Fraction = 0.001
    """Where it begins, as a share of its full height."""
    milestones: tuple[Positive, ...] = (8, 11)
    """Epochs after which a step schedule multiplies the rate by `decay`."""
    decay: Fraction = 0.1
    """At each milestone."""


class Train(Settings):
    """One run."""

    epochs: Positive = 12
    """Passes over the pictures."""
    max_steps: Natural = 0
    """Stops after this many steps; 0 trains all epochs."""
    batch: Positive = 16
    """Images per update, over all devices and accumulated micro-batches."""
    micro_batch: Natural = 0
    """Images on one device at once; 0 takes batch / devices."""
    mixed_precision: bool = False
    """bf16 where the device has it, otherwise fp16 with a loss scale; float32 on a processor without bf16."""
    execution: Execution = "auto"
    """`captured` replays each step as one CUDA graph, one for each padded size; `compiled` fuses its kernels before;
    `eager` does neither. `auto` compiles on a CUDA GPU, goes down to `captured` and to `eager` where that does not hold
    there, and is eager elsewhere; the others are insisted on."""
    recompute: bool = False
    """The backward pass computes the backbone's activations again instead of keeping them: more images fit, each step
    takes longer by most of the backbone's forward pass."""
    deterministic: bool = False
    """The same run gives the same bits on the same GPU, with slower kernels where there is a choice. A CPU always
    does."""
    ema: Fraction = 0.0
    """Decay per step of a moving average of the weights, which then is what is evaluated and kept; 0 keeps none."""
    evaluate_every: Natural = 1
    """Epochs; the last epoch is always evaluated unless this is 0."""
    checkpoint_every: Natural = 0
    """Steps between checkpoints; 0 writes one at the end of each epoch."""
    keep_checkpoints: Positive = 2
    """The newest ones; older ones are removed."""
    log_every: Positive = 20
    """Steps."""
    tensorboard: bool = False
    """Writes curves for TensorBoard too; needs `pip install tensorboard`."""
    seed: Natural = 1234
    """Decides the first weights and, with (epoch, image), every order, flip and sample."""
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()


class Evaluate(Settings):
    """How the validation pictures are scored."""

    batch: Positive = 1
    """Images on one device at once, also in prediction."""
    mixed_precision: bool = False
    """As `train.mixed_precision`, in evaluation and, unless told otherwise, in prediction."""
    execution: Execution = "auto"
    """As `train.execution`, in evaluation and prediction."""


class Recipe(Settings):
    """Everything that decides a run."""

    name: str = "mask_rcnn"
    """Names the run's folder."""
    device: Literal["auto", "cpu", "gpu", "ascend", "mps", "xpu", "accelerator"] = "auto"
    """`auto` takes an accelerator where there is one; `mps` is Apple's GPU, `xpu` Intel's, `accelerator` any that torch
    knows here."""
    data: Data = Data()
    model: Model = Model()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    classes: tuple[str, ...] = ()
    """Written with the weights: names in label order. In a recipe: empty, they come from the annotations."""
    category_ids: tuple[int, ...] = ()
    """Written with the weights: the data set's ids in label order."""
