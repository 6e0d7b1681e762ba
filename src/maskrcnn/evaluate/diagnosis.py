"""Why results are wrong: the price of each kind of error, classes taken for others, how well each image is solved.

Of each result forty bytes are kept.
"""

import io
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64
from numpy import ndarray

from maskrcnn.evaluate.error_kinds import (
    BACKGROUND,
    BOTH,
    CLASS,
    DUPLICATE,
    LOCATION,
    MIN_SCORE,
    RIGHT,
    UNKNOWN,
    examine,
    objects_of,
    rank,
)
from maskrcnn.evaluate.hotcoco_engine import MOST, Found, IouType

ERRORS = {"class": CLASS, "location": LOCATION, "both": BOTH, "duplicate": DUPLICATE, "background": BACKGROUND}
RECALLS = np.linspace(0, 1, 101)


class Judged(NamedTuple):
    """Results, and what was found out about them."""

    images: Int64[ndarray, " D"]
    categories: Int64[ndarray, " D"]
    scores: Float64[ndarray, " D"]
    kinds: Int64[ndarray, " D"]
    mended: Int64[ndarray, " D"]
    """The class in which a result would be right if its error were mended, else -1: that of an object which nothing
    found, and which no better result comes near."""


class Diagnosis:
    """Collects what is found out about images; images and classes are counted as in `hotcoco_engine`.

    most   results of one class in an image that are looked at
    """

    def __init__(self, num_classes: int, iou_type: IouType, most: int = MOST) -> None:
        self._with_masks, self._most = iou_type == "segm", most
        none = np.zeros(0, np.int64)
        self._judged = [Judged(none, none, np.zeros(0), none, none)]
        self._solved = [np.zeros((0, 4), np.int64)]
        """Image, results of `MIN_SCORE` that are right and that are wrong, objects."""
        self._num_objects, self._num_missed = np.zeros((2, num_classes), np.int64)
        self._confusion = np.zeros((num_classes + 1, num_classes + 1), np.int64)

    def add(self, images: Sequence[int], found: Found, annotations: Sequence[Sequence[dict[str, Any]]]) -> None:
        """All results and objects of some images."""
        numbers, num_classes = np.array(images, np.int64), len(self._num_objects)
        ranked, objects = rank(numbers, found), objects_of(annotations, self._with_masks)
        kinds, mended, is_missed = examine(
            found.boxes, found.runs, ranked, objects, self._with_masks, num_classes, self._most, self._confusion
        )
        self._judged.append(Judged(found.images[ranked.indices], ranked.categories, ranked.scores, kinds, mended))
        is_shown = ranked.scores >= MIN_SCORE
        right, wrong = is_shown & (kinds == RIGHT), is_shown & (kinds != RIGHT) & (kinds != UNKNOWN)
        counts = [_counts(right, ranked.first), _counts(wrong, ranked.first), _counts(~objects.is_crowd, objects.first)]
        is_seen = (np.diff(ranked.first) > 0) | (np.diff(objects.first) > 0)
        self._solved.append(np.column_stack([numbers, *counts])[is_seen])
        self._num_objects += np.bincount(objects.categories[~objects.is_crowd], minlength=num_classes)
        self._num_missed += np.bincount(objects.categories[is_missed], minlength=num_classes)

    def to_bytes(self) -> bytes:
        """What was found out, for `merge` in another process."""
        file = io.BytesIO()
        np.savez(file, *self._all(), *self._tables(), np.concatenate(self._solved))
        return file.getvalue()

    def merge(self, others: Iterable[bytes]) -> None:
        """Take over what others found out about other images."""
        for state in others:
            with np.load(io.BytesIO(state), allow_pickle=False) as arrays:
                *judged, num_objects, num_missed, confusion, solved = arrays.values()
            self._judged.append(Judged(*judged))
            self._solved.append(solved)
            for table, more in zip(self._tables(), (num_objects, num_missed, confusion), strict=True):
                table += more

    def errors(self) -> dict[str, float]:
        """AP50 that would be gained if one kind of error were mended, on average over the classes with objects.

        The best result near an object that nothing found would be right, and count in the class of the object.
        All other wrong results would be gone, and missed objects would not count.
        Source: Bolya et al. 2020, TIDE.
        """
        judged = self._all()
        judged = _some(judged, judged.kinds != UNKNOWN)
        judged = _ranked(judged, np.zeros(len(judged.kinds), bool))
        before = _sum_of_precisions(judged, self._num_objects)
        after = {name: _sum_of_precisions(_without(judged, kind), self._num_objects) for name, kind in ERRORS.items()}
        after["missed"] = _sum_of_precisions(judged, self._num_objects - self._num_missed)
        number = max(1, int(np.count_nonzero(self._num_objects)))
        return {name: max(0.0, (value - before) / number) for name, value in after.items()}

    def confusion(self) -> list[list[int]]:
        """[true, predicted, number] wherever the number is not zero; the last class is background."""
        true, predicted = np.nonzero(self._confusion)
        counts: list[list[int]] = np.stack([true, predicted, self._confusion[true, predicted]], axis=1).tolist()
        return counts

    def images(self) -> list[dict[str, Any]]:
        """How well each image with objects or results is solved, in order; "id" is our number."""
        rows = []
        for image, found, wrong, objects in sorted(np.concatenate(self._solved).tolist()):
            everything = found + wrong + objects
            f1 = 2 * found / everything if everything else None
            rows.append({"id": image, "found": found, "wrong": wrong, "missed": objects - found, "f1": f1})
        return rows

    def _all(self) -> Judged:
        return Judged(*map(np.concatenate, zip(*self._judged, strict=True)))

    def _tables(self) -> tuple[ndarray, ...]:
        return self._num_objects, self._num_missed, self._confusion


def average_precision(right: Bool[ndarray, " D"], num_objects: int) -> float:
    """COCO's, of results from the best to the worst: the mean at 101 recalls of the highest precision from there on."""
    hits = np.cumsum(right)
    precision = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
    indices = np.searchsorted(hits / num_objects, RECALLS)
    return float(np.append(precision, 0.0)[indices].mean())


def _counts(chosen: Bool[ndarray, " N"], first: Int64[ndarray, " F"]) -> Int64[ndarray, " F-1"]:
    """How many of each image."""
    return np.diff(np.append(0, np.cumsum(chosen))[first])


def _some(judged: Judged, chosen: ndarray) -> Judged:
    return Judged(*(column[chosen] for column in judged))


def _ranked(judged: Judged, is_moved: Bool[ndarray, " D"]) -> Judged:
    """Class by class, the best first; among equals those that moved here last."""
    return _some(judged, np.lexsort((judged.images, is_moved, -judged.scores, judged.categories)))


def _without(judged: Judged, kind: int) -> Judged:
    """Ranked results if one kind of error were mended."""
    judged = _some(judged, (judged.kinds != kind) | (judged.mended >= 0))
    is_mended = judged.kinds == kind
    categories = np.where(is_mended, judged.mended, judged.categories)
    judged = judged._replace(categories=categories, kinds=np.where(is_mended, RIGHT, judged.kinds))
    return _ranked(judged, is_mended) if kind == CLASS else judged


def _sum_of_precisions(ranked: Judged, num_objects: Int64[ndarray, " K"]) -> float:
    """AP50 of all classes with objects."""
    first = np.searchsorted(ranked.categories, np.arange(len(num_objects) + 1)).tolist()
    right = ranked.kinds == RIGHT
    return sum(
        average_precision(right[start:stop], number)
        for (start, stop), number in zip(pairwise(first), num_objects.tolist(), strict=True)
        if number
    )
