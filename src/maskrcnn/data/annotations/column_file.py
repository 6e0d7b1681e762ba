"""Named arrays and words in one file, which is mapped into memory: all processes share its pages.

The file holds MAGIC, the length of a header, the header in JSON, the arrays, each at a multiple of `ALIGNMENT`, and
the fingerprint of all that, by which a reader knows it to be whole.
"""

import mmap
from collections.abc import Mapping
from io import BufferedIOBase
from os import SEEK_END
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from maskrcnn.data.annotations.fingerprint import SIZE, fingerprint

MAGIC = b"maskrcnn columns"
ALIGNMENT = 64

Value = np.ndarray | tuple[str, ...]


class Column(Struct):
    """Where an array lies."""

    kind: str
    """NumPy's name of its type, byte order included."""
    shape: tuple[int, ...]
    start: int
    """Bytes after the first multiple of `ALIGNMENT` behind the header."""


class Header(Struct):
    columns: dict[str, Column]
    words: dict[str, tuple[str, ...]]


def write(stream: BufferedIOBase, content: Mapping[str, Value]) -> None:
    """Fill an empty file that is open for writing and reading."""
    arrays = {name: np.ascontiguousarray(value) for name, value in content.items() if isinstance(value, np.ndarray)}
    words = {name: value for name, value in content.items() if isinstance(value, tuple)}
    columns, end = {}, 0
    for name, array in arrays.items():
        columns[name] = Column(array.dtype.str, array.shape, end)
        end = _aligned(end + array.nbytes)
    header = msgspec.json.encode(Header(columns, words))
    stream.write(MAGIC + len(header).to_bytes(8, "little") + header)
    for array in arrays.values():
        stream.write(bytes(_aligned(stream.tell()) - stream.tell()))
        stream.write(array.reshape(-1).view(np.uint8).data)
    length = stream.tell()
    stream.seek(0)
    stream.write(fingerprint(stream, length))


def read(stream: BufferedIOBase) -> dict[str, Any]:
    """What `write` was given. Who changes an array changes a copy of its own.

    Raises ValueError where the file is not whole.
    """
    length = stream.seek(0, SEEK_END) - SIZE
    stream.seek(0)
    if length < 0 or fingerprint(stream, length) != stream.read():
        raise ValueError("the file is damaged or cut off")
    mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)  # torch warns of arrays that cannot be written
    first = len(MAGIC) + 8
    stop = first + int.from_bytes(mapped[len(MAGIC) : first], "little")
    header = msgspec.json.decode(mapped[first:stop], type=Header)
    arrays = {
        name: np.ndarray(column.shape, column.kind, mapped, _aligned(stop) + column.start)
        for name, column in header.columns.items()
    }
    return {**arrays, **header.words}


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT
