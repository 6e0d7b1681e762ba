"""Data sets packed in one file: unpacked into the cache once, whole or not at all, and nowhere else."""

import bz2
import gzip
import hashlib
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import IO, Any, NamedTuple, cast
from uuid import uuid4

from maskrcnn.data.annotations.fingerprint import of_file
from maskrcnn.data.formats.source import SYSTEM
from maskrcnn.files import ARCHIVES, FULL, cache_folder, explain_full, lock, size_of

MOST_FILES = 5_000_000
MOST_BYTES = 1 << 40
RATIO, FREE = 200, 1 << 28
"""How many times its own size an archive may unpack to, beyond as many bytes; text shrinks to a tenth or twentieth."""
CHUNK = 1 << 20
"""Bytes that are copied at once."""
LARGEST_HEADER = 1 << 24
"""Bytes of a tar's header that are read at once; names and times of one file are far less."""
ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
STARTS: dict[bytes, Callable[[Any], Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
"""How compressed files begin, and what opens them."""
ERRORS = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError,
    UnicodeError,
)  # fmt: skip
"""What a damaged archive, or one of a kind that is not known, leads Python's modules to raise."""
DAMAGED = "is damaged or cut off, or packed in a way that is not known ({}); copy it again, or unpack it yourself"


class _Member(NamedTuple):
    """A file in an archive."""

    name: str
    size: int
    kind: str
    """What it is instead of a file; empty for a file."""
    content: Any
    """What the archive knows it by."""


def is_archive(path: Path) -> bool:
    """Whether a file has the ending of an archive that can be unpacked."""
    return path.name.lower().endswith(ENDINGS) and path.is_file()


def unpacked(path: Path, where: Path | None = None) -> Path:
    """The folder with what an archive holds; archives within it are folders beside its files.

    where   the folder to unpack to; without one the cache
    It is unpacked when its content is seen for the first time. Raises ValueError where it holds paths that lead out,
    links, devices, too much, or is damaged, and OSError where there is no room: one sentence.
    """
    home = _writable(path)
    with path.open("rb") as stream:
        memory = home / f"{hashlib.sha256(os.fsencode(path.resolve())).hexdigest()}.memory"
        entry = (where or home) / of_file(stream, memory).hex()
    place = entry / path.name
    with ExitStack() as stack:
        lock(stack.enter_context((home / "lock").open("ab")), wait=True)
        if not place.is_dir():
            _make(path, entry, place.name)
    return place


def _writable(path: Path) -> Path:
    """The folder for what archives held, in the cache. Raises OSError, naming the archive, where it cannot be made."""
    try:
        home = cache_folder() / ARCHIVES
        home.mkdir(parents=True, exist_ok=True)
        (home / "lock").touch()
    except (OSError, RuntimeError) as error:  # RuntimeError: a user without a home
        raise OSError(
            f"{path} cannot be unpacked into the cache ({error}); set MASKRCNN_CACHE to a folder that can be written"
        ) from None
    return home


def _make(path: Path, entry: Path, name: str) -> None:
    """Unpack beside `entry`, and give that its name in the end."""
    draft = entry.with_name(f".{entry.name}.{uuid4().hex}.part")
    remedy = "set MASKRCNN_CACHE to a folder" if entry.is_relative_to(cache_folder()) else "choose a folder"
    try:
        limits = _Limits(path)
        _unpack(path, draft / name, limits)
        for inner in [one for one in (draft / name).rglob("*") if is_archive(one)]:
            _unpack(inner, _beside(inner), limits)
            inner.unlink()
        entry.mkdir(exist_ok=True)
        if not (entry / name).is_dir():  # another machine that shares the folder was first
            (draft / name).rename(entry / name)
    except OSError as error:
        remedy = f"{remedy} that has room for it"
        if error.errno in FULL:
            told = f"{path} is to be unpacked there; {remedy}"
            raise explain_full(entry.parent, begun=size_of(draft), reason=error.errno or 0, remedy=told) from None
        raise OSError(f"{path} cannot be unpacked into {entry.parent} ({error.strerror or error}); {remedy}") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


class _Limits:
    """What one archive, with those inside it, may still unpack."""

    def __init__(self, path: Path) -> None:
        self._path, self._files, self._bytes = path, 0, 0
        self._most = min(MOST_BYTES, max(FREE, RATIO * path.stat().st_size))

    def count(self, *, files: int = 0, length: int = 0) -> None:
        """Raise ValueError where it would be too much."""
        self._files, self._bytes = self._files + files, self._bytes + length
        if self._files > MOST_FILES:
            raise ValueError(f"{self._path} holds more than {MOST_FILES} files; unpack it yourself if it is meant so")
        if self._bytes > self._most:
            times = self._most // max(1, self._path.stat().st_size)
            raise ValueError(
                f"{self._path} unpacks to more than {self._most} bytes, {times} times its size, as archives do that "
                "are to fill disks; unpack it yourself if it is meant so"
            )

    def expect(self, length: int) -> None:
        """Raise ValueError where so many bytes, as an archive states them, would be too much."""
        self.count(length=length)
        self._bytes -= length


def _unpack(path: Path, dest: Path, limits: _Limits) -> None:
    dest.mkdir(parents=True)
    taken: set[Path] = set()
    try:
        with _opened(path, limits) as archive:
            for member in _members(archive):
                if member.kind:
                    raise ValueError(
                        f"{path} holds {member.name!r}, {member.kind}, which is not unpacked; unpack it yourself"
                    )
                target = dest / _inner(member.name, path)
                if SYSTEM.isdisjoint(target.parts):
                    if target in taken:
                        raise ValueError(f"{path} holds {member.name!r} twice; pack it anew")
                    taken.add(target)
                    limits.count(files=1)
                    _copy(archive, member, target, limits)
    except ERRORS as error:
        raise ValueError(f"{path} {DAMAGED.format(error)}") from None
    except OSError as error:
        if error.errno is not None:
            raise
        raise ValueError(f"{path} {DAMAGED.format(error)}") from None  # gzip's and bz2's words for others' bytes


@contextmanager
def _opened(path: Path, limits: _Limits) -> Iterator[zipfile.ZipFile | tarfile.TarFile]:
    with ExitStack() as stack:
        stream = stack.enter_context(path.open("rb"))
        head = stream.read(8)
        stream.seek(0)
        if head.startswith(b"PK"):
            archive = stack.enter_context(zipfile.ZipFile(stream))
            limits.expect(sum(info.file_size for info in archive.infolist()))
            yield archive
            return
        opened = next((opener for start, opener in STARTS.items() if head.startswith(start)), None)
        plain = stack.enter_context(opened(stream)) if opened else stream
        yield stack.enter_context(tarfile.open(fileobj=cast(IO[bytes], _Careful(plain, limits)), mode="r:"))


class _Careful:
    """A tar's bytes, of which no more are read than an archive may have."""

    def __init__(self, stream: Any, limits: _Limits) -> None:
        self._stream, self._limits, self._seen = stream, limits, 0

    def read(self, size: int) -> bytes:
        """Read as a file does, but no more than a header or a part of a file."""
        if not 0 <= size <= LARGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return bytes(self._stream.read(size))

    def seek(self, position: int) -> int:
        """Go on; what is passed over has to be unpacked too."""
        self._limits.count(length=max(0, position - self._seen - CHUNK))
        self._seen = max(self._seen, position)
        return int(self._stream.seek(position))

    def tell(self) -> int:
        """Tell as a file does."""
        return int(self._stream.tell())


def _members(archive: zipfile.ZipFile | tarfile.TarFile) -> Iterator[_Member]:
    """Files, in their order; folders are made for them."""
    if isinstance(archive, zipfile.ZipFile):
        for info in archive.infolist():
            mode = info.external_attr >> 16
            kind = "" if not stat.S_IFMT(mode) or stat.S_ISREG(mode) else "a link or a device"
            kind = "which is encrypted" if info.flag_bits & 1 else kind
            if not info.is_dir() and not stat.S_ISDIR(mode):
                yield _Member(info.filename, info.file_size, kind, info)
        return
    for one in archive:
        if not one.isdir():
            yield _Member(one.name, one.size, "" if one.isfile() else "a link or a device", one)


def _copy(archive: zipfile.ZipFile | tarfile.TarFile, member: _Member, target: Path, limits: _Limits) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source = (
        archive.open(member.content) if isinstance(archive, zipfile.ZipFile) else archive.extractfile(member.content)
    )
    assert source is not None
    with cast(BufferedIOBase, source) as stream, target.open("xb") as file:
        while chunk := stream.read(CHUNK):
            limits.count(length=len(chunk))
            file.write(chunk)


def _inner(name: str, path: Path) -> Path:
    """The path of a member below the folder it is unpacked to. Raises ValueError where it would lead out."""
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or "\0" in name:
        raise ValueError(
            f"{path} holds {name!r}, a path that leads out of the folder it is unpacked to; do not trust it"
        )
    inner = [part for part in parts if part not in ("", ".")]
    if not inner:
        raise ValueError(f"{path} holds a file without a name; pack it anew")
    return Path(*inner)


def stem_of(name: str) -> str:
    """A file's name without the ending of an archive.

    >>> stem_of("cells.tar.gz"), stem_of("cells.v2")
    ('cells', 'cells.v2')
    """
    ending = max((one for one in ENDINGS if name.lower().endswith(one)), key=len, default="")
    return name[: len(name) - len(ending)] or "data"


def _beside(inner: Path) -> Path:
    """The folder for an archive within one."""
    place = inner.with_name(stem_of(inner.name))
    return place if not place.exists() else inner.with_name(f"{inner.name}.unpacked")
