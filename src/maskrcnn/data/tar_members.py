"""Images in tar files, read where they lie: `train-0003.tar/000012.jpg` is a path, and nothing is unpacked."""

import hashlib
import os
import tarfile
import time
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import numpy as np
from jaxtyping import Int64

from maskrcnn.data.annotations.annotation_cache import folder, load_columns, save
from maskrcnn.data.annotations.fingerprint import SETTLED
from maskrcnn.data.annotations.names import Names
from maskrcnn.data.formats.archive import DAMAGED, ERRORS, LARGEST_HEADER, MOST_FILES, STARTS, inner_path
from maskrcnn.storage.fetch import fetch_file
from maskrcnn.storage.location import Location
from maskrcnn.storage.store import endpoint

TAR = ".tar"
BLOCK = tarfile.BLOCKSIZE
FORMAT = 1
"""To be raised whenever the same tar leads to another index."""
SMALL = 1 << 22
"""Bytes of a tar whose headers are read as quickly as an entry of the cache would be found."""
MOST_OPEN = 1 << 16
"""Tars whose index is kept in memory: each takes some 50 bytes a member."""
LINK = "a link or a device"
SPARSE = "a file with holes"

Identity = tuple[int, int, int, int]
"""What tells a file from another of its name: inode, bytes, nanoseconds of its last changes."""


class Member(NamedTuple):
    """A file in a tar."""

    name: str
    """With `/`, without `.` and `..`."""
    offset: int
    """Bytes before its content."""
    size: int
    """Bytes of its content."""


class Index(NamedTuple):
    """All files of a tar, in the order of their names."""

    names: Names
    offsets: Int64[np.ndarray, " n"]
    sizes: Int64[np.ndarray, " n"]

    def find(self, name: str) -> Member | None:
        """The member of a name."""
        place = bisect_left(self.names, name)
        if place == len(self.names) or self.names[place] != name:
            return None
        return self.at(place)

    def at(self, place: int) -> Member:
        """A member by its place among the sorted names."""
        return Member(self.names[place], int(self.offsets[place]), int(self.sizes[place]))

    def in_order(self) -> list[Member]:
        """All members, as they lie in the tar."""
        return [self.at(place) for place in np.argsort(self.offsets, kind="stable").tolist()]


def tar_of(path: Path) -> tuple[Path, str] | None:
    """The tar that a path leads into, and the name there; None for a path that leads into none.

    >>> tar_of(Path("somewhere/000012.jpg"))
    """
    if f"{TAR}{os.sep}" not in str(path).lower():
        return None
    found = next((one for one in path.parents if one.suffix.lower() == TAR and one.is_file()), None)
    return None if found is None else (found, path.relative_to(found).as_posix())


def far_tar_of(location: Location) -> tuple[Location, str] | None:
    """The tar in a store that an address leads into, and the name there; None for one that leads into none."""
    parts = location.key.split("/")
    place = next((place for place, part in enumerate(parts[:-1]) if part.lower().endswith(TAR)), None)
    if place is None:
        return None
    tar = replace(location, key="/".join(parts[: place + 1]))
    name = "/".join(parts[place + 1 :])
    return tar, unquote(name) if location.is_web else name


def fetched_tar(tar: Location) -> Path:
    """The copy of a tar, which a process compares with the store's once. Raises as `fetch_file`."""
    return _fetched(tar, endpoint(tar))


@lru_cache(maxsize=MOST_OPEN)
def _fetched(tar: Location, _: str) -> Path:
    return fetch_file(tar)


def index_of(tar: Path) -> Index:
    """The members of a tar, by its headers; they are read once and kept, in memory and of large tars in the cache.

    Raises FileNotFoundError, or ValueError where the tar is compressed, damaged or cut off, or holds what no data set
    does: links, devices, files with holes, names that lead out or that occur twice.
    """
    state = tar.stat()
    return _index(tar, (state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns))


def member_of(tar: Path, name: str) -> Member:
    """One member of a tar. Raises FileNotFoundError where it has none of that name, and as `index_of`."""
    found = index_of(tar).find(name)
    if found is None:
        raise FileNotFoundError(f"{tar} holds no {name}; restore it or correct its name")
    return found


def read_member(tar: Path, member: Member) -> bytes:
    """The bytes of a member. Raises ValueError where the tar ends before it, as one that is written at the moment."""
    with tar.open("rb") as file:
        file.seek(member.offset)
        content = file.read(member.size)
    if len(content) < member.size:
        raise ValueError(f"{tar} is cut off in {member.name}; copy it again")
    return content


def first_members(tar: Path, most: int) -> list[Member]:
    """The first members of a tar, without a look at the others. Raises as `index_of` for what is met among them."""
    found = []
    for member in _members(tar, tar.stat().st_size, whole=False):
        found.append(member)
        if len(found) == most:
            break
    return found


@lru_cache(maxsize=MOST_OPEN)
def _index(tar: Path, identity: Identity) -> Index:
    entry = _entry(tar, identity)
    known = None if entry is None else load_columns(entry)
    if known is not None:
        copied = {name: np.array(column) for name, column in known.items()}  # a map would keep a file open
        return Index(Names(copied["text"], copied["first"]), copied["offsets"], copied["sizes"])
    members = sorted(_members(tar, identity[1]))
    twice = next((one.name for one, other in pairwise(members) if one.name == other.name), None)
    if twice is not None:
        raise ValueError(f"{tar} holds {twice!r} twice; pack it anew")
    names = Names.pack([one.name for one in members])
    index = Index(names, *(np.array([one[column] for one in members], np.int64) for column in (1, 2)))
    if entry is not None:
        with suppress(OSError):
            save({"text": names.text, "first": names.first, "offsets": index.offsets, "sizes": index.sizes}, entry)
    return index


def _entry(tar: Path, identity: Identity) -> Path | None:
    """Where the index of a tar is kept; nothing for a small one, and for one that was changed just now."""
    if identity[1] < SMALL or time.time() - max(identity[2:]) / 1e9 < SETTLED:
        return None
    name = hashlib.sha256(os.fsencode(tar.resolve()) + repr(identity).encode()).hexdigest()
    return folder() / f"{name}-tar{FORMAT}.columns"


def _members(tar: Path, length: int, *, whole: bool = True) -> Iterator[Member]:
    """Files by their headers. whole: whether the tar's end is looked for."""
    with tar.open("rb") as file:
        head = file.read(max(map(len, STARTS)))
        if head.startswith(tuple(STARTS)):
            raise ValueError(f"{tar} is compressed, so that nothing in it can be read by itself; decompress it")
        file.seek(0)
        try:
            with tarfile.open(fileobj=_Headers(file), mode="r:") as archive:  # type: ignore[call-overload]
                yield from _checked(tar, archive, length, whole=whole)
        except ERRORS as error:
            raise ValueError(f"{tar} {DAMAGED.format(error)}") from None


def _checked(tar: Path, archive: tarfile.TarFile, length: int, *, whole: bool) -> Iterator[Member]:
    end = 0
    for number, one in enumerate(archive):
        archive.members = []  # type: ignore[attr-defined]  # which it keeps, and nobody asks for
        kind = SPARSE if one.issparse() else "" if one.isfile() or one.isdir() else LINK
        if kind:
            raise ValueError(f"{tar} holds {one.name!r}, {kind}, which is not read; pack it anew without")
        stop = one.offset_data + (one.size if one.isfile() else 0)
        if one.size < 0 or stop > length or one.offset_data < end:
            raise ValueError(f"{tar} is cut off or damaged: {one.name!r} is said to end at {stop} of {length} bytes")
        if number == MOST_FILES:
            raise ValueError(f"{tar} holds more than {MOST_FILES} files; divide it")
        end = -(-stop // BLOCK) * BLOCK
        if one.isfile():
            yield Member(inner_path(one.name, tar).as_posix(), one.offset_data, one.size)
    if whole and not _ends(archive, end):
        raise ValueError(f"{tar} is cut off or damaged: no end is marked behind its last file; copy it again")


def _ends(archive: tarfile.TarFile, end: int) -> bool:
    """Whether a block of zeros marks the end of a tar."""
    stream: Any = archive.fileobj
    stream.seek(end)
    return bool(stream.read(BLOCK) == bytes(BLOCK))


class _Headers:
    """A tar's bytes, of which no more are read at once than a header may have."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def read(self, size: int) -> bytes:
        """Read as a file does."""
        if not 0 <= size <= LARGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return bytes(self._stream.read(size))

    def seek(self, position: int) -> int:
        """Go on as a file does."""
        return int(self._stream.seek(position))

    def tell(self) -> int:
        """Tell as a file does."""
        return int(self._stream.tell())
