"""MindSpore's .ckpt files, one protobuf message of named tensors, read and written without MindSpore or protobuf.

    Checkpoint   1 value, repeated
    value        1 tag (text)          2 tensor            3 map tensor (an embedding table, refused here)
    tensor       1 dims, repeated      2 type (text)       3 content (bytes, row by row, little-endian)

A tensor above 512 MiB is cut into slices: consecutive values with the same tag, dims and type. Versions before 2.0
give a scalar the dims [0]. The file may end with a CRC-32 of everything before.
"""

import math
import os
import zlib
from collections.abc import Iterator, Mapping
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from maskrcnn.files import atomic_write

TYPES = {
    "Float32": torch.float32,
    "Float16": torch.float16,
    "BFloat16": torch.bfloat16,
    "Float64": torch.float64,
    "Int8": torch.int8,
    "Int16": torch.int16,
    "Int32": torch.int32,
    "Int64": torch.int64,
    "UInt8": torch.uint8,
    "UInt16": torch.uint16,
    "UInt32": torch.uint32,
    "UInt64": torch.uint64,
    "Bool": torch.bool,
}
NAMES = {dtype: name for name, dtype in TYPES.items()}
TEXT = "str"
"""Type of a note of the training run, in UTF-32."""
SLICE = 512 * 2**20
"""Largest content of one value in bytes, as in MindSpore."""
ENCRYPTED = tuple(bytes((first, 0x5E, 0x3A, 0x7F)) for first in (0xD8, 0xD9, 0xDA))
"""First bytes of files that are encrypted with AES-GCM, AES-CBC or SM4-CBC."""
SEAL, SEAL_DIGITS = b"crc_num", 10
LONGEST_TAG, LONGEST_TYPE, MOST_DIMS = 65535, 64, 64
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def read_ckpt(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint by name, in the order of the file. Text is left out.

    Every length is compared with the file before memory is allocated, and a CRC is checked where there is one.
    Raises FileNotFoundError where there is no file, ValueError where it is not a complete, plain checkpoint.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"no file {path} (working directory {Path.cwd()}); give the path of a .ckpt file")
    with path.open("rb") as stream:
        reader = _Reader(stream, path)
        values = _grouped(reader, reader.end())
        if not values:
            raise ValueError(f"{path} holds no tensors; expected a MindSpore checkpoint, copy it again")
        return {tag: _tensor(reader, slices) for tag, slices in values.items() if slices[0].type != TEXT}


def write_ckpt(path: str | Path, tensors: Mapping[str, Tensor]) -> Path:
    """Write tensors byte for byte as MindSpore would, replacing an earlier file.

    The file is written and synced beside `path` and then renamed: a crash leaves the earlier one or the new one.
    Raises ValueError, before anything is written, for no tensors, and for names and types that MindSpore lacks.
    """
    path = Path(path).expanduser()
    headers = [(_encode(name), _type(name, tensor), tensor) for name, tensor in tensors.items()]
    if not headers:
        raise ValueError(f"{path}: expected tensors to write, received none")
    with atomic_write(path, synced=True) as draft, draft.open("wb") as stream:
        for tag, kind, tensor in headers:
            content = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8)
            for part in content.split(SLICE) if content.numel() else (content,):
                stream.write(_header(tag, tensor.shape, kind, len(part)))
                stream.write(part.numpy().data)
    return path


class _Slice(NamedTuple):
    """A value: a tensor or a part of one, whose content is in the file."""

    tag: str
    dims: tuple[int, ...]
    type: str
    start: int
    length: int


class _Reader:
    """Fields of a file's messages: each is checked to fit into what holds it, and read only when asked for."""

    def __init__(self, stream: BufferedReader, path: Path) -> None:
        self.stream, self.path = stream, path

    def fault(self, expected: str, found: str, at: int | None = None) -> ValueError:
        offset = self.stream.tell() if at is None else at
        return ValueError(
            f"{self.path}, byte {offset}: expected {expected}, found {found}; "
            "it is not a complete MindSpore checkpoint, copy it again"
        )

    def end(self) -> int:
        """Find the end of the message, where a CRC may begin, and go back to the start of the file."""
        start = self.stream.read(4)
        if start in ENCRYPTED:
            raise ValueError(f"{self.path} is encrypted; load it in MindSpore with its key and save it without one")
        size = self.stream.seek(0, os.SEEK_END)
        end = max(size - len(SEAL) - SEAL_DIGITS, 0)
        self.stream.seek(end)
        seal = self.stream.read()
        self.stream.seek(0)
        if not seal.startswith(SEAL) or len(seal) < len(SEAL) + SEAL_DIGITS:
            return size
        expected, found, left = int.from_bytes(seal[len(SEAL) :], "big"), 0, end
        while left:
            block = self.stream.read(min(left, 2**20))
            found, left = zlib.crc32(block, found), left - len(block)
        if found != expected:
            raise self.fault(f"CRC-32 {expected:08x} of the {end} bytes before", f"{found:08x}", at=end)
        self.stream.seek(0)
        return end

    def fields(self, end: int) -> Iterator[tuple[int, int, int]]:
        """Yield (number, kind, value) of each field before `end`; a value, unless a varint, is a length from here."""
        while self.stream.tell() < end:
            at = self.stream.tell()
            key = self.varint(end)
            number, kind = key >> 3, key & 7
            if not number or kind not in (VARINT, FIXED64, BYTES, FIXED32):
                raise self.fault("a protobuf field", f"number {number} of kind {kind}", at)
            value = {FIXED64: 8, FIXED32: 4}.get(kind) or self.varint(end)
            after = self.stream.tell() + (0 if kind == VARINT else value)
            if after > end:
                raise self.fault(f"{value} bytes of field {number}", f"{end - self.stream.tell()}")
            yield number, kind, value
            self.stream.seek(after)

    def varint(self, end: int) -> int:
        value, at = 0, self.stream.tell()
        for shift in range(0, 70, 7):
            byte = self.stream.read(1)
            if not byte or at + shift // 7 >= end:
                raise self.fault("a number", "the end", at)
            value |= (byte[0] & 127) << shift
            if byte[0] < 128:
                break
        else:
            raise self.fault("a number of at most 10 bytes", "more", at)
        if value >= 2**64:
            raise self.fault("a number of at most 64 bits", f"{value}", at)
        return value

    def text(self, length: int, longest: int) -> str:
        at = self.stream.tell()
        if length > longest:
            raise self.fault(f"text of at most {longest} bytes", f"{length}")
        try:
            return self.stream.read(length).decode()
        except UnicodeDecodeError:
            raise self.fault("text in UTF-8", "other bytes", at) from None


def _grouped(reader: _Reader, end: int) -> dict[str, list[_Slice]]:
    values: dict[str, list[_Slice]] = {}
    last = None
    for number, kind, length in reader.fields(end):
        if (number, kind) != (1, BYTES):
            continue
        at = reader.stream.tell()
        value = _value(reader, at + length)
        if value.tag != last:
            if value.tag in values:
                raise reader.fault("each name once", f"{value.tag!r} again", at)
            values[value.tag] = []
        elif value[:3] != values[value.tag][0][:3]:
            raise reader.fault(f"slices of {value.tag!r} with the same dims and type", "others", at)
        values[value.tag].append(value)
        last = value.tag
    return values


def _value(reader: _Reader, end: int) -> _Slice:
    at, tag, found = reader.stream.tell(), None, None
    for number, kind, length in reader.fields(end):
        if (number, kind) == (1, BYTES):
            tag = reader.text(length, LONGEST_TAG)
        elif (number, kind) == (2, BYTES):
            found = _content(reader, reader.stream.tell() + length)
        elif (number, kind) == (3, BYTES):
            raise ValueError(
                f"{reader.path}, byte {at}: {tag!r} is a map parameter, which no Mask R-CNN has; expected a tensor"
            )
    if tag is None or found is None:
        raise reader.fault("a tag and a tensor", "a value without " + ("tag" if tag is None else "tensor"), at)
    return _Slice(tag, *found)


def _content(reader: _Reader, end: int) -> tuple[tuple[int, ...], str, int, int]:
    """Read dims, type, start and length of a tensor."""
    at, dims, name, span = reader.stream.tell(), list[int](), None, None
    for number, kind, value in reader.fields(end):
        if (number, kind) == (1, VARINT):
            dims.append(value)
        elif (number, kind) == (1, BYTES):  # newer protobuf packs all of them into one field
            last = reader.stream.tell() + value
            while reader.stream.tell() < last and len(dims) <= MOST_DIMS:
                dims.append(reader.varint(last))
        elif (number, kind) == (2, BYTES):
            name = reader.text(value, LONGEST_TYPE)
        elif (number, kind) == (3, BYTES):
            span = reader.stream.tell(), value
        if len(dims) > MOST_DIMS:
            raise reader.fault(f"at most {MOST_DIMS} dims", "more", at)
    if name is None or span is None:
        raise reader.fault("a type and a content", "a tensor without " + ("type" if name is None else "content"), at)
    return tuple(dims), name.replace("Uint", "UInt"), *span


def _tensor(reader: _Reader, slices: list[_Slice]) -> Tensor:
    tag, dims, name, start, _ = slices[0]
    dtype, total = TYPES.get(name), sum(part.length for part in slices)
    if dtype is None:
        raise reader.fault(f"{tag!r} of type " + ", ".join(TYPES), repr(name), start)
    if any(side >= 2**63 for side in dims) or math.prod(max(side, 1) for side in dims) >= 2**58:
        raise reader.fault(f"sides of {tag!r} that memory can hold", _sides(dims), start)
    if dims == (0,) and total == dtype.itemsize:
        dims = ()
    expected = math.prod(dims) * dtype.itemsize
    if total != expected:
        raise reader.fault(f"{expected} bytes of {tag!r} ({_sides(dims)} of {name})", str(total), start)
    content = torch.empty(total, dtype=torch.uint8)
    at = 0
    for part in slices:
        reader.stream.seek(part.start)
        got = reader.stream.readinto(content[at : at + part.length].numpy().data)
        if got != part.length:
            raise reader.fault(f"{part.length} bytes of {tag!r}", f"{got}: the file has just become shorter")
        at += part.length
    return (content.ne(0) if dtype == torch.bool else content.view(dtype)).view(dims)


def _type(name: str, tensor: Tensor) -> bytes:
    if tensor.dtype not in NAMES:
        raise ValueError(f"{name}: expected one of {', '.join(map(str, NAMES))}, received {tensor.dtype}; convert it")
    return NAMES[tensor.dtype].encode()


def _encode(name: str) -> bytes:
    try:
        tag = name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"expected names that are Unicode text, received {name!r}") from None
    if len(tag) > LONGEST_TAG:
        raise ValueError(f"expected names of at most {LONGEST_TAG} bytes, received {len(tag)}: {name[:40]}...")
    return tag


def _header(tag: bytes, dims: tuple[int, ...], name: bytes, length: int) -> bytes:
    """Encode all bytes of a value before its content."""
    tensor = b"".join(b"\x08" + _varint(side) for side in dims) + b"\x12" + _varint(len(name)) + name
    tensor += b"\x1a" + _varint(length)
    value = b"\x0a" + _varint(len(tag)) + tag + b"\x12" + _varint(len(tensor) + length) + tensor
    return b"\x0a" + _varint(len(value) + length) + value


def _varint(value: int) -> bytes:
    """Encode seven bits per byte, lowest first; all bytes but the last have their top bit set."""
    digits = bytearray()
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes((*digits, value))


def _sides(dims: tuple[int, ...]) -> str:
    return " x ".join(map(str, dims)) or "a scalar"
