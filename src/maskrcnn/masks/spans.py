"""Masks as vertical spans of pixels, which cost what their outlines do however large their image is.

A span (x, y1, y2) holds the pixels of column x from row y1 to the one before y2. Those of a mask stand from left to
right and from top to bottom, and neither touch nor overlap in their column.
"""

from collections.abc import Sequence
from typing import no_type_check

import numpy as np
from jaxtyping import Bool, Int32, Int64, UInt32
from numpy import ndarray

from maskrcnn.kernels import kernel

Spans = Int32[ndarray, "_ 3"]
NO_SPANS = np.zeros((0, 3), np.int32)


def spans_from_counts(counts: UInt32[ndarray, " N"], height: int, corner: tuple[int, int] = (0, 0)) -> Spans:
    """The spans of a mask that run lengths describe.

    height   of the image that the runs count
    corner   its (x, y) in the frame of the spans
    """
    return _spans_from_counts(counts, height, *corner)


def counts_from_spans(spans: Spans, height: int, width: int) -> UInt32[ndarray, " N"]:
    """The run lengths of a mask that lies inside an image."""
    return _counts_from_spans(spans, height, height * width)


def area(spans: Spans) -> int:
    """Number of pixels."""
    return int((spans[:, 2] - spans[:, 1]).sum(dtype=np.int64))


def inside(spans: Spans, window: Int64[ndarray, "4"]) -> Spans:
    """What lies in a window (x1, y1, x2, y2)."""
    x1, y1, x2, y2 = window.tolist()
    first, last = np.searchsorted(spans[:, 0], [x1, x2])
    cut = spans[first:last].copy()
    np.clip(cut[:, 1:], y1, y2, out=cut[:, 1:])
    return cut[cut[:, 2] > cut[:, 1]]


def common(a: Spans, b: Spans) -> int:
    """Number of pixels that two masks share."""
    return _common(a, b)


def united(masks: Sequence[Spans]) -> Spans:
    """The pixels of any of some masks."""
    every = np.concatenate([NO_SPANS, *masks])
    return _united(every[np.lexsort((every[:, 1], every[:, 0]))])


def bitmap_from_spans(spans: Spans, window: tuple[int, int, int, int]) -> Bool[ndarray, "h w"]:
    """The pixels of a window (x1, y1, x2, y2) that a mask covers."""
    x1, y1, x2, y2 = window
    bitmap = np.zeros((y2 - y1, x2 - x1), np.bool_)
    _fill(inside(spans, np.array(window)), bitmap, x1, y1)
    return bitmap


def bounds_of_spans(spans: Spans) -> tuple[int, int, int, int]:
    """The smallest window (x1, y1, x2, y2) that holds a mask; zeros where it is empty."""
    if not len(spans):
        return 0, 0, 0, 0
    return int(spans[0, 0]), int(spans[:, 1].min()), int(spans[-1, 0]) + 1, int(spans[:, 2].max())


@kernel()
@no_type_check
def _spans_from_counts(counts, height, left, top):
    number, position = 0, np.int64(0)
    for k in range(len(counts)):
        stop = position + np.int64(counts[k])
        if k % 2 and stop > position:
            number += (stop - 1) // height - position // height + 1
        position = stop
    spans = np.empty((number, 3), np.int32)
    number, position = 0, np.int64(0)
    for k in range(len(counts)):
        stop = position + np.int64(counts[k])
        while k % 2 and position < stop:
            column = position // height
            end = min(stop, (column + 1) * height)
            spans[number, 0] = left + column
            spans[number, 1] = top + position - column * height
            spans[number, 2] = top + end - column * height
            number, position = number + 1, end
        position = stop
    return spans


@kernel()
@no_type_check
def _counts_from_spans(spans, height, pixels):
    counts = np.empty(2 * len(spans) + 2, np.uint32)
    number, position = 0, np.int64(0)
    for k in range(len(spans)):
        start, stop = np.int64(spans[k, 0]) * height + spans[k, 1], np.int64(spans[k, 0]) * height + spans[k, 2]
        if number and start == position:  # from the foot of a column to the head of the next
            counts[number - 1] += stop - start
        else:
            counts[number], counts[number + 1] = start - position, stop - start
            number += 2
        position = stop
    if position < pixels or not number:
        counts[number] = pixels - position
        number += 1
    return counts[:number].copy()


@kernel()
@no_type_check
def _common(a, b):
    shared, i, j = np.int64(0), 0, 0
    while i < len(a) and j < len(b):
        if a[i, 0] == b[j, 0]:
            shared += max(0, min(a[i, 2], b[j, 2]) - max(a[i, 1], b[j, 1]))
        if a[i, 0] < b[j, 0] or (a[i, 0] == b[j, 0] and a[i, 2] < b[j, 2]):
            i += 1
        else:
            j += 1
    return shared


@kernel()
@no_type_check
def _united(spans):
    """Join the spans, in order, that touch or overlap."""
    joined = np.empty_like(spans)
    number = 0
    for k in range(len(spans)):
        if number and joined[number - 1, 0] == spans[k, 0] and joined[number - 1, 2] >= spans[k, 1]:
            joined[number - 1, 2] = max(joined[number - 1, 2], spans[k, 2])
        else:
            joined[number] = spans[k]
            number += 1
    return joined[:number].copy()


@kernel()
@no_type_check
def _fill(spans, bitmap, left, top):
    for k in range(len(spans)):
        for y in range(spans[k, 1] - top, spans[k, 2] - top):
            bitmap[y, spans[k, 0] - left] = True
