"""Annotation files as columns, parsed once for all threads, processes and ranks that open them.

An entry is named after what the annotation file says, so it cannot be out of date, and gets its name when it is whole.
docs/decisions/0014-annotation-cache.md says why it is done this way.
"""

import hashlib
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any, TypeVar

from maskrcnn.data.annotations import column_file
from maskrcnn.data.annotations.annotation_file import open_file
from maskrcnn.data.annotations.fingerprint import fingerprint, of_file, recall
from maskrcnn.data.annotations.images import SizesOf
from maskrcnn.data.annotations.packed import Content, Packed, arrange, as_dataset, read_content
from maskrcnn.data.faults import Faults
from maskrcnn.data.health.boxes import report_boxes
from maskrcnn.files import HAS_LOCKS, atomic_write, cache_folder, lock, reason_of
from maskrcnn.runtime.allocator import give_back

T = TypeVar("T")

FORMAT = 6
"""To be raised whenever the same annotation file leads to other columns."""
SMALL = 1 << 20
"""Bytes of an annotation file that is parsed as quickly as its entry would be found."""
MOST = 4 << 30
"""Bytes of entries that are kept; beyond, those opened longest ago are removed."""
PATIENCE = 120.0
"""Seconds to wait for another process that parses; then it is taken to be stuck."""
PAUSE = 0.05
LEFT_BEHIND, FORGOTTEN = 3600.0, 30 * 86400.0
"""Seconds after which a file that nobody finished is removed, and a fingerprint that was remembered."""


def packed(path: Path, sizes_of: SizesOf | None = None) -> Packed:
    """What an annotation file says: as columns that all processes share where it has been read before.

    sizes_of   as of `read_content`; columns that hold what pictures told are not kept
    Raises FileNotFoundError or ValueError as the parser does, whether or not there is an entry.
    """
    with open_file(path) as stream:
        if os.fstat(stream.fileno()).st_size < SMALL:
            return read_columns(stream.read(), path, sizes_of)
        entry = _entry(of_file(stream, _memory(path)))
        seen = identity(entry)
        known = load(entry)
        if known is not None:
            return known
        with turn(entry, seen, load) as known:
            return _parse(stream, path, sizes_of) if known is None else known


def read_columns(text: bytes, path: Path, sizes_of: SizesOf | None = None, faults: Faults | None = None) -> Packed:
    """What the text of an annotation file says, with what was met in it.

    faults   gathers what is met, and what cannot be used is left out; None: that is refused
    Raises ValueError as `read_content`, or `Faults.refuse`.
    """
    found = Faults() if faults is None else faults
    content = read_content(text, path, found, sizes_of)
    if faults is None or not len(content.images.ids) or not len(content.categories.ids):
        found.refuse(path)
    del text
    return _arranged(content, found, path)


def folder() -> Path:
    """Where entries are kept: `annotations` in the cache folder."""
    try:
        return cache_folder() / "annotations"
    except RuntimeError:  # a user without a home: no folder can be made below
        return Path(os.devnull) / "annotations"


def load(entry: Path) -> Packed | None:
    """The columns of an annotation file's entry; nothing where there is none or it is damaged."""
    columns = load_columns(entry)
    return None if columns is None else Packed(**columns)


def load_columns(entry: Path) -> dict[str, Any] | None:
    """The columns of any entry; nothing where there is none or it is damaged."""
    with suppress(OSError, ValueError), entry.open("rb") as stream:
        if lock(stream, shared=True) is not False and identity(entry) == os.fstat(stream.fileno()).st_ino:
            columns = column_file.read(stream)  # keeps the lock as long as it is mapped
            with suppress(OSError):
                os.utime(entry)
            return columns
    return None


def _arranged(content: Content, faults: Faults, path: Path) -> Packed:
    columns = arrange(content)
    report_boxes(as_dataset(columns, path, path.parent), faults)
    return columns._replace(remarks=faults.notes())


def _parse(stream: BufferedReader, path: Path, sizes_of: SizesOf | None) -> Packed:
    """Read the annotation file and make its entry."""
    stream.seek(0)
    text = stream.read()
    entry = _entry(recall(stream, _memory(path)) or fingerprint(BytesIO(text), len(text)))  # of these very bytes
    faults = Faults()
    content = read_content(text, path, faults, sizes_of)
    del text
    faults.refuse(path)
    columns = _arranged(content, faults, path)
    if content.images.are_measured:
        return columns
    try:
        save(columns._asdict(), entry)
    except OSError as error:
        warnings.warn(
            f"{path} is parsed anew by every process that opens it, because its columns cannot be kept in "
            f"{entry.parent} ({reason_of(error)}); set MASKRCNN_CACHE to a folder that has room for them",
            stacklevel=2,
        )
        return columns
    mapped = load(entry)
    if mapped is None:
        return columns
    del content, columns
    give_back()  # for COCO 260 MB
    return mapped


def _entry(content: bytes) -> Path:
    return folder() / f"{content.hex()}-{FORMAT}.columns"


def _memory(path: Path) -> Path:
    """Where the fingerprint of the file at this path is remembered."""
    return folder() / f"{hashlib.sha256(os.fsencode(path.resolve())).hexdigest()}.memory"


def save(columns: Mapping[str, column_file.Value], entry: Path) -> None:
    """Write an entry whole; it is not synchronised with the disk: what a crash may leave is told by the fingerprint."""
    entry.parent.mkdir(parents=True, exist_ok=True)
    remove_old(entry.parent)
    with atomic_write(entry) as draft, draft.open("xb+") as stream:
        column_file.write(stream, columns)


def _remove(entry: Path) -> None:
    """Remove an entry unless a process has it mapped. Windows, which has no such locks, refuses that by itself."""
    if not HAS_LOCKS:
        entry.unlink()
        return
    with entry.open("rb+") as stream:
        if lock(stream):
            entry.unlink()


def remove_old(folder: Path) -> None:
    """Keep the entries opened last, up to `MOST` bytes, and any that a process has mapped.

    What a process that was killed had begun to write goes too.
    """
    total = 0
    for entry, state in sorted(_states(folder, "*.columns"), key=lambda one: one[1].st_mtime, reverse=True):
        total += state.st_size
        if total > MOST:
            with suppress(OSError):
                _remove(entry)
    for pattern, age in (("*.part", LEFT_BEHIND), ("*.memory", FORGOTTEN)):
        for path, state in _states(folder, pattern):
            if time.time() - state.st_mtime > age:
                path.unlink(missing_ok=True)


def _states(folder: Path, pattern: str) -> Iterator[tuple[Path, os.stat_result]]:
    for path in folder.glob(pattern):
        with suppress(FileNotFoundError):  # another process was quicker
            yield path, path.stat()


@contextmanager
def turn(entry: Path, seen: int | None, load: Callable[[Path], T | None]) -> Iterator[T | None]:
    """Let one process parse at a time; gives what another has made since `seen`, or nothing where it is one's turn.

    Where there can be no lock, or its holder is stuck, everyone has a turn.
    """
    with ExitStack() as stack:
        known = None
        with suppress(OSError):
            entry.parent.mkdir(parents=True, exist_ok=True)
            turns = stack.enter_context((entry.parent / "lock").open("ab"))
            end = time.monotonic() + PATIENCE
            while known is None and lock(turns) is False and time.monotonic() < end:
                time.sleep(PAUSE)
                known = load(entry) if identity(entry) != seen else None
        yield known or (load(entry) if identity(entry) != seen else None)


def identity(path: Path) -> int | None:
    """What tells an entry from another one that takes its name."""
    with suppress(OSError):
        return path.stat().st_ino
    return None
