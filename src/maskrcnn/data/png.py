"""PNG images of 16 bits and several bands, of which Pillow keeps the upper 8 bits.

The format's second edition (ISO/IEC 15948, 2003): sections 9 on filters and 11 on chunks.
"""

import struct
import zlib
from collections.abc import Iterator
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import no_type_check

import numpy as np
from jaxtyping import Shaped

from maskrcnn.data.header import Header, header_of
from maskrcnn.data.image_file import open_image, refuse_size
from maskrcnn.data.raster import Raster
from maskrcnn.kernels import kernel
from maskrcnn.storage.location import Location

MARK = b"\x89PNG\r\n\x1a\n"
BANDS = {2: 3, 4: 2, 6: 4}
"""Bands of a colour type: RGB, gray with alpha, RGB with alpha."""


def is_deep(head: bytes) -> bool:
    """Whether a file begins as such an image: one that is not interlaced, which Pillow reads as 8 bits."""
    return head.startswith(MARK) and len(head) > 28 and head[24] == 16 and head[25] in BANDS and not head[28]


def open_deep(file: BytesIO | BufferedReader, path: Path | Location) -> Raster:
    """A PNG with all 16 bits. Raises ValueError, which names `path`."""
    with open_image(file, path) as image:
        seen = header_of(image)
    file.seek(0)
    data = file.read()
    bands = BANDS[data[25]]
    refuse_size(seen.stored_size, "PNG", len(data), path, bytes_per_pixel=2 * bands)
    header = Header(seen.size, seen.stored_size, seen.orientation, 16, bands, "PNG", seen.has_pages)
    kept = bands if bands == 3 else bands - 1
    return Raster(header, kept, kept == 3, lambda: _read(data, seen.stored_size, bands))


def _read(data: bytes, size: tuple[int, int], bands: int) -> Shaped[np.ndarray, "h w C"]:
    height, row_bytes = size[0], 2 * bands * size[1]
    expected = height * (row_bytes + 1)
    plain = zlib.decompressobj().decompress(b"".join(_parts(data)), expected)
    if len(plain) < expected:
        raise ValueError(f"it is cut off: {len(plain)} of {expected} bytes")
    rows = np.frombuffer(bytearray(plain), np.uint8).reshape(height, row_bytes + 1)
    if rows[:, 0].max() > 4:
        raise ValueError(f"its rows have the filter {rows[:, 0].max()}, but expected are 0 to 4")
    _undo_filters(rows, 2 * bands)
    return np.ascontiguousarray(rows[:, 1:]).view(">u2").reshape(*size, bands).astype(np.uint16)


def _parts(data: bytes) -> Iterator[bytes]:
    """Yield the contents of the chunks that hold pixels."""
    start = len(MARK)
    while start + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, start)
        if name == b"IDAT":
            yield data[start + 8 : start + 8 + length]
        if name == b"IEND":
            return
        start += length + 12


@kernel()
@no_type_check
def _undo_filters(rows, step):
    """Turn differences into bytes, in place: a row begins with its filter, and what is left of it or above is zero."""
    for y in range(len(rows)):
        kind = rows[y, 0]
        for x in range(1, rows.shape[1]):
            left = np.int64(rows[y, x - step]) if x > step else 0
            above = np.int64(rows[y - 1, x]) if y > 0 else 0
            corner = np.int64(rows[y - 1, x - step]) if y > 0 and x > step else 0
            guess = 0
            if kind == 1:
                guess = left
            elif kind == 2:
                guess = above
            elif kind == 3:
                guess = (left + above) // 2
            elif kind == 4:
                near, up, across = abs(above - corner), abs(left - corner), abs(left + above - 2 * corner)
                guess = left if near <= up and near <= across else above if up <= across else corner
            rows[y, x] = (rows[y, x] + guess) & 255
