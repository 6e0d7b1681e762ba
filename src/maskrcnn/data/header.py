"""What an image's file says before its pixels, without decoding them."""

from dataclasses import dataclass
from io import BufferedReader, BytesIO
from typing import Any

from PIL import Image

from maskrcnn.data.image_file import has_pages

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
MOST_CHUNKS = 100_000
"""Parts of a PNG that are looked at for one behind the pixels."""
TEXTS = (b"tEXt", b"zTXt", b"iTXt")
"""Names of the parts of a PNG that are text."""
ORIENTED = (b"Raw profile type exif", b"XML:com.adobe.xmp")
"""Texts of a PNG that may hold an orientation."""


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


def header_of(image: Image.Image) -> Header:
    """What the header of an opened image says, or of the page that it is at; no pixels are decoded."""
    bits, orientation = _bits(image), _orientation(image)
    size = stored = image.height, image.width
    if orientation >= 5:  # Pillow itself turns TIFF upright, its size at once
        size, stored = (size, size[::-1]) if image.format == "TIFF" else (size[::-1], size)
    bands = len(image.getbands()) if image.mode != "P" else 3
    return Header(size, stored, orientation, bits, bands, image.format or "", has_pages(image))


def turn(header: Header, *, upright: bool, is_turned: bool = True) -> Image.Transpose | None:
    """What turns the pixels that were read upright, or as they are stored; None where they are that already.

    is_turned   whether they come from Pillow, which turns TIFF upright by itself
    """
    if header.format == "TIFF" and is_turned:
        inverse = {6: 8, 8: 6}.get(header.orientation, header.orientation)
        return None if upright else UPRIGHT.get(inverse)
    return UPRIGHT.get(header.orientation) if upright else None


def _bits(image: Image.Image) -> int:
    if image.mode in ("1", "F"):
        return 1 if image.mode == "1" else 32
    if image.mode == "I":
        return 32 if image.format == "TIFF" else 16  # what PNG and PPM of 16 bits become
    stored = [str(tile[3]) for tile in getattr(image, "tile", [])[:1]]
    return 16 if image.mode.startswith("I;16") or any(";16" in name for name in stored) else 8


def _orientation(image: Image.Image) -> int:
    try:
        orientation = _exif(image).get(EXIF_ORIENTATION)
    except Exception:  # unreadable metadata do not spoil a readable image
        return 1
    return orientation if orientation in UPRIGHT else 1


def _exif(image: Image.Image) -> Any:
    """Its metadata; Pillow decodes a PNG for them, which is needed only where they stand behind the pixels."""
    file = getattr(image, "fp", None)
    if image.format == "PNG" and (file is None or not _is_described_behind(file)):
        return Image.Image.getexif(image)
    return image.getexif()


def _is_described_behind(file: BytesIO | BufferedReader) -> bool:
    """Whether a PNG holds EXIF or XMP behind its pixels. The file is left where it was."""
    before = file.tell()
    try:
        file.seek(8)
        is_behind = False
        for _ in range(MOST_CHUNKS):
            head = file.read(8)
            length, name = int.from_bytes(head[:4], "big"), head[4:]
            start = file.tell()
            is_behind |= name == b"IDAT"
            if is_behind and (name == b"eXIf" or (name in TEXTS and file.read(21).startswith(ORIENTED))):
                return True
            if len(head) < 8 or name == b"IEND":
                return False
            file.seek(start + length + 4)
        return False
    finally:
        file.seek(before)
