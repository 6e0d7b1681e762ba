"""What the numbers of a data set's images are like: their type, bands, range, and the mean and deviation of levels."""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64, Shaped

from maskrcnn.data.dataset import Dataset
from maskrcnn.data.decode import decode_raw, mapped, probe, read_image
from maskrcnn.data.header import Header
from maskrcnn.data.levels import Levels, Range
from maskrcnn.data.oddities import levels_used
from maskrcnn.data.parts import read_window
from maskrcnn.picture import percentiles
from maskrcnn.storage.location import Location

FEW, MANY = 8, 200
"""Images whose headers are read, and images whose pixels are looked at, spread over the data set."""
SEEN = (0.05, 99.95)
"""Percentiles of an image's band between which its numbers count: some cameras have dead pixels, and hot ones."""
FLAT = 1e-3
"""Deviation in levels of a band that is the same everywhere; it is not divided by."""
THREADS = 2
HUGE, SIDE = 1 << 24, 1024
"""Pixels from which on a part of a TIFF stands for it, and the sides of that part."""


class Numbers(NamedTuple):
    """The numbers of a data set's images."""

    dtype: np.dtype
    ranges: tuple[Range, ...]
    """The smallest and the largest number of each band."""
    share: float
    """Share of the type's range that the largest reaches."""
    num_images: int
    """Images that were looked at."""

    @property
    def is_usual(self) -> bool:
        """Whether they are gray or RGB of 8 bits, which are read as RGB."""
        return self.dtype == np.uint8 and len(self.ranges) in (1, 3)


class _Seen(NamedTuple):
    """The numbers of one image."""

    dtype: np.dtype
    ranges: list[Range]
    share: float


def measure_numbers(data: Dataset) -> Numbers:
    """Look at some images. Raises OSError or ValueError where one cannot be read, or has other bands than the first."""
    found = [_see(image) for _, image in _read(data)]
    bands = len(found[0].ranges)
    other = next((len(one.ranges) for one in found if len(one.ranges) != bands), None)
    if other is not None:
        raise ValueError(
            f"{data.annotations}: some images have {bands} bands, others {other}; expected one number of bands: remove "
            "those that have another"
        )
    extremes = np.array([one.ranges for one in found])
    dtype = np.result_type(*(one.dtype for one in found))
    lows, highs = extremes[..., 0].min(axis=0).tolist(), extremes[..., 1].max(axis=0).tolist()
    ranges = tuple(
        (_short(low, dtype, math.floor), _short(high, dtype, math.ceil)) for low, high in zip(lows, highs, strict=True)
    )
    return Numbers(dtype, ranges, max(one.share for one in found), len(found))


def _see(image: Shaped[np.ndarray, "_ _ _"]) -> _Seen:
    bands = np.moveaxis(image, 2, 0)
    return _Seen(image.dtype, [percentiles(band, SEEN) for band in bands], levels_used(image))


def measure_levels(data: Dataset, levels: Levels) -> tuple[Float64[np.ndarray, " C"], Float64[np.ndarray, " C"]]:
    """Mean and standard deviation of each band over the pixels of some images. Raises as `measure_numbers`."""
    count, sums, squares = 0, np.zeros(levels.num_bands), np.zeros(levels.num_bands)
    for path, image in _read(data, levels):
        pixels = mapped(image, path, levels).reshape(-1, image.shape[2]).astype(np.float64)
        count, sums, squares = count + len(pixels), sums + pixels.sum(axis=0), squares + (pixels**2).sum(axis=0)
    mean = sums / count
    std = np.sqrt((squares / count - mean**2).clip(min=0))
    return mean, np.where(std < FLAT, 1.0, std)


def look_unusual(data: Dataset) -> bool:
    """Whether headers of some images say that they may be no RGB of 8 bits; those that cannot be read say nothing."""
    return any(map(_is_unusual, _headers(data)))


def _headers(data: Dataset) -> Iterator[Header]:
    for index in _spread(len(data.file_names), FEW).tolist():
        try:
            yield probe(data.images / data.file_names[index])
        except (OSError, ValueError):
            continue


def _is_unusual(header: Header) -> bool:
    return header.bits > 8 or header.bands > 4 or (header.format in ("TIFF", "NPY") and header.bands in (2, 4))


def _spread(total: int, count: int) -> Int64[np.ndarray, " n"]:
    return np.unique(np.linspace(0, total - 1, min(total, count)).round().astype(np.int64))


def _read(data: Dataset, levels: Levels | None = None) -> Iterator[tuple[Path | Location, Shaped[np.ndarray, "_ _ _"]]]:
    """Paths and numbers of some images: of a huge TIFF those in the middle, of others all, reduced to a few MiB."""

    def one(index: int) -> tuple[Path | Location, Shaped[np.ndarray, "_ _ _"]]:
        path, size = data.images / data.file_names[index], tuple(data.sizes[index].tolist())
        if isinstance(path, Path) and size[0] * size[1] > HUGE:
            decode = partial(decode_raw, max_rowsize=None, levels=levels)
            middle = read_window(path, _middle(size), size, decode)
            if middle is not None:
                return path, middle
        return path, decode_raw(read_image(path), path, size, 4, levels=levels)

    with ThreadPoolExecutor(THREADS) as pool:
        yield from pool.map(one, _spread(len(data.file_names), MANY).tolist())


def _middle(size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A window (x1, y1, x2, y2) in the middle of an image of (height, width)."""
    (y1, y2), (x1, x2) = ((side // 2 - min(side, SIDE) // 2, side // 2 + min(side, SIDE) // 2) for side in size)
    return x1, y1, x2, y2


def _short(number: float, dtype: np.dtype, outwards: Callable[[float], int]) -> float:
    """A number as a person would write it: whole where the images have whole numbers."""
    return float(outwards(number)) if dtype.kind in "bui" else float(f"{number:.6g}")
