"""What is left of outlines inside rectangles: its rings, the box around it, and its area."""

from typing import no_type_check

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from numpy import ndarray

from maskrcnn.kernels import kernel
from maskrcnn.masks.rings import Rings


def clipped(
    rings: Rings, chosen: Int64[ndarray, "D 2"], windows: Float32[ndarray, "D 4"]
) -> tuple[Float32[ndarray, "D 4"], Float64[ndarray, " D"]]:
    """The box (xyxy) around what is left of each outline in its window, and its area; zeros where nothing is left.

    chosen    the first ring of each outline, and the one behind its last
    windows   xyxy, in the frame of the rings
    Where rings of one outline overlap, their common area counts twice.
    Source: Sutherland and Hodgman 1974, one side of the window after the other.
    """
    return _clipped(rings.points, rings.first, chosen, windows)


def clip_rings(
    rings: Rings, chosen: Int64[ndarray, " R"], windows: Float32[ndarray, "R 4"]
) -> tuple[Rings, Bool[ndarray, " R"]]:
    """What windows (xyxy) leave of some rings, and of which of them something is left; the others are dropped.

    Edges along the window that lead to a part and back again enclose nothing. Source: as `clipped`.
    """
    points, lengths = _clip_rings(rings.points, rings.first, chosen, windows)
    is_left = lengths > 0
    return Rings(points, np.concatenate([[0], np.cumsum(lengths[is_left])]).astype(np.int32)), is_left


@kernel()
@no_type_check
def _clip_rings(points, first, chosen, windows):
    lengths = np.zeros(len(chosen), np.int64)
    for r in range(len(chosen)):  # counted first: room for the most that could be left would be many times as much
        num = len(_left(points[first[chosen[r]] : first[chosen[r] + 1]], windows[r]))
        lengths[r] = num if num >= 3 else 0
    kept, at = np.empty((lengths.sum(), 2), np.float32), 0
    for r in range(len(chosen)):
        if lengths[r] > 0:
            left = _left(points[first[chosen[r]] : first[chosen[r] + 1]], windows[r])
            for k in range(len(left)):
                kept[at + k, 0], kept[at + k, 1] = left[k, 0], left[k, 1]
            at += len(left)
    return kept, lengths


@kernel()
@no_type_check
def _clipped(points, first, chosen, windows):
    boxes, areas = np.zeros((len(chosen), 4), np.float32), np.zeros(len(chosen))
    for d in range(len(chosen)):
        low_x = low_y = np.inf
        high_x = high_y = -np.inf
        for ring in range(chosen[d, 0], chosen[d, 1]):
            left = _left(points[first[ring] : first[ring + 1]], windows[d])
            area = 0.0
            for k in range(len(left)):
                x, y = left[k]
                area += 0.5 * (left[k - 1, 0] * y - x * left[k - 1, 1])
                low_x, low_y = min(low_x, x), min(low_y, y)
                high_x, high_y = max(high_x, x), max(high_y, y)
            areas[d] += area
        if areas[d] > 0:
            boxes[d, 0], boxes[d, 1], boxes[d, 2], boxes[d, 3] = low_x, low_y, high_x, high_y
        else:
            areas[d] = 0.0
    return boxes, areas


@kernel()
@no_type_check
def _left(ring, window):
    """What a window leaves of a ring, one side after the other."""
    left = ring.astype(np.float64)
    for side in range(4):
        left = _cut(left, side % 2, window[side], side < 2)
    return left


@kernel()
@no_type_check
def _cut(ring, axis, limit, from_below):
    """The part of a ring on one side of a line across an axis: where the coordinate is at least the limit, or most."""
    kept = np.empty((2 * len(ring), 2))
    num = 0
    for k in range(len(ring)):
        before, here = ring[k - 1], ring[k]
        was_in = before[axis] >= limit if from_below else before[axis] <= limit
        is_in = here[axis] >= limit if from_below else here[axis] <= limit
        if was_in != is_in:
            share = (limit - before[axis]) / (here[axis] - before[axis])
            kept[num, axis] = limit
            kept[num, 1 - axis] = before[1 - axis] + share * (here[1 - axis] - before[1 - axis])
            num += 1
        if is_in:
            kept[num] = here
            num += 1
    return kept[:num]
