"""Outlines as bitmaps."""

from typing import no_type_check

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from maskrcnn.kernels import kernel
from maskrcnn.masks.rings import Rings

Window = tuple[int, int, int, int]
"""Rows and columns of an image: first row, first column, and those behind the last."""


def window_of(rings: Rings, height: int, width: int) -> Window:
    """The part of an image that an outline may touch; without area where it lies outside."""
    if not len(rings.points):
        return 0, 0, 0, 0
    limits = np.array([width, height], np.float32)
    low = np.floor(np.nan_to_num(rings.points.min(axis=0)).clip(0, limits)).astype(int).tolist()
    high = np.ceil(np.nan_to_num(rings.points.max(axis=0)).clip(0, limits)).astype(int).tolist()
    return low[1], low[0], high[1], high[0]


def bitmap_from_rings(rings: Rings, window: Window) -> Bool[ndarray, "h w"]:
    """The pixels of a window whose centres lie inside an outline: what `rings_from_bitmap` took comes back.

    Inside is where the winding number is not zero; a centre on the outline belongs to the side right of or below it.
    """
    top, left, bottom, right = window
    winding = np.zeros((bottom - top, right - left + 1), np.int32)
    _wind(rings.points, rings.first, top, left, winding)
    return np.cumsum(winding[:, :-1], axis=1) != 0


@kernel()
@no_type_check
def _wind(points, first, top, left, winding):
    """Add each edge's direction where a row's centre line crosses it; the last column stands for what lies beyond."""
    height, width = winding.shape[0], winding.shape[1] - 1
    for r in range(len(first) - 1):
        for i in range(first[r], first[r + 1]):
            j = i + 1 if i + 1 < first[r + 1] else first[r]
            x1, y1 = np.float64(points[i, 0]) - left, np.float64(points[i, 1]) - top
            x2, y2 = np.float64(points[j, 0]) - left, np.float64(points[j, 1]) - top
            if y1 == y2 or not np.isfinite(x1 + y1 + x2 + y2):
                continue
            slope, direction = (x2 - x1) / (y2 - y1), 1 if y2 > y1 else -1
            start = np.int64(min(max(np.ceil(min(y1, y2) - 0.5), 0), height))
            stop = np.int64(min(max(np.ceil(max(y1, y2) - 0.5), 0), height))
            for row in range(start, stop):
                crossing = x1 + (row + 0.5 - y1) * slope
                winding[row, np.int64(min(max(np.ceil(crossing - 0.5), 0), width))] += direction
