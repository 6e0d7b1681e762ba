"""Files whose pixels are numbers: PNG and TIFF of 1 to 32 bits, and numbers coded in colours."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import Integer, Shaped, UInt32
from PIL import Image

from maskrcnn.data.decode import open_file, probe
from maskrcnn.data.faults import Faults, Kind, Severity
from maskrcnn.data.header import Header
from maskrcnn.data.image_file import open_image
from maskrcnn.files import atomic_write
from maskrcnn.masks import Rings, masks_of_ids, rings_from_bitmap

LOSSY = ("JPEG", "WEBP", "AVIF", "JPEG2000", "HEIF", "MPO")
"""Formats that change pixels when they are written."""
CODED = np.array([1, 256, 65536], np.uint32)
"""What red, green and blue count in a colour that codes a number."""
BAD_MASK = Kind("mask-unreadable", "masks", Severity.REFUSED, "cannot be read", "their images are left out")
OTHER_SIZE = Kind(
    "mask-size", "masks", Severity.REFUSED, "have another size than their image", "their images are left out"
)
NO_MASK = Kind(
    "mask-missing",
    "images",
    Severity.WARNING,
    "have no mask and are left out; an empty mask says that nothing is there",
)
NO_IMAGE = Kind("mask-without-image", "masks", Severity.WARNING, "belong to no image and are left out")


def read_ids(path: Path) -> UInt32[np.ndarray, "h w"]:
    """The number of each pixel: its gray value, its index in a palette, or red + 256 green + 65536 blue.

    Raises FileNotFoundError or ValueError: one sentence with the file's name.
    """
    with open_ids(path) as (ids, _):
        return ids


@contextmanager
def open_ids(path: Path) -> Iterator[tuple[UInt32[np.ndarray, "h w"], Image.Image]]:
    """The same with the image that it was read from. Raises as `read_ids`."""
    with open_file(path) as file, open_image(file, path) as image:
        if image.format in LOSSY:
            raise ValueError(
                f"{path} is {image.format}, which changes pixels so that they number no objects; save masks as PNG"
            )
        try:
            num_pages = getattr(image, "n_frames", 1)
            pixels = np.asarray(image) if num_pages == 1 else np.zeros((0, 0))
        except Exception as error:  # decoders raise whatever a broken file leads them to
            raise ValueError(f"{path} cannot be decoded ({error}); restore or remove it") from None
        if num_pages > 1:
            raise ValueError(
                f"{path} has {num_pages} pages: layers of one image, or a mask each; save one page an image"
            )
        yield numbers(pixels, image.mode, path), image


def numbers(pixels: Shaped[np.ndarray, "..."], mode: str, path: Path) -> UInt32[np.ndarray, "h w"]:
    """Numbers of pixels as Pillow gives them. Raises ValueError for those that are none."""
    if mode in ("RGB", "RGBA", "RGBX"):
        colours = pixels[..., :3]
        if (colours[..., :1] == colours[..., 1:]).all():
            return colours[..., 0].astype(np.uint32)
        return (colours * CODED).sum(axis=-1, dtype=np.uint32)
    if mode in ("LA", "PA", "La"):
        pixels = pixels[..., 0]
    if pixels.ndim != 2:
        raise ValueError(f"{path} has pixels of kind {mode}, which number no objects; save it as gray of 8 or 16 bits")
    if pixels.dtype.kind == "f" and not (np.isfinite(pixels).all() and (pixels == np.floor(pixels)).all()):
        raise ValueError(f"{path} has pixels that are no whole numbers; save the numbers of objects with 16 bits")
    if pixels.size and (pixels.min() < 0 or pixels.max() >= 2**32):
        raise ValueError(f"{path} has pixels from {pixels.min()} to {pixels.max()}; expected numbers from 0 on")
    return pixels.astype(np.uint32)


def save_ids(ids: Integer[np.ndarray, "h w"], path: Path, palette: bytes | None = None) -> None:
    """Write numbers as a PNG of 8 or, beyond 255, 16 bits.

    palette   red, green, blue of each of 256 numbers, for eyes alone
    """
    most = int(ids.max(initial=0))
    assert most < 1 << 16, "an image has fewer objects"
    image = Image.fromarray(ids.astype(np.uint8 if most < 1 << 8 else np.uint16))
    if palette is not None and most < 1 << 8:
        image = Image.fromarray(ids.astype(np.uint8), "P")
        image.putpalette(palette)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as draft:
        image.save(draft, format="PNG")


def open_pair(image: Path, mask: Path, faults: Faults) -> UInt32[np.ndarray, "h w"] | None:
    """The numbers of an image's pixels. Where they cannot be read or have another size, that is reported instead.

    A mask of the size before EXIF rotation was drawn on those pixels, and is taken as such.
    """
    try:
        return open_fitting(mask, probe(image), image.name, faults)
    except (OSError, ValueError) as error:
        faults.add(BAD_MASK, mask.name, str(error))
        return None


def open_fitting(mask: Path, header: Header, image: str, faults: Faults) -> UInt32[np.ndarray, "h w"] | None:
    """The same of an image whose header is known."""
    try:
        ids = read_ids(mask)
    except (OSError, ValueError) as error:
        faults.add(BAD_MASK, mask.name, str(error))
        return None
    if ids.shape not in (header.size, header.stored_size):
        sentence = f"{mask} has (height, width) {ids.shape}, its image {image} {header.size}; save both of one size"
        faults.add(OTHER_SIZE, mask.name, sentence)
        return None
    return ids


def outlines_of_ids(ids: Integer[np.ndarray, "h w"], background: int = 0) -> list[tuple[int, Rings]]:
    """Each id but the background's with the outline of its pixels, in ascending order."""
    found = []
    for id, mask, (top, left) in masks_of_ids(ids, background):
        rings = rings_from_bitmap(mask)
        found.append((id, Rings(rings.points + np.array([left, top], np.float32), rings.first)))
    return found
