"""An image's file -> bytes of its bands. One image looks the same whichever decoder reads it."""

import math
import os
from io import BufferedReader, BytesIO
from pathlib import Path

import numpy as np
import simplejpeg
from jaxtyping import UInt8
from PIL import Image

from maskrcnn.data.header import Header, header_of, turn
from maskrcnn.data.image_file import is_hollow, most_pixels, open_image
from maskrcnn.data.oddities import Oddities, levels_used
from maskrcnn.storage.location import Location
from maskrcnn.storage.read import read_bytes

MEBIBYTE = 1 << 20
RGB = 3
"""Bands of every image that is read from a file."""
MISSING = "the image {} does not exist; restore it or correct its name"
CLOSED = "the image {} cannot be opened ({}); restore or remove it"
LARGEST = 1 << 31
"""Bytes of a file beyond which it is no image: Pillow opens none that has so many."""


def decode(
    path: Path | Location,
    size: tuple[int, int] | None = None,
    max_rowsize: int | None = 64,
    *,
    num_bands: int = RGB,
    oddities: Oddities | None = None,
) -> UInt8[np.ndarray, "h w {num_bands}"]:
    """Read an image as RGB, upright by its EXIF orientation.

    path         on disk, or the address of an object
    size         (height, width) that the annotations state. Where it is that of the image before EXIF rotation, the
                 annotations were drawn on those pixels and the rotation is left out; any other difference is an error
    max_rowsize  MiB; a larger image is reduced by a whole factor, with None none is
    num_bands    what the recipe expects
    oddities     are told what the image has
    Raises FileNotFoundError or ValueError: one sentence with the file's name.
    """
    return decode_bytes(read_image(path), path, size, max_rowsize, num_bands=num_bands, oddities=oddities)


def read_image(path: Path | Location) -> bytes:
    """The bytes of an image's file. Raises OSError or ValueError with its name, and what `read_bytes` raises."""
    if isinstance(path, Location):
        return _read_object(path)
    with open_file(path) as file:
        length = os.fstat(file.fileno()).st_size
        if length > LARGEST:
            raise ValueError(
                f"the image {path} has {length} bytes, but an image has at most {LARGEST}; restore or remove it"
            )
        return file.read()


def _read_object(path: Location) -> bytes:
    try:
        return read_bytes(path)
    except FileNotFoundError:
        raise FileNotFoundError(MISSING.format(path)) from None


def decode_bytes(
    data: bytes,
    path: Path | Location,
    size: tuple[int, int] | None = None,
    max_rowsize: int | None = 64,
    *,
    num_bands: int = RGB,
    oddities: Oddities | None = None,
) -> UInt8[np.ndarray, "h w {num_bands}"]:
    """Decode bytes that were read already, as `decode`. Raises ValueError, which names `path`."""
    refuse_bands(path, num_bands)
    oddities = oddities or Oddities()
    limit = math.inf if max_rowsize is None else max_rowsize * MEBIBYTE
    fast = _decode_jpeg(data, size, limit)
    if fast is not None:
        oddities.add(path)
        return fast
    with open_image(BytesIO(data), path) as image:
        header = header_of(image)
        if size not in (None, header.size, header.stored_size):
            raise ValueError(
                f"the image {path} has (height, width) {header.size} but its annotations say {size}; correct the "
                "annotation file's height and width, or restore the image that was annotated"
            )
        upright = size in (None, header.size)
        pixels, share = pixels_of(image, path, header, limit, upright=upright)
        oddities.add(path, share=share, has_pages=header.has_pages, is_left_turned=not upright)
        return pixels


def refuse_bands(path: Path | Location, num_bands: int) -> None:
    """Raise ValueError where a recipe expects other bands than those of images that are read from files."""
    if num_bands != RGB:
        raise ValueError(
            f"the image {path} gives {RGB} bands, red, green and blue, but the recipe expects {num_bands}; give "
            "data.mean and data.std one entry for each band of the images"
        )


def pixels_of(
    image: Image.Image, name: object, header: Header, limit: float, *, upright: bool = True
) -> tuple[UInt8[np.ndarray, "h w 3"], float]:
    """(pixels of an opened image, share of the levels that they use); images of 8 bits are taken to use all.

    name      its path or page, which the ValueError tells that is raised where it is broken
    limit     bytes beyond which it is reduced
    upright   or as it is stored
    """
    try:
        return _decode_any(image, header.bits, turn(header, upright=upright), limit)
    except Exception as error:  # decoders raise whatever a broken file leads them to
        raise ValueError(f"the image {name} cannot be decoded ({error}); restore or remove it") from error


def probe(path: Path | Location) -> Header:
    """Read the header of an image's file, and none of its pixels; an object of a store is read whole.

    Raises FileNotFoundError or ValueError: one sentence that names the file and says what it is instead of an image.
    """
    with open_file(path) as file, open_image(file, path) as image:
        return header_of(image)


def open_file(path: Path | Location) -> BytesIO | BufferedReader:
    """An image's file, open for reading; that of a store is read whole. Raises what `read_image` does."""
    if isinstance(path, Location):
        return BytesIO(read_image(path))
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise FileNotFoundError(MISSING.format(path)) from None
    except OSError as error:
        raise OSError(CLOSED.format(path, error.strerror)) from None


def refuse_broken(path: Path | Location) -> None:
    """Decode an image to its last pixel. Raises FileNotFoundError or ValueError, as `decode`, where that fails."""
    decode(path)


def to_rgb(image: Image.Image) -> Image.Image:
    """Three channels of 8 bits. 16-bit gray is scaled by 1/257; alpha is dropped, as peers do."""
    if image.mode == "RGB":
        return image
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of unknown range; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        values = np.asarray(image).clip(0, 65535).astype(np.uint32)
        return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _decode_jpeg(data: bytes, size: tuple[int, int] | None, limit: float) -> UInt8[np.ndarray, "h w 3"] | None:
    """The usual case, bit for bit what Pillow gives, in 0.8 of its time; None where Pillow should look.

    Pillow also sees those whose header states more pixels than it opens: here room would be taken for them first.
    """
    if not data.startswith(b"\xff\xd8") or b"Exif\0\0" in data or b"Orientation" in data:
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        pixels = height * width
        is_large = 3 * pixels > limit or pixels > most_pixels() or is_hollow("JPEG", pixels, len(data))
        if colours not in ("YCbCr", "RGB", "Gray") or is_large or size not in (None, (height, width)):
            return None
        return simplejpeg.decode_jpeg(data, "RGB")
    except ValueError:  # also raised for blemishes that Pillow forgives
        return None


def _decode_any(
    image: Image.Image, bits: int, turned: Image.Transpose | None, limit: float
) -> tuple[UInt8[np.ndarray, "h w 3"], float]:
    width, height = image.size
    factor = max(1, math.ceil(math.sqrt(3 * height * width / limit)))
    if factor > 1:
        image.draft(image.mode, (width // factor, height // factor))  # JPEG: decodes 1/2, 1/4 or 1/8 directly
    rest = math.ceil(factor / round(width / image.width))
    is_gray = image.mode.startswith("I")
    share = levels_used(np.asarray(image)) if is_gray else 1.0
    image = to_rgb(image)
    if rest > 1:
        image = image.reduce(rest)
    if turned is not None:
        image = image.transpose(turned)
    array = np.asarray(image)
    return array, levels_used(array) if bits >= 16 and not is_gray else share
