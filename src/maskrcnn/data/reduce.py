"""Images made smaller by a whole factor, and turned."""

import numpy as np
from jaxtyping import Shaped
from PIL import Image

TURNS = {
    Image.Transpose.FLIP_LEFT_RIGHT: lambda image: image[:, ::-1],
    Image.Transpose.FLIP_TOP_BOTTOM: lambda image: image[::-1],
    Image.Transpose.ROTATE_90: lambda image: np.rot90(image, 1),
    Image.Transpose.ROTATE_180: lambda image: np.rot90(image, 2),
    Image.Transpose.ROTATE_270: lambda image: np.rot90(image, 3),
    Image.Transpose.TRANSPOSE: lambda image: image.swapaxes(0, 1),
    Image.Transpose.TRANSVERSE: lambda image: image[::-1, ::-1].swapaxes(0, 1),
}
"""What Pillow's turns do to an array."""


def reduced(image: Shaped[np.ndarray, "h w C"], factor: int) -> Shaped[np.ndarray, "_ _ C"]:
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
