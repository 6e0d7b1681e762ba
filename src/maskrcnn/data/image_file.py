"""What lies in an image's file before its pixels: what format it is, or why it is no image."""

import math
import os
import re
from importlib.util import find_spec
from io import BufferedReader, BytesIO
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from maskrcnn.sentences import typed
from maskrcnn.storage.location import Location

FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "DIB", "GIF", "WEBP", "PPM", "AVIF", "JPEG2000", "PCX", "SGI", "QOI")
"""Formats, as Pillow names them, that a file's first bytes tell; none runs another program, as PostScript would."""
TGA_ENDINGS = (".tga", ".icb", ".vda", ".vst")
"""Endings of TGA, which has no first bytes of its own: under another ending, anything might look like it."""
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
LONGEST_SIDE = 1_000_000
"""Pixels beyond which a stated width or height is no image's."""
DENSEST = {"PNG": 8300, "GIF": 4100, "JPEG": 1100, "MPO": 1100, "WEBP": 8300, "BMP": 130, "DIB": 130, "TGA": 130}
DENSEST |= {"PCX": 260, "SGI": 130, "PPM": 8, "QOI": 63}
"""Pixels that a byte holds at most: bits that are deflated, strings of equal ones, flat blocks."""
HARMLESS = 1 << 22
"""Number of pixels up to which nobody asks whether a file holds them."""
USUAL_PIXELS = 178_956_970
"""Pixels of the largest image that is opened unless a recipe says otherwise; Pillow's own limit."""
BLANK, BLANK_SHARE = 256, 3 / 16
"""Pixels in a byte of an image that shows nearly nothing, and the share of the largest number of pixels up to which one
is opened: photos have fewer than 50, and of the larger ones only bombs more."""
RGB_BYTES, ROOM = 3, 16
"""Bytes of a usual pixel, and those that a pixel of the largest image may have."""
MOST_SCANS, USUAL_SCANS, BLANK_SCANS = 64, 10, 64
"""Passes over all pixels that a progressive JPEG may ask for, those that usual ones do, and pixels in a byte of one
that asks for more: each pass of a photo adds something."""
PNG, PIXEL_PARTS, MOST_PARTS = b"\x89PNG\r\n\x1a\n", (b"IDAT", b"fdAT", b"fcTL"), 1000
"""First bytes of a PNG, names of its parts that hold pixels, and the number of others that it may have."""
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
    if head.startswith(PNG):
        _refuse_parts(file, path)
    stated = webp_size(head)
    if stated is not None:
        refuse_size(stated, "WEBP", num_bytes, path)
    formats = [*FORMATS, *(["TGA"] if path.suffix.lower() in TGA_ENDINGS else []), *(["HEIF"] if is_heic(head) else [])]
    try:
        image = Image.open(file, formats=formats)
    except UnidentifiedImageError:
        raise ValueError(f"the image {path} is not of a known format or is cut off; restore or remove it") from None
    except Image.DecompressionBombError as error:
        told = re.search(r"\((\d+) pixels\)", str(error))
        enough = _enough(int(told[1]), RGB_BYTES, num_bytes) if told else "more"
        raise ValueError(_too_large(path, "it", enough)) from None
    except Exception as error:  # decoders raise whatever a broken file leads them to
        raise ValueError(f"the image {path} cannot be decoded ({error}); restore or remove it") from error
    refuse_absurd(image, path, num_bytes)
    return image


def refuse_absurd(image: Image.Image, path: object, num_bytes: int) -> None:
    """Raise ValueError where an image, or the page that it is at, states a size for which no room should be taken.

    num_bytes   of its file
    """
    refuse_size((image.height, image.width), image.format or "", num_bytes, path)


def refuse_size(
    size: tuple[int, int], format: str, num_bytes: int, path: object, *, bytes_per_pixel: int = RGB_BYTES
) -> None:
    """Raise ValueError where a header states a size that no file of so many bytes has, or that is larger than wanted.

    size     (height, width)
    format   Pillow's name of it
    """
    if not 0 < min(size) <= max(size) <= LONGEST_SIDE:
        raise ValueError(
            f"the image {path} states a (height, width) of {size}, but expected are 1 to {LONGEST_SIDE} pixels; "
            "restore or remove it"
        )
    pixels = size[0] * size[1]
    enough = _enough(pixels, bytes_per_pixel, num_bytes)
    if max(pixels, pixels * bytes_per_pixel / ROOM) > most_pixels():
        room = "" if bytes_per_pixel == RGB_BYTES else f", with {bytes_per_pixel} bytes in a pixel,"
        raise ValueError(_too_large(path, f"its (height, width) of {size}{room}", enough))
    if is_hollow(format, pixels, num_bytes):
        raise ValueError(
            f"the image {path} states a (height, width) of {size}, more than its {num_bytes} bytes can hold; "
            "restore or remove it"
        )
    if is_blank(pixels * bytes_per_pixel / RGB_BYTES, num_bytes):
        raise ValueError(
            f"the image {path} states a (height, width) of {size}, of which its {num_bytes} bytes tell hardly "
            f"anything, as of files made to fill the memory; remove it, cut it into tiles, or set "
            f"{typed('data.max_pixels')} to {enough}"
        )


def _enough(num_pixels: int, bytes_per_pixel: int, num_bytes: int) -> int:
    """The smallest largest number of pixels with which an image of this size is opened, also if it is blank."""
    usual = num_pixels * bytes_per_pixel / RGB_BYTES
    blank = usual / BLANK_SHARE if usual > num_bytes * BLANK else 0
    return math.ceil(max(num_pixels, num_pixels * bytes_per_pixel / ROOM, blank))


def _too_large(path: object, what: str, enough: int | str) -> str:
    more = typed("data.max_pixels")
    return (
        f"the image {path} is too large to be opened: {what} exceeds {more}={most_pixels():.0f} pixels; cut it into "
        f"tiles, or set {more} to {enough}"
    )


def is_hollow(format: str, num_pixels: float, num_bytes: int) -> bool:
    """Whether a header states more pixels than the file can hold, so that room for them would be taken for nothing."""
    return num_pixels > HARMLESS and num_pixels > num_bytes * DENSEST.get(format, math.inf)


def is_blank(num_pixels: float, num_bytes: int) -> bool:
    """Whether a large image shows nearly nothing, as its file has so few bytes."""
    return num_pixels > BLANK_SHARE * most_pixels() and num_pixels > num_bytes * BLANK


def is_unusual_jpeg(data: bytes, num_pixels: int) -> bool:
    """Whether the header of a JPEG states what `refuse_size` and `refuse_scans` should look at."""
    return num_pixels > most_pixels() or is_hollow("JPEG", num_pixels, len(data)) or is_blank(num_pixels, len(data))


def refuse_scans(data: bytes, num_pixels: int, path: object) -> None:
    """Raise ValueError where a JPEG asks for more passes over its pixels than its bytes are worth."""
    scans = data.count(b"\xff\xda")
    work = num_pixels * scans / USUAL_SCANS
    if scans > MOST_SCANS or (scans > USUAL_SCANS and work > HARMLESS and work > BLANK_SCANS * len(data)):
        raise ValueError(
            f"the image {path} asks for {scans} passes over its pixels, where usual JPEG files ask for up to "
            f"{USUAL_SCANS}; save it again or remove it"
        )


def most_pixels() -> float:
    """Number of pixels beyond which no image is opened, by Pillow or here: `data.max_pixels`."""
    return math.inf if Image.MAX_IMAGE_PIXELS is None else 2 * Image.MAX_IMAGE_PIXELS


def allow_pixels(number: int) -> None:
    """Set, for all of this process, the number of pixels beyond which no image is opened: Pillow's limit is one too."""
    Image.MAX_IMAGE_PIXELS = (number + 1) // 2


def _refuse_parts(file: BytesIO | BufferedReader, path: object) -> None:
    """Raise ValueError where a PNG has more parts beside its pixels than anybody writes; Pillow looks at each."""
    place, beside = file.seek(len(PNG)), 0
    while len(start := file.read(8)) == 8:
        beside += start[4:] not in PIXEL_PARTS
        if beside > MOST_PARTS:
            raise ValueError(f"the image {path} has more than {MOST_PARTS} parts beside its pixels; save it again")
        place += 12 + int.from_bytes(start[:4], "big")
        file.seek(place)


def webp_size(head: bytes) -> tuple[int, int] | None:
    """(height, width) that a WebP states; Pillow takes room for it when it opens one. None for any other file."""
    if head[:4] != b"RIFF" or head[8:12] != b"WEBP" or len(head) < 30:
        return None
    if head[12:16] == b"VP8X":
        return 1 + int.from_bytes(head[27:30], "little"), 1 + int.from_bytes(head[24:27], "little")
    if head[12:16] == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return 1 + (bits >> 14 & 0x3FFF), 1 + (bits & 0x3FFF)
    return int.from_bytes(head[28:30], "little") & 0x3FFF, int.from_bytes(head[26:28], "little") & 0x3FFF


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


def _is_endless_pnm(head: bytes) -> bool:
    """Whether a file begins as a PPM, PGM or PBM whose size does not follow soon: Pillow looks on byte by byte."""
    words = re.sub(rb"#[^\r\n]*", b"", head).split(maxsplit=4)
    return len(head) == HEAD and head[:1] == b"P" and head[1:2] in b"123456" and len(words) < 4


def _no_image(head: bytes) -> str:
    """What a file is instead of an image, and what to do; empty where it may be one."""
    if _is_endless_pnm(head):
        return f"states no size in its first {HEAD} bytes; restore or remove it"
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
