"""A large image at a size that can be looked at, put together from parts."""

import math

import numpy as np
from jaxtyping import Float32, Shaped

LARGEST = 8192
"""Pixels of the longer side up to which images are kept and drawn as they are; larger ones by a whole factor less."""

Pixels = Shaped[np.ndarray, "_ _ C"]


def factor_for(size: tuple[int, int], longest: int = LARGEST) -> int:
    """The whole number that an image of (height, width) is reduced by, so that no side exceeds `longest`."""
    return math.ceil(max(size) / longest)


def reduced_size(size: tuple[int, int], factor: int) -> tuple[int, int]:
    """The (height, width) of an image that is reduced by a whole factor; the last row and column may cover less."""
    return -(-size[0] // factor), -(-size[1] // factor)


def reduced(pixels: Pixels, factor: int) -> Pixels:
    """Each `factor` x `factor` pixels become their mean, those at the end that are left too."""
    if factor == 1:
        return pixels
    mean = _mean(_mean(pixels, factor, 0), factor, 1)
    return (np.floor(mean + 0.5) if pixels.dtype.kind in "ui" else mean).astype(pixels.dtype)


def _mean(pixels: Pixels, factor: int, axis: int) -> Float32[np.ndarray, "_ _ C"]:
    starts = np.arange(0, pixels.shape[axis], factor)
    lengths = np.minimum(factor, pixels.shape[axis] - starts).astype(np.float32)
    sums = np.add.reduceat(pixels, starts, axis=axis, dtype=np.float32)
    return sums / lengths.reshape(-1, *[1] * (sums.ndim - 1 - axis))


class Overview:
    """An image of which parts come, in any order, reduced by a whole factor; parts overlap by at least that."""

    def __init__(self, size: tuple[int, int], longest: int = LARGEST) -> None:
        self._size, self._factor = size, factor_for(size, longest)
        self.image: Pixels | None = None
        """The image, as far as it has come; None before the first part."""

    def add(self, window: tuple[int, int, int, int], pixels: Pixels) -> None:
        """The part of the image in a window (x1, y1, x2, y2)."""
        if self.image is None:
            shape = (*reduced_size(self._size, self._factor), pixels.shape[2])
            self.image = np.zeros(shape, pixels.dtype)
        (x1, y1, x2, y2), factor = window, self._factor
        left, top = -(-x1 // factor), -(-y1 // factor)
        right = -(-x2 // factor) if x2 == self._size[1] else x2 // factor
        bottom = -(-y2 // factor) if y2 == self._size[0] else y2 // factor
        inner = pixels[top * factor - y1 : bottom * factor - y1, left * factor - x1 : right * factor - x1]
        self.image[top:bottom, left:right] = reduced(inner, factor)
