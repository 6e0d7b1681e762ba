"""Files that hold several images: TIFF stacks and animations, decoded one page after the other."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader, BytesIO
from itertools import count
from pathlib import Path

from PIL import Image

from maskrcnn.data.decode import BYTES, decode_bytes, mapped, open_rasters
from maskrcnn.data.header import Header, header_of
from maskrcnn.data.image_file import BLANK, BLANK_SHARE, has_pages, most_pixels, open_image, refuse_absurd
from maskrcnn.data.levels import Levels, Pixels
from maskrcnn.data.oddities import Oddities
from maskrcnn.data.raw import Opened, pixels_of
from maskrcnn.storage.location import Location

KIND_OF_PAGE = 254
"""TIFF's tag that marks a page as a smaller copy of another, or as its mask."""
NOT_OF_ITS_OWN = 0b101
BLANK_PAGES = 4 * BLANK
"""Pixels in a byte of an animation, which only says what changes; more are refused where they are very many."""
JPEG = b"\xff\xd8"
"""First bytes of a JPEG: what follows a photo in its file is its preview or its depth, and no page."""


@dataclass(frozen=True)
class Page:
    """An image by its file, and by its number where the file holds several."""

    path: Path | Location
    number: int = 0
    """From 1; 0 is the only image of its file."""

    def __str__(self) -> str:
        """How messages name it.

        >>> str(Page(Path("stack.tif"), 2)), str(Page(Path("a.jpg")))
        ('stack.tif, page 2', 'a.jpg')
        """
        return f"{self.path}, page {self.number}" if self.number else str(self.path)


def pages(
    file: BytesIO | BufferedReader, path: Path | Location, oddities: Oddities, *, levels: Levels = BYTES
) -> Iterator[tuple[Page, Pixels]]:
    """Yield each image of a file, whole and upright as `decode` gives it, decoded when it is asked for.

    levels     bands and levels that the recipe expects
    oddities   are told what the images have
    Raises ValueError, which names file and page: none after that one comes. Only pages that are asked for take room.
    """
    head = file.read(len(JPEG))
    if head == JPEG:
        data = head + file.read()
        yield Page(path), decode_bytes(data, path, max_rowsize=None, levels=levels, oddities=oddities)
        return
    num_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    is_ours = False
    for number, raster in open_rasters(file, path):
        is_ours = True
        yield _decoded(raster, Page(path, number if raster.header.has_pages else 0), raster.header, oddities, levels)
    if is_ours:
        return
    with open_image(file, path) as image:
        in_all = 0
        for page in _of_their_own(image, path) if has_pages(image) else [Page(path)]:
            refuse_absurd(image, page, num_bytes)
            in_all += image.width * image.height
            if in_all > BLANK_SHARE * most_pixels() and in_all > BLANK_PAGES * num_bytes:
                raise ValueError(
                    f"the image {page} and those before it have {in_all} pixels, more than the {num_bytes} bytes of "
                    "the file can hold; save the pages that matter by themselves"
                )
            yield _decoded(image, page, header_of(image), oddities, levels)


def _decoded(image: Opened, page: Page, header: Header, oddities: Oddities, levels: Levels) -> tuple[Page, Pixels]:
    """A page with its levels, of which the oddities are told."""
    raw, share = pixels_of(image, page, header, math.inf, levels)
    oddities.add(page, share=share if levels.kind == "full" else 1.0, bits=header.bits)
    return page, mapped(raw, page, levels)


def _of_their_own(image: Image.Image, path: Path | Location) -> Iterator[Page]:
    """Yield the pages of a file while the image is at each, numbered as they lie in it."""
    for index in count():
        try:
            image.seek(index)
        except EOFError:
            return
        except Exception as error:  # decoders raise whatever a broken file leads them to
            page = Page(path, index + 1)
            raise ValueError(f"the image {page} cannot be decoded ({error}); restore or remove it") from error
        if not getattr(image, "tag_v2", {}).get(KIND_OF_PAGE, 0) & NOT_OF_ITS_OWN:
            yield Page(path, index + 1)
