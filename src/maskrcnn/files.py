"""Files on disk: where what was fetched or made once is kept, how one is written whole, and who may write it."""

import importlib
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
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
TAIL = 4096
"""Bytes at the end of a file that tell whether it was written to its end."""


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
def atomic_write(path: Path, *, synced: bool = False) -> Iterator[Path]:
    """A path beside `path` to write to: its file takes the name of `path` in the end, or is removed on an error.

    A reader sees the earlier file or all of the new one.

    synced   also after a crash of the machine
    """
    draft = path.with_name(f".{path.name}.{uuid4().hex}.part")
    try:
        yield draft
        if synced:
            sync(draft)
        draft.replace(path)
        if synced:
            sync(path.absolute().parent)
    finally:
        draft.unlink(missing_ok=True)


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
