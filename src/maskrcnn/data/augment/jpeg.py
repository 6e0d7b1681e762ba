"""JPEG compression of training images, where they are decoded."""

import numpy as np
import simplejpeg
from jaxtyping import Float64, Int64, UInt8

CHANCE = 0.5
BEST = 96
"""Quality of an image that is compressed least: files of cameras have about as much."""
NONE = 100
"""Quality that stands for an image which is not compressed."""


def qualities(
    amounts: Float64[np.ndarray, " n"], chances: Float64[np.ndarray, " n"], lowest: int
) -> Int64[np.ndarray, " n"]:
    """Qualities that images are compressed with: `NONE` for one half of them, from the lowest to `BEST` for the others.

    amounts, chances   random numbers in [0, 1)
    """
    drawn = lowest + (amounts * max(BEST - lowest + 1, 1)).astype(np.int64)
    return np.where(chances < CHANCE, drawn, NONE)


def compress(image: UInt8[np.ndarray, "h w 3"], quality: int) -> UInt8[np.ndarray, "h w 3"]:
    """What is left of an image after JPEG compression, with colours at half the resolution, as cameras keep them."""
    if quality >= NONE:
        return image
    data = simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality, "RGB", "420")
    return simplejpeg.decode_jpeg(data, "RGB")
