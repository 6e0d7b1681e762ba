"""Any image as a picture for people: three bands of 8 bits."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image

from maskrcnn.files import atomic_write

STRETCHED = (0.5, 99.5)
"""Percentiles of a band that become black and white; its few darkest and brightest pixels tell little."""
MOST_VALUES = 1 << 20
"""Numbers of a band, about, from which percentiles are taken; of a larger image every second, third, ... row and
column."""


def picture(image: Shaped[np.ndarray, "h w C"], shown: Sequence[int] = ()) -> UInt8[np.ndarray, "h w 3"]:
    """Three bands of 8 bits. RGB of 8 bits stays as it is; numbers of another type are stretched, each band by itself.

    shown   numbers, from 1, of the bands shown as red, green and blue, or of the one shown as gray; empty shows the
            first three, or the first where there are fewer
    Raises ValueError where the image lacks one of them.
    """
    chosen = shown or ((1, 2, 3) if image.shape[2] >= 3 else (1,))
    if len(chosen) not in (1, 3) or not 1 <= min(chosen) <= max(chosen) <= image.shape[2]:
        raise ValueError(f"expected one or three bands of 1 to {image.shape[2]} to show, received {list(chosen)}")
    if image.dtype == np.uint8 and tuple(chosen) == (1, 2, 3):
        return image[..., :3]
    bands = [_stretched(image[..., number - 1]) for number in chosen]
    return np.stack(bands * (3 // len(bands)), axis=2)


def save_picture(image: Image.Image, path: Path, quality: int = 75) -> None:
    """Write an image whole or not at all; the ending of `path` decides the format.

    quality   of a JPEG or WebP, 1 to 100
    Raises ValueError for an ending of no format, DiskFull where there is no room.
    """
    file = BytesIO()
    file.name = path.name
    image.save(file, quality=quality)
    with atomic_write(path, needed=len(file.getbuffer())) as draft:
        draft.write_bytes(file.getbuffer())


def percentiles(band: Shaped[np.ndarray, "h w"], wanted: tuple[float, float]) -> tuple[float, float]:
    """Two percentiles of a band's finite numbers, the second larger; 0 and 1 where it has none."""
    step = max(1, round((band.size / MOST_VALUES) ** 0.5))
    values = band[::step, ::step].astype(np.float64)
    values = values[np.isfinite(values)]
    low, high = np.percentile(values, wanted).tolist() if len(values) else (0.0, 1.0)
    return low, high if high > low else low + 1.0


def _stretched(band: Shaped[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    if band.dtype == np.uint8:
        return band
    low, high = percentiles(band, STRETCHED)
    levels = np.nan_to_num((band.astype(np.float64) - low) * (255 / (high - low)), posinf=255.0, neginf=0.0)
    return (levels.clip(0, 255) + 0.5).astype(np.uint8)
