"""An image's file -> numbers of its bands. One image looks the same whichever decoder reads it."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, BytesIO
from pathlib import Path

import numpy as np
import simplejpeg
from jaxtyping import UInt8
from PIL import Image

from maskrcnn.data import npy, png, tiff
from maskrcnn.data.header import Header, header_of
from maskrcnn.data.image_file import HEAD, is_unusual_jpeg, open_image, refuse_scans
from maskrcnn.data.levels import RGB, Levels, Pixels, to_levels
from maskrcnn.data.oddities import Oddities
from maskrcnn.data.raster import Raster
from maskrcnn.data.raw import Opened, Raw, pixels_of
from maskrcnn.data.tar_members import far_tar_of, fetched_tar, member_of, read_member, tar_of
from maskrcnn.files import SPECIAL, is_special
from maskrcnn.picture import picture
from maskrcnn.storage.location import Location
from maskrcnn.storage.read import read_bytes

MEBIBYTE = 1 << 20
JPEG = b"\xff\xd8"
"""First bytes of a JPEG."""
MISSING = "the image {} does not exist; restore it or correct its name"
CLOSED = "the image {} cannot be opened ({}); restore or remove it"
LARGEST = 1 << 31
"""Bytes of a file beyond which it is no image: Pillow opens none that has so many."""
MOST_UNSTATED = 1 << 26
"""Bytes that are read of a file that states fewer, as what a system makes up meanwhile does: it may never end."""
BYTES = Levels()
"""Levels of images of which nothing is known: RGB, and the whole range of their numbers."""


def decode(
    path: Path | Location,
    size: tuple[int, int] | None = None,
    max_rowsize: int | None = 64,
    *,
    levels: Levels = BYTES,
    oddities: Oddities | None = None,
) -> Pixels:
    """Read an image, upright by its EXIF orientation: bytes where it has 8 bits, else float32 in 0..255.

    path         on disk, or the address of an object
    size         (height, width) that the annotations state. Where it is that of the image before EXIF rotation, the
                 annotations were drawn on those pixels and the rotation is left out; any other difference is an error
    max_rowsize  MiB; a larger image is reduced by a whole factor, with None none is
    levels       bands and levels that a recipe expects. Three bands are red, green and blue: gray is repeated, and
                 what lies behind RGB is left out
    oddities     are told what the image has
    Raises FileNotFoundError or ValueError: one sentence with the file's name.
    """
    return decode_bytes(read_image(path), path, size, max_rowsize, levels=levels, oddities=oddities)


def decode_picture(
    path: Path | Location,
    size: tuple[int, int] | None = None,
    max_rowsize: int | None = 64,
    *,
    oddities: Oddities | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
    """Read an image of any kind for people, as `picture` shows it. Arguments and errors are those of `decode`."""
    return picture(decode_raw(read_image(path), path, size, max_rowsize, oddities=oddities))


def read_image(path: Path | Location) -> bytes:
    """The bytes of an image's file. Raises OSError or ValueError with its name, and what `read_bytes` raises."""
    if isinstance(path, Location):
        return _read_object(path)
    with open_file(path) as file:
        length = length_of(file)
        if length > LARGEST:
            raise ValueError(
                f"the image {path} has {length} bytes, but an image has at most {LARGEST}; restore or remove it"
            )
        return file.read(max(length, MOST_UNSTATED))


def _read_object(path: Location) -> bytes:
    if (inside := far_tar_of(path)) is not None:
        return _read_from_tar(path, fetched_tar(inside[0]), inside[1])
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
    levels: Levels = BYTES,
    oddities: Oddities | None = None,
) -> Pixels:
    """Decode bytes that were read already, as `decode`. Raises ValueError, which names `path`."""
    raw = decode_raw(data, path, size, max_rowsize, levels=levels, oddities=oddities)
    return mapped(raw, path, levels)


def mapped(raw: Raw, name: object, levels: Levels) -> Pixels:
    """Numbers of a file as levels. Raises ValueError, which names the image."""
    try:
        return to_levels(raw, levels)
    except ValueError as error:
        raise ValueError(f"the image {name} cannot be decoded: {error}") from None


def decode_raw(
    data: bytes,
    path: Path | Location,
    size: tuple[int, int] | None = None,
    max_rowsize: int | None = 64,
    *,
    levels: Levels | None = None,
    oddities: Oddities | None = None,
) -> Raw:
    """Decode to numbers of the file's own type.

    levels   bands that a recipe expects; None gives RGB for what Pillow reads as 8 bits, and else the file's own bands
    """
    oddities = oddities or Oddities()
    limit = math.inf if max_rowsize is None else max_rowsize * MEBIBYTE
    if data.startswith(JPEG):
        _refuse_jpeg(data, path)
    if levels is None or levels.num_bands == RGB:
        fast = _decode_jpeg(data, size, limit if levels is None else limit / (levels.room(np.dtype(np.uint8)) / RGB))
        if fast is not None:
            oddities.add(path)
            return fast
    with opened(BytesIO(data), path) as image:
        header = header_of(image) if isinstance(image, Image.Image) else image.header
        if size not in (None, header.size, header.stored_size):
            raise ValueError(
                f"the image {path} has (height, width) {header.size} but its annotations say {size}; correct the "
                "annotation file's height and width, or restore the image that was annotated"
            )
        upright = size in (None, header.size)
        pixels, share = pixels_of(image, path, header, limit, levels, upright=upright)
        oddities.add(
            path,
            share=share if levels is None or levels.kind == "full" else 1.0,
            bits=header.bits,
            has_pages=header.has_pages,
            is_left_turned=not upright,
        )
        return pixels


@contextmanager
def opened(file: BytesIO | BufferedReader, path: Path | Location) -> Iterator[Opened]:
    """An image whose header is read. Raises ValueError, which names `path`."""
    raster = next((raster for _, raster in open_rasters(file, path)), None)
    if raster is not None:
        yield raster
        return
    with open_image(file, path) as image:
        yield image


def open_rasters(file: BytesIO | BufferedReader, path: Path | Location) -> Iterator[tuple[int, Raster]]:
    """Yield the images of a file, with their numbers from 1, that are not read by Pillow, since it would lose some of
    their bits or bands. The file is at its beginning, before and after. Raises ValueError, which names `path`."""
    head = file.read(HEAD)
    file.seek(0)
    if head.startswith(npy.MARK):
        yield 1, npy.open_array(file, path)
    elif png.is_deep(head):
        yield 1, png.open_deep(file, path)
    elif tiff.is_tiff(head):
        yield from tiff.open_tiff(file, path)
    file.seek(0)


def probe(path: Path | Location) -> Header:
    """Read the header of an image's file, and none of its pixels; an object of a store is read whole.

    Raises FileNotFoundError or ValueError: one sentence that names the file and says what it is instead of an image.
    """
    with open_file(path) as file, opened(file, path) as image:
        return image.header if isinstance(image, Raster) else header_of(image)


def open_file(path: Path | Location) -> BytesIO | BufferedReader:
    """An image's file, open for reading; that of a store or in a tar is read whole. Raises what `read_image` does."""
    if isinstance(path, Location):
        return BytesIO(read_image(path))
    if (inside := tar_of(path)) is not None:
        return BytesIO(_read_from_tar(path, *inside))
    if is_special(path):
        raise OSError(CLOSED.format(path, SPECIAL))
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise FileNotFoundError(MISSING.format(path)) from None
    except OSError as error:
        raise OSError(CLOSED.format(path, error.strerror)) from None


def length_of(file: BytesIO | BufferedReader) -> int:
    """Length of an open file, which stays where it is."""
    place = file.tell()
    length = file.seek(0, os.SEEK_END)
    file.seek(place)
    return length


def _read_from_tar(path: Path | Location, tar: Path, name: str) -> bytes:
    try:
        member = member_of(tar, name)
    except FileNotFoundError:
        raise FileNotFoundError(MISSING.format(path)) from None
    if member.size > LARGEST:
        raise ValueError(f"the image {path} has {member.size} bytes, but an image has at most {LARGEST}; remove it")
    return read_member(tar, member)


def refuse_broken(path: Path | Location) -> None:
    """Decode an image to its last pixel. Raises FileNotFoundError or ValueError, as `decode`, where that fails."""
    decode_raw(read_image(path), path)


def _decode_jpeg(data: bytes, size: tuple[int, int] | None, limit: float) -> UInt8[np.ndarray, "h w 3"] | None:
    """The usual case, bit for bit what Pillow gives, in 0.8 of its time; None where Pillow should look.

    Pillow also sees those whose header states more pixels than it opens: here room would be taken for them first.
    """
    if not data.startswith(JPEG) or b"Exif\0\0" in data or b"Orientation" in data:
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        pixels = height * width
        is_large = 3 * pixels > limit or is_unusual_jpeg(data, pixels)
        if colours not in ("YCbCr", "RGB", "Gray") or is_large or size not in (None, (height, width)):
            return None
        return simplejpeg.decode_jpeg(data, "RGB")
    except ValueError:  # also raised for blemishes that Pillow forgives
        return None


def _refuse_jpeg(data: bytes, path: Path | Location) -> None:
    """Raise ValueError where a JPEG asks for far too much work; what is no JPEG after all is for Pillow to tell."""
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return
    refuse_scans(data, height * width, path)
