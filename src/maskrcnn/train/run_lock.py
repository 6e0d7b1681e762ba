"""One run at a time in a folder: a file that is locked as long as the run lasts, and names its owner."""

import json
import os
import platform
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from maskrcnn.files import DRAFT, lock
from maskrcnn.run_folder import CHECKPOINTS, EVALUATION, WEIGHTS
from maskrcnn.sentences import printable, typed
from maskrcnn.storage.location import Location, Where, at
from maskrcnn.storage.staging import staging_folder

LOCK = ".lock"
"""The locked file; it stays when the run ends and says nothing then."""
MOST = 4096
"""Bytes of it that are read."""
WEIGHTS_DRAFT = re.compile(r"\.(best|last)\.(?!previous$)[a-z0-9_]{8}")
"""Drafts of weights folders, as `weights.save_weights` calls them; `.best.previous` is one that is still read."""
STEP_DRAFT = re.compile(r"\.step-\d+")
"""Drafts of checkpoints, as `checkpoint.save` calls them."""


@contextmanager
def alone(out: Where, *, active: bool = True) -> Iterator[None]:
    """Keep other runs out of a folder, or out of the one in which an address is prepared; what killed saves left goes.

    active   False in all processes of a run but one
    Raises ValueError, with the owner, where another run is there. Where the system has no locks nothing is done.
    """
    location = at(out)
    if not active:
        yield
        return
    path = lock_file(location)
    new = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("a+b") as stream:
            stream.seek(0)
            taken = lock(stream)
            if taken is False:
                raise ValueError(f"{location} is in use by {_owner(stream.read(MOST))}, {_advice(location)}")
            if taken:
                stream.truncate(0)
                stream.write(json.dumps(_own()).encode())
                stream.flush()
                sweep(location if isinstance(location, Path) else staging_folder(location))
            yield
    finally:
        if new:
            _remove_empty(path, new)


def lock_file(location: Path | Location) -> Path:
    """The file that is locked for a run; an address's lies beside its folder, which may be replaced."""
    if isinstance(location, Path):
        return location / LOCK
    folder = staging_folder(location).parent
    return folder.with_name(f"{folder.name}{LOCK}")


def sweep(out: Path) -> None:
    """Remove the drafts that killed saves left in a run's folder, which nobody else may be writing to."""
    for folder in (out, out / CHECKPOINTS, out / EVALUATION, out / WEIGHTS):
        for path in folder.iterdir() if folder.is_dir() else ():
            if DRAFT.fullmatch(path.name):
                path.unlink(missing_ok=True)
            elif (folder.name == WEIGHTS and WEIGHTS_DRAFT.fullmatch(path.name)) or (
                folder.name == CHECKPOINTS and STEP_DRAFT.fullmatch(path.name)
            ):
                shutil.rmtree(path, ignore_errors=True)


def _own() -> dict[str, str | int]:
    return {"host": platform.node(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}


def _owner(content: bytes) -> str:
    with suppress(ValueError, KeyError, TypeError, RecursionError):
        told = json.loads(content)
        return printable(f"process {told['pid']:d} on {told['host']} since {told['since']}")
    return "another process"


def _advice(location: Path | Location) -> str:
    return f"which trains there; wait for its end, stop it, or choose another {typed('--out')} than {location}"


def _remove_empty(path: Path, new: list[Path]) -> None:
    """Leave no folder behind that was made for a lock, innermost first, and has nothing but it: the run was refused."""
    if path.name == LOCK and [one.name for one in path.parent.iterdir()] == [LOCK]:
        path.unlink(missing_ok=True)
        with suppress(OSError):
            for folder in new:
                folder.rmdir()
