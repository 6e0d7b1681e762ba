"""`paste` in Numba: one pass over the columns inside each box that looks at grid cells, hardly at pixels.

Down a column the value is linear between two cells, and its float32 arithmetic `a + f * (b - a)` never turns back
while `f` grows. So the ends decide about all pixels in between; where they differ, bisection finds the one change.
"""

from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64, UInt32
from numpy import ndarray
from torch import Tensor

from maskrcnn.kernels import kernel

_HALF = np.float32(0.5)
_MINUS_ONE = np.float32(-1)


def paste(
    probabilities: Float[Tensor, "D M M"], boxes: Float[Tensor, "D 4"], height: int, width: int, threshold: float
) -> Bool[Tensor, "D {height} {width}"]:
    """See `maskrcnn.ops.paste.paste`."""
    columns = np.zeros((len(boxes), width, height), np.bool_)
    _paste(*_contiguous(probabilities.numpy(), boxes.numpy()), np.float32(threshold), columns)
    return torch.from_numpy(columns).transpose(1, 2)


def paste_runs(
    probabilities: Float32[ndarray, "D M M"],
    boxes: Float32[ndarray, "D 4"],
    height: int,
    width: int,
    threshold: float,
) -> tuple[UInt32[ndarray, " N"], Int64[ndarray, " D"]]:
    """COCO's run lengths of all masks, one mask behind the other, and where each mask's stop."""
    return _paste_runs(*_contiguous(probabilities, boxes), height, width, np.float32(threshold))


def _contiguous(*arrays: ndarray) -> tuple[Float32[ndarray, "..."], ...]:
    return tuple(np.ascontiguousarray(array, np.float32) for array in arrays)


@kernel()
@no_type_check
def _paste(probabilities, boxes, threshold, columns):
    width, height = columns.shape[1:]
    counts = np.empty(_most_counts(probabilities, height, width), np.uint32)
    for d in range(len(boxes)):
        num_counts = _count_runs(probabilities[d], boxes[d], height, width, threshold, counts)
        pixels = columns[d].reshape(-1)
        position = 0
        for k in range(num_counts):
            stop = position + np.int64(counts[k])
            if k % 2:
                pixels[position:stop] = True
            position = stop


@kernel()
@no_type_check
def _paste_runs(probabilities, boxes, height, width, threshold):
    room = _most_counts(probabilities, height, width)
    counts = np.empty(2 * room, np.uint32)
    stops = np.empty(len(boxes), np.int64)
    num_counts = 0
    for d in range(len(boxes)):
        if num_counts + room > len(counts):
            larger = np.empty(2 * (num_counts + room), np.uint32)
            for k in range(num_counts):
                larger[k] = counts[k]
            counts = larger
        num_counts += _count_runs(probabilities[d], boxes[d], height, width, threshold, counts[num_counts:])
        stops[d] = num_counts
    return counts[:num_counts], stops


@kernel()
@no_type_check
def _most_counts(probabilities, height, width):
    """Most runs of a mask: a column changes at most at each pixel, and once in and once before each pair of cells."""
    changes = min(height, 2 * (probabilities.shape[2] + 1)) + 1
    return width * changes + 2


@kernel()
@no_type_check
def _count_runs(probabilities, box, height, width, threshold, counts):
    """Write the run lengths of one mask; returns how many."""
    cells = len(probabilities)
    x_first, x_last, x_cell, x_fraction = _taps(box[0], box[2], width, cells)
    y_first, y_last, y_cell, y_fraction = _taps(box[1], box[3], height, cells)
    rows = _first_rows(y_first, y_last, y_cell, cells)
    grid = np.zeros((cells + 2, cells + 2), np.float32)
    for y in range(cells):
        for x in range(cells):
            grid[x + 1, y + 1] = probabilities[y, x]
    column = np.empty(cells + 2, np.float32)
    num_counts = position = np.int64(0)  # numbers of the program would be types of their own, compiled apart
    for x in range(x_first, x_last):
        before, after, fraction = grid[x_cell[x]], grid[x_cell[x] + 1], x_fraction[x]
        for m in range(cells + 2):
            column[m] = before[m] + fraction * (after[m] - before[m])
        inside = False
        for m in range(cells + 1):
            start, stop = rows[m], rows[m + 1]
            if start == stop:
                continue
            value, change = column[m], column[m + 1] - column[m]
            head, tail = value >= threshold, value + change >= threshold
            if head != tail:
                split = _first_row_like_tail(value, change, y_fraction, start, stop, threshold, tail)
                if inside != head and split > start:
                    num_counts, position = _change(x * height + start, counts, num_counts, position)
                    inside = head
                start = split
            if inside != tail and start < stop:
                num_counts, position = _change(x * height + start, counts, num_counts, position)
                inside = tail
        if inside:
            num_counts, position = _change(x * height + y_last, counts, num_counts, position)
    if position < height * width or num_counts == 0:
        num_counts, position = _change(height * width, counts, num_counts, position)
    return num_counts


@kernel()
@no_type_check
def _taps(low, high, size, cells):
    """Pixels [first, last) lie near the grid; for each, the cell before its centre (padded grid) and how far behind."""
    cell = np.empty(size, np.int32)
    fraction = np.empty(size, np.float32)
    first, last = size, 0
    side = high - low
    if side > 0 and np.isfinite(side):
        end = np.float32(cells)
        scale = end / side
        for pixel in range(size):
            position = (np.float32(pixel) + _HALF - low) * scale - _HALF
            if position > _MINUS_ONE and position < end:
                floor = np.floor(position)
                cell[pixel], fraction[pixel] = np.int32(floor) + 1, position - floor
                first, last = min(first, pixel), pixel + 1
    return first, last, cell, fraction


@kernel()
@no_type_check
def _first_rows(first, last, cell, cells):
    """The first pixel row at or behind each cell of the padded grid."""
    rows = np.empty(cells + 2, np.int64)
    for m in range(cells + 2):
        rows[m] = last
    m = 0
    for y in range(first, last):
        while m <= cell[y]:
            rows[m] = y
            m += 1
    return rows


@kernel()
@no_type_check
def _first_row_like_tail(value, change, fraction, start, stop, threshold, tail):
    while start < stop:
        middle = (start + stop) // 2
        if (value + fraction[middle] * change >= threshold) == tail:
            stop = middle
        else:
            start = middle + 1
    return start


@kernel()
@no_type_check
def _change(stop, counts, num_counts, position):
    """End a run at `stop`; a run of no pixels joins its neighbours, save at the very beginning."""
    if stop == position and num_counts > 0:
        return num_counts - 1, position - np.int64(counts[num_counts - 1])
    counts[num_counts] = stop - position
    return num_counts + 1, stop
