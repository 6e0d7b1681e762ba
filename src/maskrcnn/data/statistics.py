"""What a data set is like, in numbers: sizes, counts, crowding, class balance, colours. Columns in, numbers out.

Crowd regions and objects that are not learnt are counted by themselves and are part of nothing else.
"""

from collections.abc import Iterable
from typing import NamedTuple, no_type_check

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, Num, UInt8
from numpy import ndarray

from maskrcnn.data.dataset import Dataset, Flag
from maskrcnn.kernels import kernel
from maskrcnn.masks import signed_areas

SMALL, LARGE = 32**2, 96**2
"""Square pixels from which an object is medium, and large: the bounds of COCO's scores."""
SIZES = ("small", "medium", "large")
DEPTH = 256
"""Number of values that a band of a decoded image has."""
NEAR = 0.5
"""IoU of two boxes beyond which non-maximum suppression, as it is usually set, drops the less certain one."""


class Spread(NamedTuple):
    """How some numbers are spread; NaN where there are none."""

    smallest: float
    low: float
    """The 5th percentile."""
    median: float
    high: float
    """The 95th percentile."""
    largest: float
    mean: float


class ClassRow(NamedTuple):
    """One class."""

    name: str
    objects: int
    images: int
    """Number of images that hold one or more."""
    median_side: float
    """Square root of the area, in pixels; NaN where there is none."""
    sizes: tuple[int, int, int]
    """Number of small, medium and large ones."""


class Band(NamedTuple):
    """The values of one band over all pixels that were looked at, in 0..255."""

    smallest: int
    low: int
    """The 1st percentile."""
    median: int
    high: int
    """The 99th percentile."""
    largest: int
    mean: float
    std: float


class Columns(NamedTuple):
    """What is measured, one number for each image or object that counts."""

    heights: Int64[ndarray, " N"]
    widths: Int64[ndarray, " N"]
    objects_per_image: Int64[ndarray, " N"]
    sides: Float64[ndarray, " M"]
    """Square roots of areas, in pixels."""
    shares: Float64[ndarray, " M"]
    """The same over the square root of the image's area."""
    overlaps: Float32[ndarray, " M"]
    """Greatest box IoU with another object of the image."""
    overlaps_in_class: Float32[ndarray, " M"]
    """Greatest box IoU with another object of the image and class."""


class Statistics(NamedTuple):
    """One split."""

    images: int
    without_objects: int
    objects: int
    """Without crowd regions and those that are not learnt."""
    crowd_regions: int
    not_learnt: int
    common_sizes: list[tuple[int, int, int]]
    """(width, height, number of images), the most frequent first."""
    classes: list[ClassRow]
    """In the order of their labels."""
    columns: Columns
    bands: list[Band]
    """Red, green and blue; empty where no image was decoded."""
    colours: Int64[ndarray, "C 256"]
    """Number of pixels of each value."""


def statistics(data: Dataset, colours: Int64[ndarray, "C 256"] | None = None) -> Statistics:
    """Measure a split.

    colours   what `count_colours` found in some of its images
    """
    counted = data.learnt & ~data.crowd
    columns = _columns(data, counted)
    colours = np.zeros((0, DEPTH), np.int64) if colours is None else colours
    return Statistics(
        images=len(data.image_ids),
        without_objects=int(np.count_nonzero(columns.objects_per_image == 0)),
        objects=int(np.count_nonzero(counted)),
        crowd_regions=int(np.count_nonzero(data.crowd)),
        not_learnt=int(np.count_nonzero(~data.learnt)),
        common_sizes=common_sizes(data),
        classes=class_rows(data, counted, columns.sides),
        columns=columns,
        bands=[band(counts) for counts in colours if counts.any()],
        colours=colours,
    )


def object_areas(data: Dataset) -> Float64[ndarray, " O"]:
    """Square pixels of each object: as stated, else of its rings, else of its box.

    Parts of an outline that overlap are counted twice.
    """
    x1, y1, x2, y2 = data.boxes.T.astype(np.float64)
    boxes = (x2 - x1) * (y2 - y1)
    measured = np.where(data.flags & Flag.NO_OUTLINE, boxes, outline_areas(data))
    return np.where(np.isnan(data.areas), measured, data.areas)


def size_classes(areas: Float64[ndarray, " n"]) -> Int64[ndarray, " n"]:
    """Index into `SIZES` of some areas.

    >>> size_classes(np.array([1023.0, 1024.0, 9216.0])).tolist()
    [0, 1, 2]
    """
    return np.searchsorted([SMALL, LARGE], areas, side="right").astype(np.int64)


def outline_areas(data: Dataset) -> Float64[ndarray, " O"]:
    """Square pixels that the rings of each object enclose, those in which rings overlap as often as they do."""
    sums = np.bincount(owners_of_rings(data), signed_areas(data.rings), minlength=len(data.labels))
    return np.abs(sums).astype(np.float64)  # no rings are counted in whole numbers


def owners_of_rings(data: Dataset) -> Int64[ndarray, " R"]:
    """The index of each ring's object."""
    return np.repeat(np.arange(len(data.labels)), np.diff(data.first_ring))


def greatest_overlaps(data: Dataset, counted: Bool[ndarray, " O"]) -> Float32[ndarray, "O 2"]:
    """Greatest box IoU of each object with another of its image, of any class and of its own; 0 where there is none.

    counted   objects that take part
    """
    return _greatest_overlaps(data.boxes, data.labels, data.first_object, counted)


def class_rows(data: Dataset, counted: Bool[ndarray, " O"], sides: Float64[ndarray, " m"]) -> list[ClassRow]:
    """The balance of the classes, in the order of their labels.

    sides   of the counted objects
    """
    labels, num_classes = data.labels[counted], len(data.category_names)
    objects = np.bincount(labels, minlength=num_classes + 1)[1:]
    pairs = np.unique(data.owners[counted] * (num_classes + 1) + labels)
    images = np.bincount(pairs % (num_classes + 1), minlength=num_classes + 1)[1:]
    kinds = np.bincount(3 * labels + size_classes(sides**2), minlength=3 * num_classes + 3).reshape(-1, 3)[1:]
    order = np.lexsort((sides, labels))
    ends = np.cumsum(objects)
    middle = [_median(sides[order[end - number : end]]) for number, end in zip(objects, ends, strict=True)]
    table = zip(data.category_names, objects.tolist(), images.tolist(), middle, kinds.tolist(), strict=True)
    return [
        ClassRow(name, count, held, side, (small, medium, large))
        for name, count, held, side, (small, medium, large) in table
    ]


def common_sizes(data: Dataset, most: int = 5) -> list[tuple[int, int, int]]:
    """(width, height, number of images) of the most frequent sizes, the larger ones first among equals."""
    sizes, counts = np.unique(data.sizes[:, ::-1], axis=0, return_counts=True)
    order = np.lexsort((-sizes.prod(axis=1), -counts))[:most]
    return [(*sizes[row].tolist(), int(counts[row])) for row in order]


def spread(values: Num[ndarray, " n"]) -> Spread:
    """How some numbers are spread.

    >>> spread(np.arange(101)).high
    95.0
    """
    if not len(values):
        nan = float("nan")
        return Spread(nan, nan, nan, nan, nan, nan)
    smallest, low, median, high, largest = np.percentile(values, [0, 5, 50, 95, 100]).tolist()
    return Spread(smallest, low, median, high, largest, float(np.mean(values)))


def count_colours(images: Iterable[UInt8[ndarray, "_ _ _"]]) -> Int64[ndarray, "C 256"]:
    """Number of pixels of each value in each band of some images; no bands where there are no images."""
    total = np.zeros((0, DEPTH), np.int64)
    for image in images:
        counts = np.stack([np.bincount(values, minlength=DEPTH) for values in image.reshape(-1, image.shape[2]).T])
        total = counts + (total if len(total) else 0)
    return total


def band(counts: Int64[ndarray, " 256"]) -> Band:
    """What the values of a band are like, from the number of pixels of each.

    >>> band(np.bincount([10, 10, 20, 20], minlength=256)).mean
    15.0
    """
    values, total = np.arange(DEPTH), counts.sum()
    mean = float((counts * values).sum() / total)
    std = float(np.sqrt((counts * (values - mean) ** 2).sum() / total))
    below = np.cumsum(counts)
    low, median, high = np.searchsorted(below, np.array([0.01, 0.5, 0.99]) * total).tolist()
    seen = np.flatnonzero(counts)
    return Band(int(seen[0]), low, median, high, int(seen[-1]), mean, std)


def _columns(data: Dataset, counted: Bool[ndarray, " O"]) -> Columns:
    images = data.owners[counted]
    sides = np.sqrt(object_areas(data)[counted].clip(0))
    overlaps = greatest_overlaps(data, counted)[counted]
    return Columns(
        heights=data.sizes[:, 0],
        widths=data.sizes[:, 1],
        objects_per_image=np.bincount(images, minlength=len(data.image_ids)),
        sides=sides,
        shares=sides / np.sqrt(data.sizes.prod(axis=1).clip(1))[images],
        overlaps=overlaps[:, 0],
        overlaps_in_class=overlaps[:, 1],
    )


def _median(ordered: Float64[ndarray, " n"]) -> float:
    return float(np.median(ordered)) if len(ordered) else float("nan")


@kernel()
@no_type_check
def _greatest_overlaps(boxes, labels, first_object, counted):
    found = np.zeros((len(boxes), 2), np.float32)
    for image in range(len(first_object) - 1):
        for i in range(first_object[image], first_object[image + 1]):
            for j in range(i + 1, first_object[image + 1]):
                if not (counted[i] and counted[j]):
                    continue
                width = min(boxes[i, 2], boxes[j, 2]) - max(boxes[i, 0], boxes[j, 0])
                height = min(boxes[i, 3], boxes[j, 3]) - max(boxes[i, 1], boxes[j, 1])
                if width <= 0 or height <= 0:
                    continue
                first = (boxes[i, 2] - boxes[i, 0]) * (boxes[i, 3] - boxes[i, 1])
                second = (boxes[j, 2] - boxes[j, 0]) * (boxes[j, 3] - boxes[j, 1])
                iou = width * height / (first + second - width * height)
                for k in (i, j):
                    found[k, 0] = max(found[k, 0], iou)
                    if labels[i] == labels[j]:
                        found[k, 1] = max(found[k, 1], iou)
    return found
