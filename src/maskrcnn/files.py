"""Files on disk: where what was fetched or made once is kept, how one is written whole, and who may write it."""

import errno
import hashlib
import importlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from maskrcnn.sentences import some_of

fcntl: Any
try:
    fcntl = importlib.import_module("fcntl")
except ImportError:  # Windows
    fcntl = None
HAS_LOCKS = fcntl is not None
"""Whether this system knows locks on files that `lock` can take."""

ARCHIVES, DIGITS = "archives", 64
"""The folder in the cache for what archives held, and letters of the names of the folders in it."""
LONGEST_DRAFT = 48
"""Letters of a file's name that the name of its draft keeps: no disk then finds that one too long."""
TAIL = 4096
"""Bytes at the end of a file that tell whether it was written to its end."""
FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
"""Errors of a disk, a quota or a limit that takes no more."""
DRAFT = re.compile(r"^\.(.+)\.[0-9a-f]{32}\.part$")
"""Name of what is written in the place of a file."""
PROBE = 1 << 16
"""Bytes that a disk with room takes."""
ROOM = "make room there"
REMEDY = f"{ROOM}, then run the command again"
"""What helps where a disk is full."""


class DiskFull(OSError):
    """A file or folder for which there is no room; its text says which one, and the bytes needed and free."""

    def __str__(self) -> str:
        return str(self.strerror)


def cache_folder() -> Path:
    """Where downloads and parsed annotations are kept: $MASKRCNN_CACHE, or `maskrcnn` in the user's cache folder.

    Raises RuntimeError for a user without a home.
    """
    root = os.environ.get("MASKRCNN_CACHE")
    return Path(root) if root else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "maskrcnn"


def by_archive(text: str) -> str:
    """A sentence in which what was unpacked into the cache is called by its archive: `cells.zip/images/1.png`."""
    if f"{ARCHIVES}{os.sep}" not in text:
        return text
    try:
        home = re.escape(str(cache_folder() / ARCHIVES) + os.sep)
    except RuntimeError:  # a user without a home
        return text
    return re.sub(rf"{home}[0-9a-f]{{{DIGITS}}}{re.escape(os.sep)}", "", text)


SPECIAL = "it is a pipe, a socket or a device"
"""Why a file is not opened."""


def is_special(path: Path) -> bool:
    """Whether a path is a pipe, a socket or a device: opening one may wait for ever."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def listing(folder: Path) -> str:
    """The first names in a folder, for a message."""
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    return some_of(names, 12) if names else "nothing"


def ends_in_zeros(stream: IO[bytes]) -> bool:
    """Whether a file's last bytes were never written: where it has such a hole, gigabytes would be read for nothing."""
    length = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, length - TAIL))
    tail = stream.read()
    stream.seek(0)
    return length > TAIL and not tail.strip(b"\0")


@contextmanager
def atomic_write(path: Path, *, synced: bool = False, needed: int = 0) -> Iterator[Path]:
    """A path beside `path` to write to: its file takes the name of `path` in the end, or is removed on an error.

    A reader sees the earlier file or all of the new one.

    synced   also after a crash of the machine
    needed   bytes that are going to be written, where that is known
    Raises DiskFull where there is no room.
    """
    draft = path.with_name(f".{path.name[:LONGEST_DRAFT]}.{uuid4().hex}.part")
    try:
        with writing(path, needed, draft):
            yield draft
            if synced:
                sync(draft)
            draft.replace(path)
            if synced:
                sync(path.absolute().parent)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def writing(path: Path, needed: int = 0, draft: Path | None = None) -> Iterator[None]:
    """Say so where a disk is full, be it in words of a library that hides it.

    path     the file or folder that is written
    needed   bytes that are going to be written, where that is known: room for them is asked for first
    draft    what is written in its place and goes again on an error
    Raises DiskFull.
    """
    check_room(path, needed)
    try:
        yield
    except DiskFull:
        raise
    except (OSError, RuntimeError) as error:
        reason = _reason(error, path)
        if reason is None:
            raise
        begun = 0 if draft is None else size_of(draft)
        named = None if draft is not None else getattr(error, "filename", None)
        raise explain_full(Path(named or path), needed, begun=begun, reason=reason) from error


@contextmanager
def filling(folder: Path, needed: int = 0) -> Iterator[None]:
    """Write to a new or empty folder, which is removed again where there is no room. Raises DiskFull."""
    try:
        with writing(folder, needed, folder):
            yield
    except DiskFull:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def append(path: Path, content: bytes) -> None:
    """Add to the end of a file: all of it or, where there is no room, nothing.

    Raises DiskFull, and ValueError for a pipe or a device, which might wait for ever.
    """
    if is_special(path):
        raise ValueError(f"{path} cannot be written: {SPECIAL}; remove it")
    before = size_of(path)
    try:
        with writing(path), path.open("ab") as file:
            file.write(content)
    except OSError:
        with suppress(OSError):
            os.truncate(path, before)
        raise


def check_room(path: Path, needed: int) -> None:
    """Raise DiskFull where the disk of a path, which need not be there yet, has fewer bytes free than are needed."""
    free = _free(path) if needed else None
    if free is not None and free < needed:
        raise explain_full(path, needed)


def explain_full(
    path: Path, needed: int = 0, *, begun: int = 0, reason: int = errno.ENOSPC, remedy: str = REMEDY
) -> DiskFull:
    """Return the error of a file or folder for which there is no room.

    needed   bytes, 0 where that is not known: more than there were
    begun    bytes of it that were written and are going to be removed
    reason   the number of the system's error
    """
    free = _free(path)
    path = path.with_name(DRAFT.sub(r"\1", path.name))
    room = 0 if free is None else free + begun
    told = f"{needed:,} bytes needed" if needed else f"more than {max(begun, room):,} bytes needed"
    return DiskFull(
        reason,
        f"{path} could not be written ({os.strerror(reason)}): {told}, {room:,} bytes free; {remedy}",
    )


def reason_of(error: OSError) -> str:
    """What the system says, in a few words."""
    return os.strerror(error.errno or 0) if error.errno in FULL else str(error.strerror or error)


def as_sentence(error: Exception) -> str:
    """What an error says; one of a full disk that nobody has explained is explained here."""
    number = error.errno if isinstance(error, OSError) and not isinstance(error, DiskFull) else None
    if not isinstance(error, OSError) or number is None or number not in FULL:
        return str(error)
    if error.filename is None:
        return f"what this command writes found no room ({error.strerror}); {REMEDY}"
    return str(explain_full(Path(os.fsdecode(error.filename)), reason=number))


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; 0 for what is not there."""
    with suppress(OSError):
        return sum(one.stat().st_size for one in (path.rglob("*") if path.is_dir() else [path]) if one.is_file())
    return 0


def _free(path: Path) -> int | None:
    """Bytes that are free on the disk of a path; None where a file system does not say."""
    nearest = next((one for one in (path, *path.absolute().parents) if one.exists()), Path())
    with suppress(OSError):
        usage = shutil.disk_usage(nearest)
        return usage.free if usage.total else None
    return None


def _reason(error: OSError | RuntimeError, path: Path) -> int | None:
    """The number of an error that means a full disk; libraries that write by themselves give none, so that is tried."""
    number = getattr(error, "errno", None)
    if number is not None:
        return number if number in FULL else None
    try:
        with tempfile.TemporaryFile(dir=path if path.is_dir() else path.absolute().parent) as probe:
            probe.write(bytes(PROBE))
    except OSError as refusal:
        return refusal.errno if refusal.errno in FULL else None
    return None


def fingerprint(path: Path) -> dict[str, Any]:
    """Size and SHA-256 of a file, which tell whether it is the one that was written."""
    with path.open("rb") as file:
        return {"size": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def digest(content: Mapping[str, Any]) -> str:
    """SHA-256 of whatever JSON can say."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def with_digest(content: Mapping[str, Any]) -> str:
    """JSON of a mapping that ends in the SHA-256 of what stands before, as `sha256`."""
    return json.dumps({**content, "sha256": digest(content)}, indent=1)


def lock(stream: IO[bytes], *, shared: bool = False, wait: bool = False) -> bool | None:
    """Lock an open file, until it is closed or its process ends.

    shared   with others who lock it so; else for this stream alone
    wait     until nobody else holds it
    Returns False where somebody does, None where this system (Windows) or folder (some network disks) has no locks.
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(stream, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def sync(path: Path) -> None:
    """Wait until the disk has a file or folder. Windows cannot open folders, and orders their entries itself."""
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
