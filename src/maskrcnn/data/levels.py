"""Numbers of an image -> levels of 0..255, in which `data.mean` and `data.std` are stated."""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float32, Shaped, UInt8

from maskrcnn.config import Data
from maskrcnn.picture import percentiles

RGB = 3
"""Bands of an image unless a recipe says otherwise."""
Range = tuple[float, float]
Pixels = UInt8[np.ndarray, "_ _ _"] | Float32[np.ndarray, "_ _ _"]
"""Levels of an image: bytes, or numbers in between."""


class Levels(NamedTuple):
    """How the numbers of a band become levels: which of them is 0, and which 255. What lies beyond is cut off."""

    kind: Literal["full", "percentiles", "fixed"] = "full"
    """Kind, see `data.levels`."""
    percentiles: Range = (0.5, 99.5)
    ranges: tuple[Range, ...] = ()
    """For `fixed`: one for all bands, or one for each."""
    num_bands: int = RGB

    def room(self, dtype: np.dtype) -> int:
        """Bytes of a pixel once its numbers of this type are levels."""
        return self.num_bands * (1 if self.kind == "full" and dtype == np.uint8 else 4)


def levels_of(settings: Data) -> Levels:
    """What a recipe says."""
    return Levels(settings.levels, settings.level_percentiles, settings.level_range, len(settings.mean))


def to_levels(image: Shaped[np.ndarray, "h w C"], levels: Levels) -> Pixels:
    """Map each band. Bytes stay bytes where their whole range is taken; everything else becomes float32.

    What is not a number becomes level 0. Raises ValueError for floating-point numbers whose range nobody states.
    """
    if levels.kind == "full" and image.dtype == np.uint8:
        return image
    result = np.empty(image.shape, np.float32)
    for number in range(image.shape[2]):
        band = image[..., number]
        low, high = _range(band, levels, number)
        mapped = (band.astype(np.float64) - low) * (255 / (high - low))
        result[..., number] = np.nan_to_num(mapped, posinf=255.0, neginf=0.0).clip(0, 255)
    return result


def full_range(dtype: np.dtype) -> Range:
    """The smallest and the largest number of a type. Raises ValueError for floating-point numbers.

    >>> full_range(np.dtype("uint16")), full_range(np.dtype("bool"))
    ((0.0, 65535.0), (0.0, 1.0))
    """
    if dtype.kind == "b":
        return 0.0, 1.0
    if dtype.kind == "f":
        raise ValueError(
            "its pixels are floating-point numbers, whose range no type tells; set data.levels=fixed, with the range "
            "in data.level_range or measured over the training images, or data.levels=percentiles"
        )
    return float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)


def _range(band: Shaped[np.ndarray, "h w"], levels: Levels, number: int) -> Range:
    if levels.kind == "full":
        return full_range(band.dtype)
    if levels.kind == "percentiles":
        return percentiles(band, levels.percentiles)
    return levels.ranges[number if len(levels.ranges) > 1 else 0]
