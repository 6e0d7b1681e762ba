"""Settings of images and annotations: paths, preprocessing, loading."""

from typing import Annotated, Literal

from msgspec import Meta

from maskrcnn.config.roles import Convention, Fraction, Learning, Natural, Positive, Run, Settings, Size

Rounding = Literal["nearest", "down"]
Fit = Literal["sides", "box"]
Format = Literal["auto", "coco", "lvis", "yolo", "labelme", "cvat", "via", "voc", "cityscapes", "dsb2018", "instances"]


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
    it, from the working directory or beside the recipe's file; empty takes the data's own splits."""
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
