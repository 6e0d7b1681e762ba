"""An image's file -> bytes of its bands. One image looks the same whichever decoder reads it."""

import math
from dataclasses import dataclass
from io import BufferedReader, BytesIO
from pathlib import Path

import numpy as np
import simplejpeg
from jaxtyping import UInt8
from PIL import Image

from maskrcnn.data.image_file import has_pages, most_pixels, open_image
from maskrcnn.data.oddities import Oddities, levels_used
from maskrcnn.storage.location import Location
from maskrcnn.storage.read import read_bytes

MEBIBYTE = 1 << 20
RGB = 3
"""Bands of every image that is read from a file."""
EXIF_ORIENTATION = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What brings an image with this EXIF orientation upright."""
MISSING = "the image {} does not exist; restore it or correct its name"


@dataclass(frozen=True)
class Header:
    """What an image's file says before its pixels."""

    size: tuple[int, int]
    """(height, width), upright by its EXIF orientation: what `decode` gives."""
    stored_size: tuple[int, int]
    """(height, width) of the pixels as they are stored."""
    orientation: int
    """1..8 as EXIF counts them; 1 is upright."""
    bits: int
    """Bits of a number, 8 unless it is bilevel or deeper."""
    bands: int
    """Numbers of a pixel: 1 gray, 3 colours or a palette, 4 with alpha or CMYK."""
    format: str
    """Pillow's name of it, such as JPEG."""
    has_pages: bool = False
    """Whether other images follow the first, which alone `decode` reads: a TIFF stack, an animation."""


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
    oddities      are told what the image has
    Raises FileNotFoundError or ValueError: one sentence with the file's name.
    """
    return decode_bytes(read_image(path), path, size, max_rowsize, num_bands=num_bands, oddities=oddities)


def read_image(path: Path | Location) -> bytes:
    """The bytes of an image's file. Raises FileNotFoundError with its name, and what `read_bytes` raises."""
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
        orientation = header.orientation if size in (None, header.size) else 1
        pixels, share = pixels_of(image, path, orientation, limit)
        oddities.add(path, share=share, has_pages=header.has_pages)
        return pixels


def refuse_bands(path: Path | Location, num_bands: int) -> None:
    """Raise ValueError where a recipe expects other bands than those of images that are read from files."""
    if num_bands != RGB:
        raise ValueError(
            f"the image {path} gives {RGB} bands, red, green and blue, but the recipe expects {num_bands}; give "
            "data.mean and data.std one entry for each band of the images"
        )


def pixels_of(
    image: Image.Image, name: object, orientation: int, limit: float
) -> tuple[UInt8[np.ndarray, "h w 3"], float]:
    """(pixels of an opened image, share of the levels that they use); images of 8 bits are taken to use all.

    name          its path or page, which the ValueError tells that is raised where it is broken
    orientation   by which it is turned upright
    limit         bytes beyond which it is reduced
    """
    try:
        return _decode_any(image, orientation, limit)
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
        is_large = 3 * height * width > limit or height * width > most_pixels()
        if colours not in ("YCbCr", "RGB", "Gray") or is_large or size not in (None, (height, width)):
            return None
        return simplejpeg.decode_jpeg(data, "RGB")
    except ValueError:  # also raised for blemishes that Pillow forgives
        return None


def header_of(image: Image.Image) -> Header:
    """What the header of an opened image says."""
    stored, orientation = (image.height, image.width), _orientation(image)
    bands = len(image.getbands()) if image.mode != "P" else RGB
    return Header(
        size=stored[::-1] if orientation >= 5 else stored,
        stored_size=stored,
        orientation=orientation,
        bits=_bits(image),
        bands=bands,
        format=image.format or "",
        has_pages=has_pages(image),
    )


def _bits(image: Image.Image) -> int:
    if image.mode in ("1", "F"):
        return 1 if image.mode == "1" else 32
    if image.mode == "I":
        return 32 if image.format == "TIFF" else 16  # what PNG and PPM of 16 bits become
    stored = [str(tile.args) for tile in getattr(image, "tile", [])[:1]]
    return 16 if image.mode.startswith("I;16") or any(";16" in name for name in stored) else 8


def _decode_any(image: Image.Image, orientation: int, limit: float) -> tuple[UInt8[np.ndarray, "h w 3"], float]:
    is_deep, is_gray = _bits(image) >= 16, image.mode.startswith("I")
    width, height = image.size
    factor = max(1, math.ceil(math.sqrt(3 * height * width / limit)))
    if factor > 1:
        image.draft(image.mode, (width // factor, height // factor))  # JPEG: decodes 1/2, 1/4 or 1/8 directly
    rest = math.ceil(factor / round(width / image.width))
    share = levels_used(np.asarray(image)) if is_gray else 1.0
    image = to_rgb(image)
    if rest > 1:
        image = image.reduce(rest)
    if orientation in UPRIGHT:
        image = image.transpose(UPRIGHT[orientation])
    array = np.asarray(image)
    return array, levels_used(array) if is_deep and not is_gray else share


def _orientation(image: Image.Image) -> int:
    try:
        orientation = image.getexif().get(EXIF_ORIENTATION)
    except Exception:  # unreadable metadata do not spoil a readable image
        return 1
    return orientation if orientation in UPRIGHT else 1
