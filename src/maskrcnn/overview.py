"""A large image at a size that can be looked at, put together from parts."""

import math

import numpy as np
from jaxtyping import Shaped
from PIL import Image

LARGEST = 8192
"""Pixels of the longer side up to which images are kept and drawn as they are; larger ones by a whole factor less."""

Pixels = Shaped[np.ndarray, "_ _ C"]


def factor_for(size: tuple[int, int], longest: int = LARGEST) -> int:
    """The whole number that an image of (height, width) is reduced by, so that no side exceeds `longest`."""
    return math.ceil(max(size) / longest)


def reduced_size(size: tuple[int, int], factor: int) -> tuple[int, int]:
    """The (height, width) of an image that is reduced by a whole factor; the last row and column may cover less."""
    return -(-size[0] // factor), -(-size[1] // factor)


def reduced(image: Pixels, factor: int) -> Pixels:
    """Means over blocks of `factor` x `factor` pixels, those at the right and bottom edges smaller, in the same type.

    Bytes are rounded as by Pillow, other whole numbers to the nearest.
    """
    if factor <= 1:
        return image
    shrink = _by_pillow if image.dtype == np.uint8 else _means
    return np.stack([shrink(band, factor) for band in np.moveaxis(image, 2, 0)], axis=2)


def _by_pillow(band: Shaped[np.ndarray, "h w"], factor: int) -> Shaped[np.ndarray, "_ _"]:
    return np.asarray(Image.fromarray(np.ascontiguousarray(band)).reduce(factor))


def _means(band: Shaped[np.ndarray, "h w"], factor: int) -> Shaped[np.ndarray, "_ _"]:
    rows, columns = (np.arange(0, side, factor) for side in band.shape)
    sums = np.add.reduceat(np.add.reduceat(band, rows, axis=0, dtype=np.float64), columns, axis=1)
    heights, widths = (np.diff([*starts, side]) for starts, side in zip((rows, columns), band.shape, strict=True))
    means = sums / (heights[:, None] * widths)
    return (np.rint(means) if band.dtype.kind in "bui" else means).astype(band.dtype)


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
