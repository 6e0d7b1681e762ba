"""What lies in an image's file before its pixels: what format it is, or why it is no image."""

import math
import os
from importlib.util import find_spec
from io import BufferedReader, BytesIO
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from maskrcnn.storage.location import Location

FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "DIB", "GIF", "WEBP", "PPM", "AVIF", "JPEG2000", "PCX", "SGI", "QOI")
"""Formats, as Pillow names them, that a file's first bytes tell; none runs another program, as PostScript would."""
TGA_ENDINGS = (".tga", ".icb", ".vda", ".vst")
"""Endings of TGA, which has no first bytes of its own: under another ending, anything might look like it."""
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
LONGEST_SIDE = 1_000_000
"""Pixels beyond which a stated width or height is no image's."""
DENSEST = {"PNG": 8300, "GIF": 4100, "JPEG": 1100, "MPO": 1100}
"""Pixels that a byte holds at most: bits that are deflated, strings of equal ones, flat blocks."""
HARMLESS = 1 << 22
"""Number of pixels up to which nobody asks whether a file holds them."""
HEAD = 4096
"""Bytes that tell what a file is."""


def open_image(file: BytesIO | BufferedReader, path: Path | Location) -> Image.Image:
    """An image whose header is read, and whose pixels are not. Raises ValueError: one sentence, which names `path`."""
    head = file.read(HEAD)
    num_bytes = file.seek(0, os.SEEK_END)
    if is_heic(head):
        _learn_heic(path)
    reason = _no_image(head)
    if reason:
        raise ValueError(f"the image {path} {reason}")
    formats = [*FORMATS, *(["TGA"] if path.suffix.lower() in TGA_ENDINGS else []), *(["HEIF"] if is_heic(head) else [])]
    try:
        image = Image.open(file, formats=formats)
    except UnidentifiedImageError:
        raise ValueError(f"the image {path} is not of a known format or is cut off; restore or remove it") from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"the image {path} is too large to be opened ({error}); cut it into tiles") from None
    except Exception as error:  # decoders raise whatever a broken file leads them to
        raise ValueError(f"the image {path} cannot be decoded ({error}); restore or remove it") from error
    refuse_absurd(image, path, num_bytes)
    return image


def refuse_absurd(image: Image.Image, path: object, num_bytes: int) -> None:
    """Raise ValueError where an image, or the page that it is at, states a size for which no room should be taken.

    num_bytes   of its file
    """
    if not 0 < min(image.size) <= max(image.size) <= LONGEST_SIDE:
        raise ValueError(
            f"the image {path} states a (height, width) of {image.size[::-1]}, but expected are 1 to {LONGEST_SIDE} "
            "pixels; restore or remove it"
        )
    if image.width * image.height > most_pixels():
        raise ValueError(
            f"the image {path} is too large to be opened: its (height, width) of {image.size[::-1]} exceeds "
            f"{most_pixels():.0f} pixels; cut it into tiles"
        )
    if is_hollow(image.format or "", image.width * image.height, num_bytes):
        raise ValueError(
            f"the image {path} states a (height, width) of {image.size[::-1]}, more than its {num_bytes} bytes can "
            "hold; restore or remove it"
        )


def is_hollow(format: str, num_pixels: int, num_bytes: int) -> bool:
    """Whether a header states more pixels than the file can hold, so that room for them would be taken for nothing."""
    return num_pixels > HARMLESS and num_pixels > num_bytes * DENSEST.get(format, math.inf)


def most_pixels() -> float:
    """Number of pixels beyond which Pillow opens no image."""
    return math.inf if Image.MAX_IMAGE_PIXELS is None else 2 * Image.MAX_IMAGE_PIXELS


def has_pages(image: Image.Image) -> bool:
    """Whether a file holds images after the first that stand beside it: not a photo's preview or depth."""
    try:
        return image.format != "MPO" and bool(getattr(image, "is_animated", False))
    except Exception:  # the second one is broken, as who asks for it learns
        return True


def is_heic(head: bytes) -> bool:
    """Whether a file begins as a phone's HEIC image does, and not as AVIF, which shares its container."""
    return head[4:8] == b"ftyp" and head[8:12] in HEIC_BRANDS and b"avi" not in head[8 : _box_end(head)]


def _box_end(head: bytes) -> int:
    return min(int.from_bytes(head[:4], "big"), 256)


def _learn_heic(path: Path | Location) -> None:
    """Have Pillow read HEIC, or say what is missing."""
    if find_spec("pillow_heif") is None:
        raise ValueError(f"the image {path} is HEIC, which needs a decoder; pip install 'maskrcnn[heic]' or convert it")
    import pillow_heif

    pillow_heif.register_heif_opener()


def _no_image(head: bytes) -> str:
    """What a file is instead of an image, and what to do; empty where it may be one."""
    if not head:
        return "is empty; restore or remove it"
    if not head.strip(b"\0"):
        return "begins with nothing but zeros, as an interrupted copy does; restore or remove it"
    if head.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer and not the image itself; fetch it with `git lfs pull`"
    if b"/annex/objects/" in head[:256]:
        return "is a git-annex pointer and not the image itself; fetch it with `git annex get`"
    if head.startswith((b"\x00\x05\x16\x07", b"\x00\x05\x16\x00")):
        return "holds what macOS notes beside an image and not the image itself; remove it"
    if head.startswith(b"%PDF"):
        return "is a PDF document; save its pages as images"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "is a web page, as a failed download leaves one; download it again or remove it"
    if text.startswith((b"<svg", b"<!doctype svg")) or (text.startswith(b"<?xml") and b"<svg" in text):
        return "is an SVG drawing, which has no pixels; save it as PNG"
    if text.startswith((b"<?xml", b"{", b"<error")):
        return "is text, maybe a server's answer to a failed download; download it again or remove it"
    return ""
