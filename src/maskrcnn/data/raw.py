"""Numbers of an opened image: the bands that a recipe expects, upright, and no larger than it allows."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image

from maskrcnn.data.header import Header, turn
from maskrcnn.data.levels import RGB, Levels
from maskrcnn.data.oddities import levels_used
from maskrcnn.data.raster import Raster
from maskrcnn.overview import reduced, reduced_size

Raw = Shaped[np.ndarray, "h w C"]
"""Numbers of the type that a file has."""
Opened = Image.Image | Raster
AT_ONCE = 1 << 22
"""Pixels that are converted at once."""
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


def pixels_of(
    image: Opened, name: object, header: Header, limit: float, levels: Levels | None, *, upright: bool = True
) -> tuple[Raw, float]:
    """(numbers of an opened image, share of their range that they use); images of 8 bits are taken to use all.

    name      its path or page, which the ValueError tells that is raised where it is broken
    limit     bytes beyond which it is reduced
    levels    bands that a recipe expects; None gives RGB for what Pillow reads as 8 bits, and else the image's own
    upright   or as it is stored
    """
    turned = turn(header, upright=upright, is_turned=isinstance(image, Image.Image))
    try:
        if isinstance(image, Raster):
            return _finish(_Numbers(image.read(), image.num_bands, image.is_rgb), turned, limit, levels)
        if image.mode == "F" or image.mode.startswith("I"):
            return _finish(_Numbers(_deep(image, header.bits), 1, False), turned, limit, levels)
        if levels is not None and levels.num_bands != RGB:
            return _finish(_own_bands(image), turned, limit, levels)
        return _rgb(image, header.bits, turned, limit, levels)
    except _OtherBands as error:
        raise ValueError(f"the image {name} {error}") from None
    except Exception as error:  # decoders raise whatever a broken file leads them to
        raise ValueError(f"the image {name} cannot be decoded ({error}); restore or remove it") from error


class _OtherBands(ValueError):
    """An image has not the bands that a recipe expects."""


class _Numbers(NamedTuple):
    """What was read, as `Raster` has it."""

    values: Raw
    num_bands: int
    is_rgb: bool


def _deep(image: Image.Image, bits: int) -> Raw:
    """Gray of more than 8 bits."""
    values = np.asarray(image)[..., None]
    return values.astype(np.uint16) if image.mode == "I" and bits == 16 else values  # how PGM of 16 bits is opened


def _own_bands(image: Image.Image) -> _Numbers:
    """All bands of an image of 8 bits."""
    converted = {"1": "L", "P": "RGB"}.get(image.mode)
    image = image if converted is None else image.convert(converted)
    values = np.asarray(image).reshape(image.height, image.width, -1)
    return _Numbers(values, len(image.getbands()) - (image.mode in ("LA", "RGBA")), image.mode.startswith("RGB"))


def _finish(found: _Numbers, turned: Image.Transpose | None, limit: float, levels: Levels | None) -> tuple[Raw, float]:
    """The bands that are wanted, reduced and turned, and the share of their range that they use."""
    chosen = _chosen(found, None if levels is None else levels.num_bands)
    share = levels_used(chosen)
    room = chosen.shape[2] if levels is None else levels.room(chosen.dtype)
    chosen = reduced(chosen, math.ceil(math.sqrt(chosen.shape[0] * chosen.shape[1] * room / limit)))
    chosen = np.ascontiguousarray(chosen if turned is None else TURNS[turned](chosen))
    if levels is not None and chosen.shape[2] < levels.num_bands:
        chosen = np.repeat(chosen, levels.num_bands, axis=2)
    return chosen.astype(chosen.dtype.newbyteorder("="), copy=False), share


def _chosen(found: _Numbers, wanted: int | None) -> Raw:
    """The bands that a recipe expects: all, those before a matte, those of RGB; one stands for three grays."""
    values, bands = found.values, found.values.shape[2]
    if wanted == bands:
        return values
    if wanted in (None, found.num_bands) or (wanted == RGB and found.num_bands == 1):
        return values[..., : found.num_bands]
    if wanted == RGB and found.is_rgb:
        return values[..., :RGB]
    raise _OtherBands(
        f"has {bands} band{'s' if bands > 1 else ''}, but the recipe expects {wanted}; give data.mean and data.std an "
        "entry for each band of the images, or leave both empty to have them measured; weights read as many "
        "bands as they were trained on"
    )


def to_rgb(image: Image.Image) -> Image.Image:
    """Three channels of 8 bits of an image whose channels have 8; alpha is dropped, as peers do."""
    if image.mode == "RGB":
        return image
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _rgb(
    image: Image.Image, bits: int, turned: Image.Transpose | None, limit: float, levels: Levels | None
) -> tuple[UInt8[np.ndarray, "h w 3"], float]:
    """RGB of 8 bits."""
    width, height = image.size
    room = RGB if levels is None else levels.room(np.dtype(np.uint8))
    factor = max(1, math.ceil(math.sqrt(room * height * width / limit)))
    if factor > 1:
        image.draft(image.mode, (width // factor, height // factor))  # JPEG: decodes 1/2, 1/4 or 1/8 directly
    array = _rgb_array(image, math.ceil(factor / round(width / image.width)))
    array = array if turned is None else np.ascontiguousarray(TURNS[turned](array))
    return array, levels_used(array) if bits >= 16 else 1.0


def _rgb_array(image: Image.Image, factor: int) -> UInt8[np.ndarray, "h w 3"]:
    """An image reduced by a whole factor, some rows after the others: a copy of all of it takes too much memory."""
    rows = factor * max(1, AT_ONCE // (image.width * factor))
    if rows >= image.height:
        image = to_rgb(image)
        return np.asarray(image.reduce(factor) if factor > 1 else image)
    array = np.empty((*reduced_size((image.height, image.width), factor), RGB), np.uint8)
    for top in range(0, image.height, rows):
        strip = to_rgb(image.crop((0, top, image.width, min(top + rows, image.height))))
        found = np.asarray(strip.reduce(factor) if factor > 1 else strip)
        array[top // factor : top // factor + len(found)] = found
    return array
