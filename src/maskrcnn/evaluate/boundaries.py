"""Boundaries of masks: the pixels of a mask that lie within some distance of its edge. Kernels release the GIL.

Source: Cheng et al. 2021, Boundary IoU. There a mask is eroded in a bitmap of the whole image, a pixel at a time; here
its run lengths are, so that time follows the columns of the mask and hardly its area or the distance.
"""

from typing import no_type_check

import numpy as np

from maskrcnn.evaluate.overlaps import Runs
from maskrcnn.kernels import kernel

DILATION_RATIO = 0.02
"""Width of a boundary as a fraction of the image's diagonal (Cheng et al. 2021, section 5)."""


def boundary_width(height: int, width: int) -> int:
    """Width in pixels of the boundaries in an image: at least one.

    >>> boundary_width(480, 640)
    16
    """
    return max(1, round(DILATION_RATIO * float(np.hypot(height, width))))


@kernel()
@no_type_check
def boundaries(runs, rows, height, reach):
    """The boundaries of the masks `rows` of an image with `height` rows: pixels up to `reach` from the background.

    Distance is the larger of the two along the axes, and beyond the image lies background.
    """
    parts = [_boundary(runs.edges[runs.stops[row] : runs.stops[row + 1]], height, reach) for row in rows]
    stops, areas = np.zeros(len(rows) + 1, np.int64), np.zeros(len(rows), np.int64)
    for m, part in enumerate(parts):
        stops[m + 1] = stops[m] + len(part)
        areas[m] = part[1::2].sum() - part[::2].sum()
    edges = np.empty(stops[-1], np.int64)
    for m, part in enumerate(parts):
        edges[stops[m] : stops[m + 1]] = part
    return Runs(edges, stops, areas)


@kernel()
@no_type_check
def _boundary(mask, height, reach):
    """A mask without what erosion by a square of 2 * `reach` + 1 pixels leaves of it."""
    inside = _shrunk(mask, height, reach)
    columns, wanted = 1, 2 * reach + 1
    while columns < wanted and len(inside):
        # A pixel of `inside` stands for `columns` columns from its own; shifted by as many, for twice that.
        step = min(columns, wanted - columns)
        inside = _common_when_shifted(inside, step * height)
        columns += step
    return _without(mask, inside + reach * height)


@kernel()
@no_type_check
def _shrunk(mask, height, reach):
    """A mask whose runs are `reach` pixels shorter at both ends, in each column by itself."""
    most = 0
    for k in range(0, len(mask), 2):
        most += (mask[k + 1] - 1) // height - mask[k] // height + 1
    shrunk, size = np.empty(2 * most, np.int64), 0
    for k in range(0, len(mask), 2):
        start, stop = mask[k], mask[k + 1]
        while start < stop:
            end = min(stop, (start // height + 1) * height)
            if end - start > 2 * reach:
                shrunk[size], shrunk[size + 1] = start + reach, end - reach
                size += 2
            start = end
    return shrunk[:size]


@kernel()
@no_type_check
def _common_when_shifted(mask, distance):
    """The pixels p of a mask for which p + `distance` is in it, too."""
    common, size = np.empty(2 * len(mask), np.int64), 0
    i = j = 0
    while i < len(mask) and j < len(mask):
        start, stop = max(mask[i], mask[j] - distance), min(mask[i + 1], mask[j + 1] - distance)
        if start < stop:
            common[size], common[size + 1] = start, stop
            size += 2
        if mask[i + 1] < mask[j + 1] - distance:
            i += 2
        else:
            j += 2
    return common[:size]


@kernel()
@no_type_check
def _without(mask, part):
    """A mask without a part of it."""
    rest, size = np.empty(len(mask) + len(part), np.int64), 0
    j = 0
    for k in range(0, len(mask), 2):
        start, stop = mask[k], mask[k + 1]
        while j < len(part) and part[j] < stop:
            if start < part[j]:
                rest[size], rest[size + 1] = start, part[j]
                size += 2
            start = part[j + 1]
            j += 2
        if start < stop:
            rest[size], rest[size + 1] = start, stop
            size += 2
    return rest[:size]
