"""Bitmaps and their run lengths."""

from typing import no_type_check

import numpy as np
from jaxtyping import Bool, Shaped, UInt8, UInt32
from numpy import ndarray
from numpy.typing import ArrayLike

from maskrcnn.kernels import kernel
from maskrcnn.masks.counts import of_image


def counts_from_bitmap(mask: Shaped[ndarray, "h w"]) -> UInt32[ndarray, " N"]:
    """Run lengths of the pixels that are not zero."""
    return _count_runs(_binary(mask))


def bitmap_from_counts(counts: ArrayLike, height: int, width: int) -> Bool[ndarray, "{height} {width}"]:
    """The mask that run lengths describe. Raises ValueError where they do not sum to height * width."""
    bitmap = np.zeros((height, width), np.uint8)
    _fill_runs(of_image(counts, height, width), bitmap)
    return bitmap.view(np.bool_)


def _binary(mask: ArrayLike) -> UInt8[ndarray, "h w"]:
    mask = np.asarray(mask)
    if mask.ndim != 2:
        raise ValueError(f"expected a mask of shape (height, width), received {mask.shape}; pass one object at a time")
    return np.ascontiguousarray(mask != 0).view(np.uint8)


@kernel()
@no_type_check
def _fill_runs(counts, bitmap):
    height = len(bitmap)
    position = 0
    for k in range(len(counts)):
        stop = position + np.int64(counts[k])
        while k % 2 and position < stop:
            column = position // height
            end = min(stop, (column + 1) * height)
            for i in range(position - column * height, end - column * height):
                bitmap[i, column] = 1
            position = end
        position = stop


@kernel()
@no_type_check
def _count_runs(bitmap):
    height, width = bitmap.shape
    counts = np.empty(height * width + 1, np.uint32)
    num_counts, value, length = 0, 0, 0
    for j in range(width):
        for i in range(height):
            if bitmap[i, j] != value:
                counts[num_counts] = length
                num_counts, value, length = num_counts + 1, 1 - value, 0
            length += 1
    counts[num_counts] = length
    return counts[: num_counts + 1].copy()
