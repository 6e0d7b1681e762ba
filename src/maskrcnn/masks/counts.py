"""Run lengths that people and files state, checked."""

import numpy as np
from jaxtyping import UInt32
from numpy import ndarray
from numpy.typing import ArrayLike


def unsigned(counts: ArrayLike) -> UInt32[ndarray, " N"]:
    """Any whole numbers from 0 to 2**32 - 1 as unsigned ones. Raises ValueError for others."""
    runs = np.asarray(counts)
    if runs.ndim != 1 or not (runs.dtype.kind in "ui" or runs.size == 0):
        raise ValueError(f"expected a flat list of whole run lengths, received {runs.dtype} of shape {runs.shape}")
    if runs.size and not 0 <= int(runs.min()) <= int(runs.max()) < 2**32:
        raise ValueError(f"expected run lengths from 0 to 2**32 - 1, received {runs.min()} to {runs.max()}")
    return np.ascontiguousarray(runs, np.uint32)


def of_image(counts: ArrayLike, height: int, width: int) -> UInt32[ndarray, " N"]:
    """Run lengths that cover an image. Raises ValueError where they do not sum to height * width."""
    runs = unsigned(counts)
    total = int(runs.sum(dtype=np.uint64))
    if total != height * width:
        raise ValueError(
            f"expected run lengths that sum to {height} x {width} = {height * width} pixels, received {total}; "
            "is `size` (height, width) that of the image?"
        )
    return runs
