"""Boundary AP (Cheng et al. 2021): COCO's AP where masks overlap as much as they and their boundaries both do.

Two large masks whose edges differ by a few pixels have a high IoU; that of their boundaries is low. Of each result some
fifty bytes are kept.
"""

import io
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, no_type_check

import numpy as np
from jaxtyping import Float64, Int64
from numpy import ndarray

from maskrcnn.evaluate.boundaries import boundaries, boundary_width
from maskrcnn.evaluate.diagnosis import average_precision
from maskrcnn.evaluate.error_kinds import objects_of, rank
from maskrcnn.evaluate.hotcoco_engine import MOST, Found, Truth
from maskrcnn.evaluate.overlaps import mask_overlaps
from maskrcnn.kernels import kernel

IOUS = np.linspace(0.5, 0.95, 10)
AREAS = np.array([[0, 1e10], [0, 32**2], [32**2, 96**2], [96**2, 1e10]])
"""Least and largest area of all objects, and of small, medium and large ones, as COCO has them."""
BOUNDARY_NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl")


class Matched(NamedTuple):
    """Results, and at which IoUs they match: bit t stands for `IOUS[t]`, and rows are those of `AREAS`."""

    images: Int64[ndarray, " D"]
    categories: Int64[ndarray, " D"]
    scores: Float64[ndarray, " D"]
    right: Int64[ndarray, "4 D"]
    ignored: Int64[ndarray, "4 D"]


class BoundaryMatcher:
    """Matches the results of whole images with their objects, by masks and their boundaries.

    Boundaries are found only of masks that overlap half with an object of their class: others match at no IoU.
    """

    def __init__(self, truth: Truth) -> None:
        self._sizes, num_classes = truth.sizes, len(truth.names)
        none, no_bits = np.zeros(0, np.int64), np.zeros((len(AREAS), 0), np.int64)
        self._matched = [Matched(none, none, np.zeros(0), no_bits, no_bits)]
        self._num_objects = np.zeros((len(AREAS), num_classes), np.int64)

    def add(self, images: Sequence[int], annotations: Sequence[dict[str, Any]], found: Found) -> None:
        """All objects and results of some images."""
        numbers = np.array(images, np.int64)
        by_image: dict[int, list[dict[str, Any]]] = {image: [] for image in images}
        for one in annotations:
            by_image[one["image_id"]].append(one)
        ranked, objects = rank(numbers, found), objects_of(list(by_image.values()), with_masks=True)
        sizes = [self._sizes[image] for image in images]
        heights = np.array([height for height, _ in sizes], np.int64)
        reach = np.array([boundary_width(*size) for size in sizes], np.int64)
        right, ignored = _match(found.runs, ranked, objects, heights, reach, MOST)
        is_counted = ignored[0] >= 0
        of_images = found.images[ranked.indices]
        columns = of_images, ranked.categories, ranked.scores
        counted = (column[is_counted] for column in columns)
        self._matched.append(Matched(*counted, right[:, is_counted], ignored[:, is_counted]))  # type: ignore[call-arg]
        for row, (least, most) in zip(self._num_objects, AREAS, strict=True):
            counts = ~objects.is_crowd & (objects.areas >= least) & (objects.areas <= most)
            row += np.bincount(objects.categories[counts], minlength=len(row))

    def to_bytes(self) -> bytes:
        """What was matched, for `merge` in another process."""
        file = io.BytesIO()
        np.savez(file, *self._all(), self._num_objects)
        return file.getvalue()

    def merge(self, others: Iterable[bytes]) -> None:
        """Take over what others matched in other images."""
        for state in others:
            with np.load(io.BytesIO(state), allow_pickle=False) as arrays:
                *matched, num_objects = arrays.values()
            self._matched.append(Matched(*matched))
            self._num_objects += num_objects

    def summary(self) -> list[float]:
        """Compute the scores of all images together, as `BOUNDARY_NAMES`; -1 where there is nothing to score."""
        matched = self._all()
        order = np.lexsort((matched.images, -matched.scores, matched.categories))
        matched = Matched(*(column[..., order] for column in matched))
        first = np.searchsorted(matched.categories, np.arange(self._num_objects.shape[1] + 1))
        precision = np.array(
            [
                _precisions(right, ignored, first, num_objects)
                for right, ignored, num_objects in zip(matched.right, matched.ignored, self._num_objects, strict=True)
            ]
        )
        chosen = precision[0], precision[0, 0], precision[0, 5], *precision[1:]
        return [float(values[values > -1].mean()) if (values > -1).any() else -1.0 for values in chosen]

    def _all(self) -> Matched:
        return Matched(*(np.concatenate(columns, axis=-1) for columns in zip(*self._matched, strict=True)))


def _precisions(
    right: Int64[ndarray, " D"], ignored: Int64[ndarray, " D"], first: Int64[ndarray, " _"], num: Int64[ndarray, " K"]
) -> Float64[ndarray, "10 K"]:
    """AP of each IoU and class of results that lie class by class, the best first; -1 of a class without objects."""
    precision = np.full((len(IOUS), len(num)), -1.0)
    for category in np.flatnonzero(num):
        mine = slice(first[category], first[category + 1])
        for t in range(len(IOUS)):
            is_counted = ignored[mine] >> t & 1 == 0
            is_right = (right[mine] >> t & 1).astype(bool)[is_counted]
            precision[t, category] = average_precision(is_right, int(num[category]))
    return precision


@kernel()
@no_type_check
def _match(runs, ranked, objects, heights, reach, most):
    """(bits of the IoUs at which each result is right, bits of those at which it does not count, -1 if it never does).

    Looks at `most` results of one class in an image.
    """
    num = len(ranked.indices)
    right, ignored = np.zeros((len(AREAS), num), np.int64), np.zeros((len(AREAS), num), np.int64)
    for image in range(len(ranked.first) - 1):
        start, stop = ranked.first[image], ranked.first[image + 1]
        first, last = objects.first[image], objects.first[image + 1]
        rows, categories = ranked.indices[start:stop], ranked.categories[start:stop]
        overlaps = mask_overlaps(runs, rows, objects.runs, objects.is_crowd, first, last)
        _lower(overlaps, runs, rows, categories, objects, first, last, heights[image], reach[image])
        is_counted = _best(categories, most)
        for a in range(len(AREAS)):
            least, largest = AREAS[a]
            is_ignored = objects.is_crowd[first:last].copy()
            for g in range(first, last):
                is_ignored[g - first] |= objects.areas[g] < least or objects.areas[g] > largest
            given = overlaps, categories, is_counted, objects.categories[first:last], objects.is_crowd[first:last]
            for t in range(len(IOUS)):
                bit = np.int64(1) << t
                target = _greedy(*given, is_ignored, IOUS[t])
                for d in range(stop - start):
                    area = runs.areas[rows[d]]
                    if target[d] >= 0 and not is_ignored[target[d]]:
                        right[a, start + d] |= bit
                    elif target[d] >= 0 or area < least or area > largest:
                        ignored[a, start + d] |= bit
        for d in range(stop - start):
            if not is_counted[d]:
                ignored[:, start + d] = -1
    return right, ignored


@kernel()
@no_type_check
def _lower(overlaps, runs, rows, categories, objects, first, last, height, reach):
    """Replace the overlaps of masks that may match by those of their boundaries, where these are lower."""
    is_near = overlaps >= IOUS[0]
    for d in range(len(rows)):
        for g in range(first, last):
            is_near[d, g - first] &= objects.categories[g] == categories[d]
    near, targets = np.empty(len(rows), np.int64), np.empty(last - first, np.int64)
    num_near = num_targets = 0
    for d in range(len(rows)):
        if is_near[d].any():
            near[num_near] = d
            num_near += 1
    for g in range(last - first):
        if is_near[:, g].any():
            targets[num_targets] = g
            num_targets += 1
    near, targets = near[:num_near], targets[:num_targets]
    mine, theirs = boundaries(runs, rows[near], height, reach), boundaries(objects.runs, targets + first, height, reach)
    edges = mask_overlaps(mine, np.arange(num_near), theirs, objects.is_crowd[first + targets], 0, num_targets)
    for m, d in enumerate(near):
        for n, g in enumerate(targets):
            overlaps[d, g] = min(overlaps[d, g], edges[m, n])


@kernel()
@no_type_check
def _best(categories, most):
    """Which results are among the `most` best of their class; the best come first."""
    is_counted = np.ones(len(categories), np.bool_)
    seen = np.zeros(categories.max() + 1 if len(categories) else 0, np.int64)
    for d, category in enumerate(categories):
        seen[category] += 1
        is_counted[d] = seen[category] <= most
    return is_counted


@kernel()
@no_type_check
def _greedy(overlaps, categories, is_counted, objects, is_crowd, is_ignored, iou):
    """The object of each result, -1 without: the best chooses first, and ignored objects take what finds no other."""
    target, taken = np.full(len(categories), -1), np.zeros(len(objects), np.bool_)
    for d, category in enumerate(categories):
        if not is_counted[d]:
            continue
        for wanted in (False, True):
            least = iou
            for g in range(len(objects)):
                is_free = not taken[g] or is_crowd[g]
                if objects[g] == category and is_ignored[g] == wanted and is_free and overlaps[d, g] >= least:
                    least, target[d] = overlaps[d, g], g
            if target[d] >= 0:
                taken[target[d]] = True
                break
    return target
