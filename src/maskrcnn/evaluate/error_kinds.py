"""What single results are, image by image: right, wrong in some way, or taken for another class.

Each image is looked at alone, from the overlaps of all its results with all its objects, whatever their classes.
Source of the kinds: Bolya et al. 2020, TIDE. The kernels release the GIL.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, no_type_check

import numpy as np
from jaxtyping import Bool, Float64, Int64
from numpy import ndarray

from maskrcnn.evaluate.hotcoco_engine import Found
from maskrcnn.evaluate.overlaps import NO_RUNS, Runs, box_overlaps, mask_overlaps, runs_from_strings
from maskrcnn.kernels import kernel

MIN_SCORE = 0.5
"""What a person is shown by default; confusion and the quality of single images are counted from here."""
MATCH_IOU = 0.5
FAR_IOU = 0.1
"""Up to here, a result lies on background."""

RIGHT, CLASS, LOCATION, BOTH, DUPLICATE, BACKGROUND, UNKNOWN = range(7)
"""What a result is. Nobody knows of those in a crowd, nor looks at those after the best `most` of their class."""


class Ranked(NamedTuple):
    """Results of some images, image by image and the best first: those of image i stand from first[i] on."""

    first: Int64[ndarray, "I+1"]
    indices: Int64[ndarray, " D"]
    """Index of each result among all that were given."""
    categories: Int64[ndarray, " D"]
    scores: Float64[ndarray, " D"]
    by_class: Int64[ndarray, " D"]
    """The order in which equals follow their classes."""


class AnnotatedObjects(NamedTuple):
    """What is annotated on some images: on image i from first[i] on, class by class, crowds last in each."""

    first: Int64[ndarray, "I+1"]
    categories: Int64[ndarray, " G"]
    is_crowd: Bool[ndarray, " G"]
    areas: Float64[ndarray, " G"]
    boxes: Float64[ndarray, "G 4"]
    runs: Runs


def rank(images: Int64[ndarray, " I"], found: Found) -> Ranked:
    """Results in the order of the images and of their scores; equals stay in theirs."""
    sorter = np.argsort(images)
    rows = sorter[np.searchsorted(images, found.images, sorter=sorter)]
    indices = np.lexsort((-found.scores, rows))
    rows, categories, scores = rows[indices], found.categories[indices], found.scores[indices]
    first = np.searchsorted(rows, np.arange(len(images) + 1))
    return Ranked(first, indices, categories, scores, np.lexsort((categories, -scores, rows)))


def objects_of(annotations: Sequence[Sequence[dict[str, Any]]], with_masks: bool) -> AnnotatedObjects:
    """The annotations of some images in columns."""
    first = np.cumsum([0, *map(len, annotations)])
    ordered = [
        one for mine in annotations for one in sorted(mine, key=lambda one: (one["category_id"], one["iscrowd"]))
    ]
    categories = np.array([one["category_id"] for one in ordered], np.int64)
    is_crowd = np.array([one["iscrowd"] for one in ordered], bool)
    areas = np.array([one["area"] for one in ordered], np.float64)
    boxes = np.array([one["bbox"] for one in ordered], np.float64).reshape(-1, 4)
    if not with_masks:
        return AnnotatedObjects(first, categories, is_crowd, areas, boxes, NO_RUNS)
    masks = [one["segmentation"] for one in ordered]
    pixels = [mask["size"][0] * mask["size"][1] for mask in masks]
    runs = runs_from_strings([mask["counts"] for mask in masks], pixels)
    assert runs is not None, "our own run lengths are good"
    return AnnotatedObjects(first, categories, is_crowd, areas, boxes, runs)


@kernel()
@no_type_check
def examine(boxes, runs, ranked, objects, with_masks, num_classes, most, confusion):
    """(kind of each ranked result, the class in which it would be right or -1, which objects nothing comes near).

    Looks at `most` results of an image, and of one class in it. Adds to `confusion` how often an object of one class
    (row) is taken for another; the last is background.
    """
    kinds, mended = np.full(len(ranked.indices), UNKNOWN), np.full(len(ranked.indices), -1)
    is_missed = ~objects.is_crowd
    for image in range(len(ranked.first) - 1):
        start, stop = ranked.first[image], ranked.first[image + 1]
        first, last = objects.first[image], objects.first[image + 1]
        rows, is_crowd = ranked.indices[start:stop], objects.is_crowd[first:last]
        if with_masks:
            overlaps = mask_overlaps(runs, rows, objects.runs, objects.is_crowd, first, last)
        else:
            overlaps = box_overlaps(boxes, rows, objects.boxes, objects.is_crowd, first, last)
        given = overlaps, ranked.categories[start:stop], objects.categories[first:last], is_crowd
        target, taken = _match(*given, num_classes, most)
        _judge(*given, target, taken, kinds[start:stop], mended[start:stop], is_missed[first:last])
        order, scores = ranked.by_class[start:stop] - start, ranked.scores[start:stop]
        _confuse(*given, order, scores, kinds[start:stop], most, confusion)
    return kinds, mended, is_missed


@kernel()
@no_type_check
def _match(overlaps, categories, objects, is_crowd, num_classes, most):
    """(object of each result, -1 without, -2 where it does not count; which objects are taken): COCO's greedy way.

    The best result chooses first; crowds, which come last in a class, take what finds no other.
    """
    target, taken = np.full(len(categories), -1), np.zeros(len(objects), np.bool_)
    num_seen = np.zeros(num_classes, np.int64)
    for d, category in enumerate(categories):
        num_seen[category] += 1
        if num_seen[category] > most:
            target[d] = -2
            continue
        least, best = MATCH_IOU, -1
        for g in range(len(objects)):
            if objects[g] != category or (taken[g] and not is_crowd[g]):
                continue
            if is_crowd[g] and best >= 0 and not is_crowd[best]:
                break
            if overlaps[d, g] >= least:
                least, best = overlaps[d, g], g
        if best >= 0:
            target[d], taken[best] = best, True
    return target, taken


@kernel()
@no_type_check
def _judge(overlaps, categories, objects, is_crowd, target, taken, kinds, mended, is_missed):
    """Fill what each result is, the class in which it would be right, and which objects nothing comes near."""
    for g in range(len(objects)):
        is_missed[g] = not taken[g] and not is_crowd[g]
    for d in range(len(target)):
        if target[d] >= 0 and not is_crowd[target[d]]:
            kinds[d] = RIGHT
        elif target[d] == -1:
            kinds[d], near = _error(overlaps[d], categories[d], objects, is_crowd, taken)
            if near >= 0 and is_missed[near]:
                mended[d], is_missed[near] = objects[near], False


@kernel()
@no_type_check
def _error(overlaps, category, objects, is_crowd, taken):
    """(kind of error of a result that matched nothing, the object that it would find without it or -1)."""
    same = other = 0.0
    nearest = rival = -1
    is_second = False
    for g in range(len(objects)):
        if objects[g] == category:
            if overlaps[g] > same:
                same, nearest = overlaps[g], g
            is_second |= taken[g] and overlaps[g] >= MATCH_IOU
        elif overlaps[g] > other and not is_crowd[g]:
            other, rival = overlaps[g], g
    if FAR_IOU <= same <= MATCH_IOU:
        return LOCATION, nearest
    if other >= MATCH_IOU:
        return CLASS, rival
    if is_second:
        return DUPLICATE, -1
    return (BACKGROUND if other <= FAR_IOU else BOTH), -1


@kernel()
@no_type_check
def _confuse(overlaps, categories, objects, is_crowd, order, scores, kinds, most, confusion):
    """Count: the best result that is shown chooses first, among objects of any class."""
    background, num_shown = len(confusion) - 1, 0
    taken = is_crowd.copy()
    for d in order:
        if scores[d] < MIN_SCORE or kinds[d] == UNKNOWN or num_shown == most:
            continue
        num_shown += 1
        least, best = MATCH_IOU, -1
        for g in range(len(objects)):
            if not taken[g] and overlaps[d, g] >= least:
                least, best = overlaps[d, g], g
        if best >= 0:
            taken[best] = True
        confusion[objects[best] if best >= 0 else background, categories[d]] += 1
    for g in range(len(objects)):
        if not taken[g]:
            confusion[objects[g], background] += 1
