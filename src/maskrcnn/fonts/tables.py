"""Font files, as far as to know which letters they have: the table directory and `cmap` of OpenType.

Source: OpenType specification 1.9, chapters "OpenType font file" and "cmap". Formats 4 and 12 are read, which every
font for text has; format 13, in which fonts of last resort show one sign for all letters, is left out.
"""

import struct
from collections.abc import Iterator
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64
from numpy import ndarray

UNICODE = {(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (0, 6), (3, 1), (3, 10)}
"""(platform, encoding) of tables whose codes are Unicode."""
OUTLINES, PICTURES = {b"glyf", b"CFF ", b"CFF2"}, {b"CBDT", b"sbix", b"COLR"}
"""Tables of fonts that can be drawn at any size in one colour, and of those made of coloured pictures."""
MOST_FACES, MOST_TABLES, MOST_BYTES = 64, 256, 1 << 24
"""Numbers beyond these are those of a broken file."""


class Face(NamedTuple):
    """One font of a file; a collection holds several."""

    path: Path | None
    """None: the font that comes with Pillow."""
    number: int
    """Its place in the file."""
    cmap: bytes
    """The table that says which glyph each letter has."""

    def lacks(self, letters: str) -> str:
        """Select the letters for which the font has no glyph."""
        return lacking(self.cmap, letters)


def read_faces(path: Path) -> list[Face]:
    """The fonts of a file that can be drawn at any size; none where it is broken or holds pictures."""
    try:
        with path.open("rb") as file:
            return [Face(path, index, cmap) for index, cmap in read_cmaps(file)]
    except (OSError, struct.error):
        return []


def read_cmaps(file: BufferedReader | BytesIO) -> Iterator[tuple[int, bytes]]:
    """(index of a font, its `cmap`) for each font of a file. Raises struct.error where the file ends too soon."""
    offsets = [0]
    if file.read(4) == b"ttcf":
        (count,) = struct.unpack(">4xI", file.read(8))
        offsets = list(struct.unpack(f">{min(count, MOST_FACES)}I", file.read(4 * min(count, MOST_FACES))))
    for index, offset in enumerate(offsets):
        file.seek(offset)
        kind, count = struct.unpack(">4sH6x", file.read(12))
        if kind not in (b"\0\1\0\0", b"OTTO", b"true") or count > MOST_TABLES:
            continue
        rows = [struct.unpack(">4s4xII", file.read(16)) for _ in range(count)]
        tables = {name: (start, length) for name, start, length in rows}
        if b"cmap" in tables and OUTLINES & tables.keys() and not PICTURES & tables.keys():
            start, length = tables[b"cmap"]
            file.seek(start)
            yield index, file.read(min(length, MOST_BYTES))


def lacking(cmap: bytes, letters: str) -> str:
    """Select the letters for which a `cmap` names no glyph: all of them where it is broken."""
    codes = np.array([ord(letter) for letter in letters], np.int64)
    found = np.zeros(len(codes), bool)
    try:
        for table in _unicode_tables(cmap):
            found |= _glyphs(table, codes) != 0
    except (struct.error, ValueError, IndexError):
        pass
    return "".join(letter for letter, has in zip(letters, found.tolist(), strict=True) if not has)


def _unicode_tables(cmap: bytes) -> Iterator[bytes]:
    (count,) = struct.unpack_from(">2xH", cmap)
    for number in range(min(count, MOST_TABLES)):
        platform, encoding, offset = struct.unpack_from(">HHI", cmap, 4 + 8 * number)
        if (platform, encoding) in UNICODE:
            yield cmap[offset:]


def _glyphs(table: bytes, codes: Int64[ndarray, " n"]) -> Int64[ndarray, " n"]:
    """The glyph of each code, 0 where there is none."""
    (kind,) = struct.unpack_from(">H", table)
    if kind == 4:
        return _glyphs_of_segments(table, codes)
    return _glyphs_of_groups(table, codes) if kind == 12 else np.zeros_like(codes)


def _glyphs_of_segments(table: bytes, codes: Int64[ndarray, " n"]) -> Int64[ndarray, " n"]:
    """Format 4: four columns of 16-bit numbers, then glyphs that the last column's offsets lead to."""
    words = np.frombuffer(table[: len(table) & ~1], ">u2").astype(np.int64)
    count = int(words[3]) // 2
    ends, starts = words[7 : 7 + count], words[8 + count : 8 + 2 * count]
    deltas, offsets = words[8 + 2 * count : 8 + 3 * count], words[8 + 3 * count : 8 + 4 * count]
    segments = np.minimum(np.searchsorted(ends, codes), count - 1)
    inside = (codes >= starts[segments]) & (codes <= ends[segments])
    offset = offsets[segments]
    places = 8 + 3 * count + segments + offset // 2 + codes - starts[segments]
    listed = words[np.where(inside & (offset > 0), places, 0)]
    glyphs = np.where(offset > 0, listed, codes) + deltas[segments]
    glyphs[(offset > 0) & (listed == 0)] = 0
    return np.where(inside, glyphs & 0xFFFF, 0)


def _glyphs_of_groups(table: bytes, codes: Int64[ndarray, " n"]) -> Int64[ndarray, " n"]:
    """Format 12: groups of (first code, last code, glyph of the first)."""
    (count,) = struct.unpack_from(">12xI", table)
    groups = np.frombuffer(table, ">u4", 3 * count, 16).astype(np.int64).reshape(-1, 3)
    if not count:
        return np.zeros_like(codes)
    first, last, glyph = groups[np.maximum(np.searchsorted(groups[:, 0], codes, side="right") - 1, 0)].T
    return np.where((codes >= first) & (codes <= last), glyph + codes - first, 0)
