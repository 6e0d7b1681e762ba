"""JPEG compression of training images, where they are decoded."""

import numpy as np
import simplejpeg
from jaxtyping import Int64, Shaped

from maskrcnn.data.augment.pixels import CHANCE
from maskrcnn.data.keys import uniform

BEST = 95
"""Quality of an image that is compressed least, about that of a camera's files."""
UNCHANGED = 100
"""Quality that stands for an image which is not compressed."""
AMOUNT, HAPPENS = 24, 25  # streams of random numbers


def qualities(keys: Int64[np.ndarray, " n"], lowest: int) -> Int64[np.ndarray, " n"] | None:
    """Draw the quality of each image: `UNCHANGED` for one half, evenly from the lowest to `BEST` for the others.

    None where the lowest is `UNCHANGED`.
    """
    if lowest >= UNCHANGED:
        return None
    best = max(BEST, lowest)
    drawn = lowest + (uniform(keys, AMOUNT) * (best - lowest + 1)).astype(np.int64)
    return np.where(uniform(keys, HAPPENS) < CHANCE, drawn, UNCHANGED)


def has_jpeg(image: Shaped[np.ndarray, "h w C"]) -> bool:
    """Whether there is a JPEG of such images: three bands of 8 bits, as no image is whose numbers were mapped."""
    return image.dtype == np.uint8 and image.shape[2] == 3


def compress(image: Shaped[np.ndarray, "h w C"], quality: int) -> Shaped[np.ndarray, "h w C"]:
    """Give what is left of an image of three bands of 8 bits; colours have half the resolution, as cameras keep them.

    Others, for which there is no JPEG, come back as they are.
    """
    if quality >= UNCHANGED or not has_jpeg(image):
        return image
    data = simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality, "RGB", "420")
    return simplejpeg.decode_jpeg(data, "RGB")
