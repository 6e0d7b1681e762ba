"""Images as people give them to a predictor: files, addresses, pictures, arrays and tensors, whole or in parts."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor

from maskrcnn.data.decode import decode, decode_bytes, mapped
from maskrcnn.data.levels import RGB, Levels, Pixels
from maskrcnn.data.oddities import Oddities
from maskrcnn.data.parts import Part, read_window, window_size
from maskrcnn.data.raw import to_rgb
from maskrcnn.storage.location import Location, at

ImageLike = str | Path | Location | Image.Image | np.ndarray | Tensor


class Source(NamedTuple):
    """An image of which parts are read."""

    size: tuple[int, int]
    """(height, width)."""
    read: Callable[[Part], Pixels]
    """Gives the pixels of a part (x1, y1, x2, y2)."""


def read(image: ImageLike, levels: Levels, oddities: Oddities) -> Pixels:
    """Any image as levels (h, w, bands)."""
    num_bands = levels.num_bands
    if isinstance(image, str | Path | Location):
        place = at(image)
        place = place.expanduser() if isinstance(place, Path) else place
        # Results are in its own pixels.
        return decode(place, max_rowsize=None, levels=levels, oddities=oddities)
    if isinstance(image, Image.Image):
        upright = ImageOps.exif_transpose(image)
        is_deep = upright.mode == "F" or upright.mode.startswith("I")
        array = np.asarray(upright if is_deep or num_bands != RGB else to_rgb(upright))
    elif isinstance(image, Tensor):
        array = image.detach().cpu().numpy()
        array = array.transpose(1, 2, 0) if array.ndim == 3 and array.shape[0] == num_bands else array
    elif isinstance(image, np.ndarray):
        array = image
    else:
        raise TypeError(f"expected a path, PIL image, array or tensor, received {type(image).__name__}")
    if array.ndim == 2 and num_bands in (1, RGB):
        array = np.repeat(array[..., None], num_bands, axis=2)
    if array.dtype.kind not in "buif" or array.ndim != 3 or array.shape[2] != num_bands or 0 in array.shape:
        raise ValueError(
            f"expected numbers of shape (h, w, {num_bands}), received {array.dtype} of shape {array.shape}; give the "
            "bands that the recipe's data.mean and data.std have, without alpha"
        )
    return mapped(array, f"given as {array.dtype} of shape {array.shape}", levels)


def source_of(image: ImageLike, levels: Levels, oddities: Oddities) -> Source:
    """An image that parts are taken of: one in memory, or a file's that can be read by windows."""
    place = _local(image)
    size = None if place is None else window_size(place)
    if place is not None and size is not None:
        by_window = partial(decode_bytes, max_rowsize=None, levels=levels)
        return Source(size, lambda part: cast(Pixels, read_window(place, part, size, by_window)))
    return in_memory(read(image, levels, oddities))


def in_memory(image: Pixels) -> Source:
    """An image that is decoded already, of which parts are taken."""
    return Source(image.shape[:2], lambda part: image[part[1] : part[3], part[0] : part[2]])


def _local(image: ImageLike) -> Path | None:
    """The file that an image is on this machine, if it is one."""
    place = at(image) if isinstance(image, str | Path) else None
    return place.expanduser() if isinstance(place, Path) else None
