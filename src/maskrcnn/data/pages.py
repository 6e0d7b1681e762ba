"""Files that hold several images: TIFF stacks and animations, decoded one page after the other."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader, BytesIO
from itertools import count
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from maskrcnn.data.decode import RGB, decode_bytes, pixels_of, refuse_bands
from maskrcnn.data.header import header_of
from maskrcnn.data.image_file import has_pages, open_image, refuse_absurd
from maskrcnn.data.oddities import Oddities
from maskrcnn.storage.location import Location

KIND_OF_PAGE = 254
"""TIFF's tag that marks a page as a smaller copy of another, or as its mask."""
NOT_OF_ITS_OWN = 0b101
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
    file: BytesIO | BufferedReader, path: Path | Location, oddities: Oddities, *, num_bands: int = RGB
) -> Iterator[tuple[Page, UInt8[np.ndarray, "h w 3"]]]:
    """Yield each image of a file, whole and upright as `decode` gives it, decoded when it is asked for.

    num_bands   what the recipe expects
    oddities    are told what the images have
    Raises ValueError, which names file and page: none after that one comes. Only pages that are asked for take room.
    """
    head = file.read(len(JPEG))
    if head == JPEG:
        data = head + file.read()
        yield Page(path), decode_bytes(data, path, max_rowsize=None, num_bands=num_bands, oddities=oddities)
        return
    num_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    refuse_bands(path, num_bands)
    with open_image(file, path) as image:
        for page in _of_their_own(image, path) if has_pages(image) else [Page(path)]:
            refuse_absurd(image, page, num_bytes)
            pixels, share = pixels_of(image, page, header_of(image), math.inf)
            oddities.add(page, share=share)
            yield page, pixels


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
