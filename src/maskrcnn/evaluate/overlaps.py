"""How much results and objects overlap: of boxes and of masks, as COCO measures it. Kernels release the GIL.

A mask is decoded once to the pixels, counted down the columns, at which it begins and ends again. The common pixels of
two masks are then found in one walk along both, and most pairs need none: one ends before the other begins.
"""

from collections.abc import Sequence
from typing import NamedTuple, no_type_check

import numpy as np
from jaxtyping import Int64
from numpy import ndarray

from maskrcnn.kernels import kernel
from maskrcnn.masks.strings import GOOD, decode_counts


class Runs(NamedTuple):
    """Foreground of masks: that of mask m begins and ends in turn at edges[stops[m] : stops[m + 1]]."""

    edges: Int64[ndarray, " E"]
    stops: Int64[ndarray, "N+1"]
    areas: Int64[ndarray, " N"]


NO_RUNS = Runs(np.zeros(0, np.int64), np.zeros(1, np.int64), np.zeros(0, np.int64))


def runs_from_strings(masks: Sequence[str], pixels: Sequence[int]) -> Runs | None:
    """Decode COCO's compressed run lengths; None if any of them is damaged, or longer than its image has pixels."""
    text = "".join(masks)
    if not text.isascii():
        return None
    ends = np.cumsum([len(mask) for mask in masks], dtype=np.int64)
    edges, stops, areas, good = _decode(np.frombuffer(text.encode(), np.uint8), ends, np.array(pixels, np.int64))
    return Runs(edges, stops, areas) if good else None


@kernel()
@no_type_check
def mask_overlaps(found, rows, objects, is_crowd, first, last):
    """IoU of the masks `rows` of one set with [first:last] of another; with a crowd, the share that lies in it."""
    overlaps = np.zeros((len(rows), last - first))
    for d, row in enumerate(rows):
        mine, area = found.edges[found.stops[row] : found.stops[row + 1]], found.areas[row]
        for g in range(first, last):
            common = _common(mine, objects.edges[objects.stops[g] : objects.stops[g + 1]])
            if common:
                overlaps[d, g - first] = common / (area if is_crowd[g] else area + objects.areas[g] - common)
    return overlaps


@kernel()
@no_type_check
def box_overlaps(found, rows, objects, is_crowd, first, last):
    """The same of boxes [x, y, width, height]."""
    overlaps = np.zeros((len(rows), last - first))
    for d, row in enumerate(rows):
        x, y, width, height = found[row]
        for g in range(first, last):
            left, top, across, down = objects[g]
            common_width = min(x + width, left + across) - max(x, left)
            common_height = min(y + height, top + down) - max(y, top)
            if common_width > 0 and common_height > 0:
                common, area = common_width * common_height, width * height
                overlaps[d, g - first] = common / (area if is_crowd[g] else area + across * down - common)
    return overlaps


@kernel()
@no_type_check
def _decode(characters, ends, pixels):
    """(edges, their stops, areas, whether every string is one that can be decoded)."""
    edges, counts = np.empty(len(characters), np.int64), np.empty(len(characters), np.uint32)
    stops, areas = np.zeros(len(ends) + 1, np.int64), np.zeros(len(ends), np.int64)
    start = 0
    for mask in range(len(ends)):
        num, _, fault = decode_counts(characters[start : ends[mask]], counts)
        position, first = np.int64(0), stops[mask]
        for k in range(num):
            areas[mask] += np.int64(counts[k]) * (k % 2)
            position += np.int64(counts[k])
            edges[first + k] = position
        if fault != GOOD or position > pixels[mask]:
            return edges, stops, areas, False
        start, stops[mask + 1] = ends[mask], first + num - num % 2  # without background at the end
    return edges[: stops[-1]], stops, areas, True


@kernel()
@no_type_check
def _common(mine, other):
    """Pixels that two masks share."""
    if not len(mine) or not len(other) or mine[-1] <= other[0] or other[-1] <= mine[0]:
        return 0
    common = 0
    i, j = _place(mine, other[0]), _place(other, mine[0])
    while i < len(mine) and j < len(other):
        common += max(0, min(mine[i + 1], other[j + 1]) - max(mine[i], other[j]))
        if mine[i + 1] < other[j + 1]:
            i += 2
        else:
            j += 2
    return common


@kernel()
@no_type_check
def _place(edges, position):
    """Where the first stretch stands that ends behind a position."""
    low, high = 0, len(edges) // 2
    while low < high:
        middle = (low + high) // 2
        if edges[2 * middle + 1] <= position:
            low = middle + 1
        else:
            high = middle
    return 2 * low
