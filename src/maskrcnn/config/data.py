"""Settings of images and annotations: paths, preprocessing, loading."""

from typing import Annotated, Literal

from msgspec import Meta

from maskrcnn.config.augment import Augment
from maskrcnn.config.roles import (
    Convention,
    Fraction,
    Learning,
    Natural,
    NotNegative,
    Part,
    Positive,
    Run,
    Settings,
    Share,
    Side,
    Size,
    Threads,
)

Pixels = Annotated[int, Meta(gt=0, le=1 << 36)]
Rounding = Literal["nearest", "down"]
Fit = Literal["sides", "box"]
Levels = Literal["full", "percentiles", "fixed"]
Format = Literal[
    "auto", "coco", "lvis", "yolo", "labelme", "cvat", "via", "voc", "cityscapes", "dsb2018", "instances", "shards"
]


class Data(Settings, frozen=True):
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
    outside: Run[bool] = False
    """Whether annotations may name images outside the data set's folders, by `..` or by a whole path; else such images
    are refused: who made the annotations should not choose what is read of this machine."""
    classes: Learning[tuple[str, ...]] = ()
    """Classes that are used, by name; `new=old` renames a class, and several with the same new name become one. Empty
    uses all."""
    val_share: Run[Part] = 0.2
    """Share of the images that is set apart for validation where the data have no validation split: every class in
    proportion, images that are nearly the same together."""
    split_seed: Run[Natural] = 0
    """Seed of the images that are set apart."""
    split_file: Run[str] = ""
    """File that says which images are for training and which for validation, as `maskrcnn data split` and runs write
    it, from the working directory or beside the recipe's file; empty takes the data's own splits."""
    tile: Size[Annotated[int, Meta(ge=0, le=1_000_000)]] = 0
    """Side, in pixels of the image's file, of the square tiles that images are cut into for training, evaluation and
    prediction; each becomes as large as `short_sides` says. 0 leaves images whole (docs/tiles.md)."""
    tile_overlap: Size[Annotated[float, Meta(gt=0.0, le=0.5)]] = 0.2
    """Share of its side by which a tile overlaps the next, at least: objects smaller than that are whole in one."""
    tile_empty: Learning[NotNegative] = 1.0
    """Number of tiles without objects that an epoch shows for each tile with some, at most."""
    fit: Convention[Fit] = "sides"
    """How images are scaled: `sides` by their shorter and longer side, whichever is upright; `box` into a box that is
    as high as `short_sides` and as wide as `max_side`, portraits too, and every image is padded to that box."""
    short_sides: Size[tuple[Side, ...]] = (800,)
    """Lengths in pixels to which the shorter side is resized, or heights of the box with `fit: box`: training draws one
    for each image, evaluation takes the largest."""
    max_side: Size[Side] = 1333
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
    sampling: Learning[Literal["uniform", "repeat_factor", "class_balanced"]] = "uniform"
    """How often an epoch shows each image: `uniform` once; `repeat_factor` more often where a class is rare, as LVIS
    does; `class_balanced` so that each class is drawn equally often."""
    repeat_threshold: Learning[Share] = 0.001
    """Share of the images below which `sampling: repeat_factor` repeats those of a class: at a share f of them,
    sqrt(threshold / f) times."""
    negatives: Learning[Part | None] = None
    """Share of an epoch's images that have no objects, others in each epoch; empty shows all of them once."""
    flip: Learning[Fraction] = 0.5
    """Probability of a horizontal flip in training."""
    augment: Augment = Augment()
    num_buckets: Learning[Annotated[int, Meta(gt=0, le=1000)]] = 6
    """Number of sizes that batches are padded to: more of them waste less padding, fewer compile or capture faster;
    with `fit: box` there is one."""
    mean: Convention[tuple[float, ...]] = (123.675, 116.28, 103.53)
    """Mean of each band, in levels of 0..255, subtracted from pixels; the default is ImageNet's for red, green and
    blue. Images have as many bands as there are entries; with none, bands, mean and deviation are measured over the
    training images."""
    std: Convention[tuple[float, ...]] = (58.395, 57.12, 57.375)
    """Standard deviation of each band, which divides pixels; the default is ImageNet's. Empty where `mean` is."""
    levels: Convention[Levels] = "full"
    """How the numbers of an image become levels of 0..255: `full` takes the whole range of their type, `percentiles`
    that of each band of each image between two percentiles, `fixed` the same range for all images."""
    level_range: Convention[tuple[tuple[float, float], ...]] = ()
    """Numbers that become levels 0 and 255 with `levels: fixed`: a pair for each band, or one for all. Empty measures
    them over the training images."""
    level_percentiles: Convention[tuple[float, float]] = (0.5, 99.5)
    """Percentiles of a band that become levels 0 and 255 with `levels: percentiles`."""
    shown_bands: Run[tuple[Positive, ...]] = ()
    """Numbers, from 1, of the bands that drawings of predictions show as red, green and blue, or of the one that they
    show as gray. Empty shows the first three, or the first where there are fewer."""
    remote: Run[Literal["copy", "stream"]] = "copy"
    """How images are read where `dataset_dir` is an address such as `s3://BUCKET/FOLDER`: `copy` copies them into the
    cache before the first step, `stream` reads each from the store whenever it is needed."""
    skip_unreadable: Run[Natural] = 0
    """Number of training images that may be unreadable before a run stops: each is shown as a black image without
    objects, and listed in the run's `skipped.jsonl`. With 0 the first one stops it, with a checkpoint."""
    read_ahead: Run[Annotated[int, Meta(gt=0, le=10_000)]] = 64
    """Number of images that `remote: stream` reads at once, ahead of the threads that decode them."""
    num_workers: Run[Threads] = 4
    """Number of threads that decode images; 0 decodes in the training thread."""
    prefetch_size: Run[Annotated[int, Meta(gt=0, le=1024)]] = 2
    """Number of batches that each worker prepares ahead."""
    max_rowsize: Size[Positive] = 64
    """Largest size of a decoded image in MiB; a larger image is downscaled by a whole factor while it is decoded."""
    max_pixels: Run[Pixels] = 178_956_970
    """Number of pixels of the largest image that is opened: more would fill the memory, as bombs want. Parts of larger
    TIFF files are read with `tile`, which has no such limit."""
