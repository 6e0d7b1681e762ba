"""Id images, whose pixels say to which object they belong, and the parts of a bitmap that hang together."""

from collections.abc import Iterator
from typing import NamedTuple, no_type_check

import numpy as np
from jaxtyping import Bool, Int32, Integer, Shaped
from numpy import ndarray

from maskrcnn.kernels import kernel
from maskrcnn.masks.union_find import root_of, unite

MOST_IN_TABLE = 1 << 20
"""Ids up to here are looked up in a table; larger ones are numbered first, which takes a sort."""


class IdMask(NamedTuple):
    """The pixels of one id, in the window that they fill."""

    id: int
    mask: Bool[ndarray, "h w"]
    origin: tuple[int, int]
    """(row, column) of the window's first pixel."""


def masks_of_ids(ids: Integer[ndarray, "h w"], background: int = 0) -> Iterator[IdMask]:
    """The mask of each id but the background's, in ascending order; ids are 0 or more.

    The image is looked at once to find the windows, then each window once.
    """
    numbers: Integer[ndarray, " n"] | None = None
    if ids.size and int(ids.max()) > MOST_IN_TABLE:
        numbers, small = np.unique(ids, return_inverse=True)
        ids = small.reshape(ids.shape)
    windows = _windows(np.ascontiguousarray(ids), int(ids.max(initial=0)) + 1)
    for index in np.flatnonzero(windows[:, 2]).tolist():
        top, left, bottom, right = windows[index].tolist()
        id = index if numbers is None else int(numbers[index])
        if id != background:
            yield IdMask(id, ids[top:bottom, left:right] == index, (top, left))


def parts_of_bitmap(mask: Shaped[ndarray, "h w"]) -> Int32[ndarray, "h w"]:
    """Number the parts of a bitmap from 1, from top to bottom; pixels that touch at a corner hang together."""
    return _parts(np.ascontiguousarray(mask != 0))


@kernel()
@no_type_check
def _windows(ids, num_ids):
    """(first row, first column, row and column behind the last) of each id; zeros where it has no pixel."""
    windows = np.zeros((num_ids, 4), np.int32)
    height, width = ids.shape
    for i in range(height):
        start = 0
        for j in range(1, width + 1):
            if j < width and ids[i, j] == ids[i, start]:
                continue
            window = windows[np.int64(ids[i, start])]
            if window[2] == 0:
                window[0], window[1], window[3] = i, start, j
            window[1], window[2], window[3] = min(window[1], start), i + 1, max(window[3], j)
            start = j
    return windows


@kernel()
@no_type_check
def _parts(mask):
    height, width = mask.shape
    labels = np.zeros((height, width), np.int32)
    parent = np.zeros(height * width // 2 + 2, np.int32)
    num = 0
    for i in range(height):
        for j in range(width):
            if not mask[i, j]:
                continue
            found = labels[i, j - 1] if j > 0 else 0
            for k in range(max(j - 1, 0), min(j + 2, width)):
                above = labels[i - 1, k] if i > 0 else 0
                if above and found:
                    unite(parent, found, above)
                found = found or above
            if not found:
                num += 1
                parent[num] = found = num
            labels[i, j] = found
    numbers = np.zeros(num + 1, np.int32)
    num_parts = 0
    for label in range(1, num + 1):  # a root is the least of its labels
        root = root_of(parent, label)
        if root == label:
            num_parts += 1
            numbers[label] = num_parts
        numbers[label] = numbers[root]
    for i in range(height):
        for j in range(width):
            labels[i, j] = numbers[labels[i, j]]
    return labels
