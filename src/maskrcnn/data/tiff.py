"""TIFF images whose numbers are deeper than 8 bits or whose bands are not gray or RGB: what Pillow cuts or refuses.

Strips and tiles, bands interleaved or one plane after the other, classic and BigTIFF; whatever decompressor works on
bytes. Adobe's TIFF 6.0 (1992) and its technical notes on predictors (1995, 2005).
"""

import os
import zlib
from collections.abc import Iterator
from io import BufferedReader, BytesIO
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

from maskrcnn.data.header import UPRIGHT, Header
from maskrcnn.data.image_file import HARMLESS, LONGEST_SIDE, refuse_size
from maskrcnn.data.raster import Raster
from maskrcnn.storage.location import Location

MARKS = (b"II*\0", b"MM\0*", b"II+\0")
NEW_SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER = 254, 256, 257, 258, 259, 262, 266
STRIPS, ORIENTATION, NUM_BANDS, ROWS_PER_STRIP, STRIP_BYTES, PLANAR, PREDICTOR = 273, 274, 277, 278, 279, 284, 317
TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES, EXTRA, SAMPLE_FORMAT = 322, 323, 324, 325, 338, 339
KINDS = {1: "u", 2: "i", 3: "f"}
"""Kinds of numbers by their sample format."""
PLAIN, DEFLATE = 1, (8, 32946)
BYTEWISE = (PLAIN, *DEFLATE, 5, 32773, 34925, 50000)
"""Compressions of bytes: none, deflate, LZW, PackBits, LZMA and Zstandard."""
NOT_OF_ITS_OWN = 0b101
"""Bits of a page that is a smaller copy of another, or its mask."""
MOST_PAGES = 100_000
"""Pages that are looked at."""
TAG_ROOM = 1 << 26
"""Bytes that the tags of all pages may have besides those of the file: pages of a bomb share one long tag."""


class Layout(NamedTuple):
    """How the numbers of an image lie in its file."""

    size: tuple[int, int]
    """(height, width) as stored."""
    num_bands: int
    dtype: np.dtype
    """With the file's order of bytes."""
    block: tuple[int, int]
    """(height, width) of a strip or tile."""
    is_tiled: bool
    is_planar: bool
    """Whether each band lies by itself."""
    offsets: tuple[int, ...]
    counts: tuple[int, ...]
    """Where each block begins in the file, and its bytes there: all of the first band's, then the next's."""
    compression: int
    predictor: int


def is_tiff(head: bytes) -> bool:
    """Whether a file begins as a TIFF."""
    return head.startswith(MARKS)


def open_tiff(file: BytesIO | BufferedReader, path: Path | Location) -> Iterator[tuple[int, Raster]]:
    """Yield the pages of a file with their numbers from 1, without copies and masks; none where Pillow reads the first.

    Raises ValueError, which names `path`, where a page states what no file holds, or is of a kind that Pillow reads.
    """
    kept = [number for number, tags in enumerate(_directories(file, path), 1) if not _is_copy(tags)]
    num_bytes = file.seek(0, os.SEEK_END)
    for number, tags in enumerate(_directories(file, path), 1) if kept else ():
        if _is_copy(tags):
            continue
        if not _is_ours(tags):
            if number == kept[0]:
                return
            raise ValueError(f"the image {path} has 8 bits on page {number} and more before; save it as two files")
        yield number, _raster(file, tags, _layout(tags, path, num_bytes), has_pages=len(kept) > 1)


def _is_copy(tags: Any) -> bool:
    """Whether a page is a smaller copy of another, or its mask."""
    return bool(tags.get(NEW_SUBFILE, 0) & NOT_OF_ITS_OWN)


class _Metered:
    """A file of which only so much is read."""

    def __init__(self, file: BytesIO | BufferedReader) -> None:
        self._file = file
        self._left = file.seek(0, os.SEEK_END) + TAG_ROOM
        self.seek, self.tell = file.seek, file.tell

    def read(self, number: int) -> bytes:
        """Bytes from where the file is. Raises _Spent where more were read than a file needs."""
        self._left -= number
        if self._left < 0:
            raise _Spent
        return self._file.read(number)


class _Spent(Exception):
    """More was read than the tags of a file can be."""


def _directories(file: BytesIO | BufferedReader, path: Path | Location) -> Iterator[Any]:
    """The tags of each page; none where they cannot be read, which Pillow then tells.

    Raises ValueError where their pages never end.
    """
    metered: Any = _Metered(file)
    file.seek(0)
    head = file.read(8)
    head += file.read(8) if head[2:3] == b"+" else b""
    try:
        place, seen = ImageFileDirectory_v2(head).next, set[int]()
        while place and place not in seen:
            seen.add(place)
            if len(seen) > MOST_PAGES:
                raise _Spent
            file.seek(place)
            tags = ImageFileDirectory_v2(head)
            tags.load(metered)
            place = tags.next
            yield tags
    except _Spent:
        raise ValueError(f"the image {path} has pages and tags without end; restore or remove it") from None
    except Exception:  # what a broken directory leads Pillow to, as it says itself when it opens the file
        return


def _is_ours(tags: Any) -> bool:
    """Whether all numbers can be read here, and Pillow would lose some."""
    bits, kinds = set(tags.get(BITS, (1,))), set(tags.get(SAMPLE_FORMAT, (1,)))
    if len(bits) > 1 or len(kinds) > 1 or not kinds <= KINDS.keys() or tags.get(FILL_ORDER, 1) != 1:
        return False
    if tags.get(COMPRESSION, PLAIN) not in BYTEWISE or tags.get(PHOTOMETRIC, 1) not in (0, 1, 2):
        return False
    depth = min(bits)
    return depth in (16, 32, 64) or (depth == 8 and (kinds != {1} or _num_colours(tags) not in (1, 3)))


def _num_colours(tags: Any) -> int:
    """Number of bands without a matte: an extra one of which nobody says that it is one is a band."""
    return int(tags.get(NUM_BANDS, 1)) - sum(kind in (1, 2) for kind in tags.get(EXTRA, ()))


def _layout(tags: Any, path: Path | Location, num_bytes: int) -> Layout:
    size, num_bands = (int(tags.get(HEIGHT, 0)), int(tags.get(WIDTH, 0))), int(tags.get(NUM_BANDS, 1))
    dtype = np.dtype(f"{KINDS[tags.get(SAMPLE_FORMAT, (1,))[0]]}{tags.get(BITS, (1,))[0] // 8}")
    refuse_size(size, "TIFF", num_bytes, path, bytes_per_pixel=num_bands * dtype.itemsize)
    is_tiled, is_planar = TILES in tags, tags.get(PLANAR, 1) == 2 and num_bands > 1
    rows, columns = (TILE_HEIGHT, TILE_WIDTH) if is_tiled else (ROWS_PER_STRIP, WIDTH)
    block = min(int(tags.get(rows, size[0])), LONGEST_SIDE), min(int(tags.get(columns, size[1])), LONGEST_SIDE)
    block = block if is_tiled else (min(block[0], size[0]), size[1])
    offsets, counts = (tags.get(tag, ()) for tag in ((TILES, TILE_BYTES) if is_tiled else (STRIPS, STRIP_BYTES)))
    layout = Layout(
        size=size,
        num_bands=num_bands,
        dtype=dtype.newbyteorder("<" if tags.prefix == b"II" else ">"),
        block=block,
        is_tiled=is_tiled,
        is_planar=is_planar,
        offsets=tuple(offsets),
        counts=tuple(counts),
        compression=tags.get(COMPRESSION, PLAIN),
        predictor=tags.get(PREDICTOR, 1),
    )
    if not min(block) or len(layout.offsets) < _num_blocks(layout) or len(offsets) != len(counts):
        raise ValueError(f"the image {path} does not say where all of its pixels are; restore or remove it")
    if block[0] * block[1] > 4 * max(HARMLESS, size[0] * size[1]) or sum(counts) > 4 * num_bytes + HARMLESS:
        raise ValueError(f"the image {path} keeps its pixels in blocks larger than it is; restore or remove it")
    return layout


def _num_blocks(layout: Layout) -> int:
    across, down = (-(-side // step) for side, step in zip(layout.size, layout.block, strict=True))
    return across * down * (layout.num_bands if layout.is_planar else 1)


def _raster(file: BytesIO | BufferedReader, tags: Any, layout: Layout, *, has_pages: bool) -> Raster:
    orientation = tags.get(ORIENTATION, 1)
    orientation = orientation if orientation in UPRIGHT else 1
    upright = layout.size[::-1] if orientation >= 5 else layout.size
    bits = 8 * layout.dtype.itemsize
    header = Header(upright, layout.size, orientation, bits, layout.num_bands, "TIFF", has_pages)
    is_rgb = tags.get(PHOTOMETRIC, 1) == 2 and layout.num_bands >= 3
    return Raster(header, _num_colours(tags), is_rgb, lambda: read(file, layout))


def read(file: BytesIO | BufferedReader, layout: Layout) -> Shaped[np.ndarray, "h w C"]:
    """The numbers of an image as they are stored. Raises ValueError where its blocks are cut off or broken.

    Blocks of which the file holds nothing, as sparse files have, are zero.
    """
    image = np.zeros((*layout.size, layout.num_bands), layout.dtype.newbyteorder("="))
    num_bytes = file.seek(0, os.SEEK_END)
    for (plane, top, left), offset, count in zip(_places(layout), layout.offsets, layout.counts, strict=False):
        if not count:
            continue
        if offset + count > num_bytes:
            raise ValueError(f"it is cut off: {num_bytes} bytes, where pixels lie up to {offset + count}")
        file.seek(offset)
        bands = slice(plane, plane + 1) if layout.is_planar else slice(None)
        target = image[top : top + layout.block[0], left : left + layout.block[1], bands]
        rows = layout.block[0] if layout.is_tiled else len(target)
        block = _numbers(file.read(count), layout, rows)
        target[:] = block[: target.shape[0], : target.shape[1]]
    return image


def _places(layout: Layout) -> Iterator[tuple[int, int, int]]:
    """(plane, top, left) of each block, in the order of the file's list."""
    planes = range(layout.num_bands if layout.is_planar else 1)
    (height, width), (rows, columns) = layout.size, layout.block
    return product(planes, range(0, height, rows), range(0, width, columns))


def _numbers(data: bytes, layout: Layout, rows: int) -> Shaped[np.ndarray, "r c C"]:
    """A block's numbers from its compressed bytes."""
    shape = rows, layout.block[1], 1 if layout.is_planar else layout.num_bands
    row_bytes = shape[1] * shape[2] * layout.dtype.itemsize
    plain = _decompressed(data, layout.compression, rows, row_bytes)
    if layout.predictor == 3:
        return _floats(plain, shape, layout.dtype.itemsize)
    numbers = plain.view(layout.dtype).reshape(shape).astype(layout.dtype.newbyteorder("="))
    if layout.predictor == 2:
        whole = numbers.view(f"u{layout.dtype.itemsize}")
        np.cumsum(whole, axis=1, dtype=whole.dtype, out=whole)  # sums run over, as differences did
    return numbers


def _decompressed(data: bytes, compression: int, rows: int, row_bytes: int) -> UInt8[np.ndarray, " n"]:
    expected = rows * row_bytes
    if compression in DEFLATE:
        data = zlib.decompressobj().decompress(data, expected)
    elif compression != PLAIN:
        data = _of_library(data, compression, rows, row_bytes)
    if len(data) < expected:
        raise ValueError(f"it is cut off: a block has {len(data)} of {expected} bytes")
    return np.frombuffer(bytearray(data[:expected]), np.uint8)


def _of_library(data: bytes, compression: int, rows: int, row_bytes: int) -> bytes:
    """Have Pillow's libtiff decompress a block: in a file in which its bytes are the pixels of a gray image."""
    tags = ImageFileDirectory_v2()
    values = {WIDTH: row_bytes, HEIGHT: rows, BITS: (8,), COMPRESSION: compression, PHOTOMETRIC: 1, NUM_BANDS: 1}
    for tag, value in {**values, ROWS_PER_STRIP: rows, STRIPS: 0, STRIP_BYTES: len(data)}.items():
        tags[tag] = value
    file = BytesIO()
    tags.save(file)  # Pillow places the strip behind the directory, whose length tells where
    file.write(data)
    file.seek(0)
    with TiffImageFile(file) as image:
        return image.tobytes()


def _floats(plain: UInt8[np.ndarray, " n"], shape: tuple[int, int, int], itemsize: int) -> Shaped[np.ndarray, "r c C"]:
    """Undo the predictor of floating-point numbers: in a row all first bytes, then all second ones, as differences."""
    rows, columns, bands = shape
    sums = np.cumsum(plain.reshape(rows, -1, bands), axis=1, dtype=np.uint8)
    numbers = sums.reshape(rows, itemsize, columns * bands).transpose(0, 2, 1)
    return np.ascontiguousarray(numbers).view(f">f{itemsize}").reshape(shape).astype(f"f{itemsize}")
