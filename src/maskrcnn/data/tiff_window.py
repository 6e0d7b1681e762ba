"""A window of a large TIFF, as a small TIFF of the tiles or strips that it touches: nothing else is read.

A TIFF, or a BigTIFF, keeps its pixels in blocks that are compressed each by itself. Those that are needed are copied as
they are behind a new header, so whatever opens TIFF files opens the small one, with the same pixels.
"""

import struct
from collections.abc import Iterator
from io import BufferedReader, BytesIO
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

WIDTH, LENGTH, COMPRESSION, ORIENTATION, SAMPLES, ROWS_PER_STRIP, PLANES = 256, 257, 259, 274, 277, 278, 284
STRIPS, TILES = (273, 279), (324, 325)
"""Tags of where blocks lie, and how many bytes each has."""
TILE_WIDTH, TILE_LENGTH = 322, 323
KIND, NOT_OF_ITS_OWN = 254, 0b101
"""Tag, and its bits, that mark an image as a smaller copy of another, or as its mask."""
COPIED = {258, 259, 262, 266, 277, 278, 284, 292, 293, 317, 320, 322, 323, 338, 339, 347, 529, 530, 531, 532}
"""Tags that say how the numbers of a block become pixels."""
OLD_JPEG = 6
"""Compression whose blocks cannot be read without the rest of the file."""
FORMATS = {1: "B", 2: "B", 3: "H", 4: "L", 5: "LL", 6: "b", 7: "B", 8: "h", 9: "l", 10: "ll", 11: "f", 12: "d"}
FORMATS |= {13: "L", 16: "Q", 17: "q", 18: "Q"}
"""How each type of number is packed, as `struct` says it."""
SHORT, LONG = 3, 4
MOST_TAGS = 4096
MOST_COPIES = 64
"""Smaller copies and masks of an image that are looked at; a file with more is read whole."""


class Value(NamedTuple):
    """A tag's content."""

    kind: int
    length: int
    content: bytes


class Header(NamedTuple):
    """What the first image of a TIFF is made of."""

    order: str
    """Order of bytes, as `struct` says it."""
    tags: dict[int, Value]
    is_alone: bool
    """Whether no other image follows but smaller copies of this one, and its masks."""

    def numbers(self, tag: int) -> Int64[np.ndarray, " n"]:
        """The whole numbers of a tag, none where it is missing."""
        value = self.tags.get(tag)
        if value is None:
            return np.zeros(0, np.int64)
        return np.frombuffer(value.content, f"{self.order}u{struct.calcsize('=' + FORMATS[value.kind])}").astype(
            np.int64
        )

    def number(self, tag: int, missing: int) -> int:
        """The first of them."""
        found = self.numbers(tag)
        return int(found[0]) if len(found) else missing

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.number(LENGTH, 0), self.number(WIDTH, 0)

    @property
    def block(self) -> tuple[int, int]:
        """(height, width) of a tile or strip."""
        height, width = self.size
        if TILES[0] in self.tags:
            return self.number(TILE_LENGTH, 0), self.number(TILE_WIDTH, 0)
        return min(self.number(ROWS_PER_STRIP, height), height), width


def read_header(file: BytesIO | BufferedReader) -> Header | None:
    """The header of a TIFF or BigTIFF; None where the file is none, or is damaged."""
    try:
        file.seek(0)
        head = file.read(16)
        order = {b"II": "<", b"MM": ">"}[head[:2]]
        version = struct.unpack(f"{order}H", head[2:4])[0]
        if version not in (42, 43):
            return None
        is_big = version == 43
        place = struct.unpack(f"{order}Q" if is_big else f"{order}L", head[8:16] if is_big else head[4:8])[0]
        tags, following = _directory(file, order, is_big, place)
        return Header(order, tags, _are_copies(file, order, is_big, following))
    except (KeyError, struct.error, OSError, OverflowError, ValueError):
        return None


def _directory(file: BytesIO | BufferedReader, order: str, is_big: bool, place: int) -> tuple[dict[int, Value], int]:
    """The tags of the image whose directory lies at a place, and the place of the next one's; 0 where there is none."""
    file.seek(place)
    number, entry, offset = ("Q", 20, "Q") if is_big else ("H", 12, "L")
    count = struct.unpack(f"{order}{number}", file.read(struct.calcsize(f"={number}")))[0]
    if count > MOST_TAGS:
        raise ValueError("more tags than any TIFF has")
    entries = file.read(count * entry)
    following = struct.unpack(f"{order}{offset}", file.read(struct.calcsize(f"={offset}")))[0]
    return dict(_tags(file, order, is_big, entries)), following


def _are_copies(file: BytesIO | BufferedReader, order: str, is_big: bool, place: int) -> bool:
    """Whether all images from a directory on say that they are copies of another, or its mask."""
    seen = set[int]()
    while place and place not in seen:
        if len(seen) == MOST_COPIES:
            return False
        seen.add(place)
        tags, place = _directory(file, order, is_big, place)
        if not Header(order, tags, True).number(KIND, 0) & NOT_OF_ITS_OWN:
            return False
    return True


def _tags(file: BytesIO | BufferedReader, order: str, is_big: bool, entries: bytes) -> Iterator[tuple[int, Value]]:
    entry, room = (f"{order}HHQ", 8) if is_big else (f"{order}HHL", 4)
    size = struct.calcsize(entry)
    end = room_left = file.seek(0, 2)
    for start in range(0, len(entries), size + room):
        tag, kind, length = struct.unpack(entry, entries[start : start + size])
        content, num_bytes = entries[start + size : start + size + room], length * struct.calcsize("=" + FORMATS[kind])
        room_left -= num_bytes
        if room_left < 0:
            raise ValueError(f"tags longer than the file's {end} bytes")
        if num_bytes > room:
            file.seek(*struct.unpack(f"{order}Q" if is_big else f"{order}L", content))
            content = file.read(num_bytes)
        yield tag, Value(kind, length, content[:num_bytes])


def can_be_cut(header: Header) -> bool:
    """Whether an image has several blocks that can be read each by itself, stands upright, and is the only one."""
    (height, width), (rows, columns) = header.size, header.block
    where, lengths = TILES if TILES[0] in header.tags else STRIPS
    if not (header.is_alone and min(height, width, rows, columns) > 0 and header.number(ORIENTATION, 1) == 1):
        return False
    number = -(-height // rows) * -(-width // columns) * _num_planes(header)
    has_all = len(header.numbers(where)) == len(header.numbers(lengths)) == number
    return has_all and number > _num_planes(header) and header.number(COMPRESSION, 1) != OLD_JPEG


def rows_at_once(header: Header, window: tuple[int, int, int, int], most: int) -> int:
    """Rows of a window, whole blocks high, whose blocks have at most so many pixels together; one block's at least."""
    rows, columns = header.block
    across = columns * (-(-window[2] // columns) - window[0] // columns)
    return rows * max(1, most // max(1, rows * across))


def cut_out(
    file: BytesIO | BufferedReader, header: Header, window: tuple[int, int, int, int]
) -> tuple[bytes, tuple[int, int]]:
    """A TIFF of the blocks that a window (x1, y1, x2, y2) touches, and the (x, y) at which it begins.

    header   of an image that `can_be_cut`
    """
    (height, width), (rows, columns) = header.size, header.block
    across, down = -(-width // columns), -(-height // rows)
    left, top = window[0] // columns, window[1] // rows
    right, bottom = -(-window[2] // columns), -(-window[3] // rows)
    where, lengths = (header.numbers(tag) for tag in (TILES if TILES[0] in header.tags else STRIPS))
    grid = np.arange(len(where)).reshape(_num_planes(header), down, across)
    chosen = grid[:, top:bottom, left:right].ravel()
    blocks = []
    for start, length in zip(where[chosen].tolist(), lengths[chosen].tolist(), strict=True):
        file.seek(start)
        blocks.append(file.read(length))
    size = min(bottom * rows, height) - top * rows, min(right * columns, width) - left * columns
    return _written(header, size, blocks), (left * columns, top * rows)


def _num_planes(header: Header) -> int:
    """Bands that have blocks of their own."""
    return header.number(SAMPLES, 1) if header.number(PLANES, 1) == 2 else 1


def _written(header: Header, size: tuple[int, int], blocks: list[bytes]) -> bytes:
    """A TIFF of some blocks, in the order of bytes that they have."""
    order = header.order
    lengths = [len(block) for block in blocks]
    places = (8 + np.cumsum([0, *(length + length % 2 for length in lengths)])).tolist()
    tags = {tag: value for tag, value in header.tags.items() if tag in COPIED}
    where, how_long = TILES if TILES[0] in header.tags else STRIPS
    own = {LENGTH: [size[0]], WIDTH: [size[1]], where: places[:-1], how_long: lengths}
    tags |= {tag: Value(LONG, len(value), struct.pack(f"{order}{len(value)}L", *value)) for tag, value in own.items()}
    tags = {tag: _narrow(order, value) for tag, value in sorted(tags.items())}
    behind = places[-1] + 2 + 12 * len(tags) + 4
    entries = [struct.pack(f"{order}H", len(tags))]
    rest: list[bytes] = []
    for tag, (kind, count, content) in tags.items():
        room = content.ljust(4, b"\0")
        if len(content) > 4:
            room = struct.pack(f"{order}L", behind + sum(map(len, rest)))
            rest.append(content + b"\0" * (len(content) % 2))
        entries.append(struct.pack(f"{order}HHL", tag, kind, count) + room)
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HL", 42, places[-1])
    padded = (block + b"\0" * (len(block) % 2) for block in blocks)
    return b"".join([head, *padded, *entries, bytes(4), *rest])


def _narrow(order: str, value: Value) -> Value:
    """A number of 64 bits, which a BigTIFF may have anywhere, as one of 32."""
    if value.kind != 16:
        return value
    return Value(LONG, value.length, np.frombuffer(value.content, f"{order}u8").astype(f"{order}u4").tobytes())
