"""Results that people bring: read, checked, and put into columns.

A result is one object found: {"image_id", "category_id", "score", "bbox": [x, y, width, height],
"segmentation": RLE or polygons}, in pixels of the original image.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from maskrcnn.evaluate.hotcoco_engine import Found, IouType, Truth, compressed, sentence
from maskrcnn.evaluate.overlaps import NO_RUNS, Runs, runs_from_strings
from maskrcnn.files import SPECIAL, ends_in_zeros, is_special
from maskrcnn.masks import counts_from_string
from maskrcnn.sentences import some_of

AT_ONCE = 30
"""Images that are handed on together: few columns are alive at a time, and each call is worth its while."""
NO_BOX = (math.nan,) * 4
UNREADABLE = (ValueError, TypeError, KeyError, OverflowError)
"""What masks raise that are none."""


class RunLengths(msgspec.Struct, gc=False):
    """A mask, compressed (str or bytes) or not."""

    size: tuple[int, int]
    counts: Any


class Result(msgspec.Struct, gc=False):
    """One entry of a result file, of any maker. Python's collector need not look at half a million of them."""

    image_id: int | float | str
    """Id of the image in the annotations: text, or larger than 64 bits, where theirs are. A table's 7.0 is 7."""
    category_id: int | float
    score: float
    bbox: tuple[float, float, float, float] | None = None
    segmentation: RunLengths | list[Any] | None = None
    file_name: str | None = None


def read(path: Path) -> list[Result]:
    """The entries of a result file; numbers may be text. Raises ValueError, naming it, where it cannot be read."""
    try:
        if is_special(Path(path)):
            raise OSError(None, SPECIAL)
        with Path(path).open("rb") as file:
            if ends_in_zeros(file):
                raise ValueError(f"{path} ends in zeros, as an interrupted copy does; copy it again")
            return msgspec.json.decode(file.read(), type=list[Result], strict=False)
    except FileNotFoundError as error:
        raise ValueError(f"{path}: there is no such result file") from error
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); expected a result file") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(
            f"{path}: not a COCO result file (a JSON list of entries with image_id, category_id, score and "
            f"bbox or segmentation): {sentence(error)}"
        ) from error


def convert(results: Sequence[dict[str, Any]], source: str) -> list[Result]:
    """The same from dictionaries."""
    try:
        return msgspec.convert(results, list[Result], strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"{source}: {sentence(error)}") from error


def carried(entries: Sequence[Result], source: str) -> tuple[IouType, ...]:
    """The IoU types that every entry can be scored for; both for an empty list."""
    fields: dict[IouType, Callable[[Result], bool]] = {
        "bbox": lambda entry: entry.bbox is not None,
        "segm": lambda entry: bool(entry.segmentation),
    }
    found = tuple(kind for kind, present in fields.items() if all(map(present, entries)))
    if not found:
        raise ValueError(f"{source}: expected bbox in every result, or segmentation in every result, found neither")
    return found


def batches(
    truth: Truth, entries: Sequence[Result], iou_types: Sequence[IouType], source: str
) -> Iterator[tuple[range, Found]]:
    """All images of the annotations, some at a time, with their results, checked.

    Raises ValueError for a result that cannot be scored, naming it.
    """
    images = np.array([truth.number_of(entry.image_id) for entry in entries], np.int64)
    if (images < 0).any():
        position = int(images.argmin())
        check(truth, entries[position], iou_types, f"{source}: result {position}")
    order = np.argsort(images, kind="stable")
    bounds = [*range(0, len(truth.images), AT_ONCE), len(truth.images)]
    stops = np.searchsorted(images[order], bounds).tolist()
    for (first, last), (start, stop) in zip(pairwise(bounds), pairwise(stops), strict=True):
        yield range(first, last), columns(truth, entries, order[start:stop].tolist(), iou_types, source)


def columns(
    truth: Truth, entries: Sequence[Result], chosen: Sequence[int], iou_types: Sequence[IouType], source: str
) -> Found:
    """Some entries, of annotated images, in columns. Raises ValueError for one that cannot be scored, naming it."""
    mine = [entries[position] for position in chosen]
    images = [truth.number_of(entry.image_id) for entry in mine]
    categories = np.array([truth.categories.get(entry.category_id, -1) for entry in mine], np.int64)
    scores = np.array([entry.score for entry in mine], np.float64)
    boxes = np.fromiter(chain.from_iterable(entry.bbox or NO_BOX for entry in mine), np.float64).reshape(-1, 4)
    masks, runs = _masks(mine, [truth.sizes[image] for image in images]) if "segm" in iou_types else ([], NO_RUNS)
    is_good = (categories >= 0) & np.isfinite(scores)
    if "bbox" in iou_types:
        is_good &= np.isfinite(boxes).all(axis=1)
    if runs is None or not is_good.all():
        for position in chosen:
            check(truth, entries[position], iou_types, f"{source}: result {position}")
    assert runs is not None, "one of the entries was refused"
    return Found(np.array(images, np.int64), categories, scores, boxes, masks, runs)


def check(truth: Truth, entry: Result, iou_types: Sequence[IouType], where: str) -> None:
    """Raise ValueError, saying why, for a result that cannot be scored."""
    where, image = f"{where} (image {entry.image_id})", truth.number_of(entry.image_id)
    if image < 0:
        raise ValueError(
            f"{where} is of an image that is not among the {len(truth.images)} annotated ones, whose ids are "
            f"{some_of(truth.image_ids, 3)}; `maskrcnn predict` numbers images 1, 2, 3 in the order of their files and "
            "writes file_name, by which they are found: leave it in, or write the annotations' ids"
        )
    if entry.category_id not in truth.categories:
        raise ValueError(f"{where} has category {entry.category_id}, expected one of {some_of(truth.category_ids, 8)}")
    if not math.isfinite(entry.score):
        raise ValueError(f"{where} has score {entry.score}, expected a finite number")
    if "bbox" in iou_types and (entry.bbox is None or not all(map(math.isfinite, entry.bbox))):
        raise ValueError(f"{where} has bbox {entry.bbox}, expected four finite numbers [x, y, width, height]")
    if "segm" in iou_types:
        try:
            counts_from_string(compress(entry.segmentation, truth.sizes[image]))
        except UNREADABLE as error:
            raise ValueError(
                f"{where} has a segmentation that is neither RLE nor polygons: {sentence(error)}"
            ) from error


def _masks(entries: Sequence[Result], sizes: Sequence[tuple[int, int]]) -> tuple[list[str], Runs | None]:
    """Compressed run lengths, and the same decoded: None where any of them is not a mask of its image."""
    pairs = zip((entry.segmentation for entry in entries), sizes, strict=True)
    try:
        masks = [
            mask.counts
            if type(mask) is RunLengths and type(mask.counts) is str and mask.size == size
            else compress(mask, size)
            for mask, size in pairs
        ]
    except UNREADABLE:
        return [], None
    return masks, runs_from_strings(masks, [height * width for height, width in sizes])


def compress(mask: RunLengths | list[Any] | None, size: tuple[int, int]) -> str:
    """A result's mask as compressed run lengths. Raises one of `UNREADABLE` for anything else."""
    return compressed({"size": mask.size, "counts": mask.counts} if isinstance(mask, RunLengths) else mask, *size)
