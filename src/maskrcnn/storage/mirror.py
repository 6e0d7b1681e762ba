"""Copies of what lies below a remote folder, in a folder of the cache that processes share."""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import msgspec

from maskrcnn.files import cache_folder, lock
from maskrcnn.storage.location import Location
from maskrcnn.storage.progress import Say
from maskrcnn.storage.store import Entry, endpoint

ALL = ""
"""Name in the record that tells of a whole folder: as its size the number of its objects."""


class Copied(NamedTuple):
    """A copy that was verified: which object it is of, and when the file got its content."""

    name: str
    size: int
    mark: str
    modified_ns: int


class Mirror:
    """The folder of the cache for one remote folder, with a record of what in it is whole.

    Names below it are those of the store. The record has a line for each copy, and the last of a name counts; a line
    that was cut off by the end of its process counts for nothing.
    """

    def __init__(self, location: Location) -> None:
        self.location = location
        identity = f"{endpoint(location)} {location} {location.choice}"
        name = re.sub(r"[^A-Za-z0-9_-]", "-", location.name or location.bucket)[:40]
        digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
        self.folder = cache_folder() / "remote" / f"{name}-{digest}"
        self._record = self.folder.with_name(f"{self.folder.name}.jsonl")

    def path(self, name: str) -> Path:
        """Where the copy of a name lies. Raises ValueError for one that no file can have or that leads elsewhere."""
        parts = PurePosixPath(name).parts
        if not parts or ".." in parts or name.startswith("/") or "\0" in name or (os.name == "nt" and "\\" in name):
            raise ValueError(f"{self.location}: the object {name!r} cannot be a file here; copy it under another name")
        return self.folder.joinpath(*parts)

    def read(self) -> dict[str, Copied]:
        """The record, by name."""
        found = {}
        with suppress(FileNotFoundError):
            for line in self._record.read_bytes().split(b"\n"):
                with suppress(msgspec.DecodeError):
                    one = msgspec.json.decode(line, type=Copied)
                    found[one.name] = one
        return found

    def add(self, name: str, size: int, mark: str) -> None:
        """Write into the record that the file of a name is whole."""
        modified = 0 if name == ALL else self.path(name).stat().st_mtime_ns
        line = msgspec.json.encode(Copied(name, size, mark, modified))
        with self._record.open("ab") as stream:
            stream.write(b"\n" + line + b"\n")

    def has(self, known: Copied | None, entry: Entry | None = None) -> bool:
        """Whether a copy lies there as it was recorded, and is still of the object that the store tells of.

        entry   None where the store cannot be asked
        """
        if known is None or (entry is not None and (known.size, known.mark) != (entry.size, entry.mark)):
            return False
        with suppress(OSError):
            state = self.path(known.name).stat()
            return (state.st_size, state.st_mtime_ns) == (known.size, known.modified_ns)
        return False

    @contextmanager
    def alone(self, say: Say) -> Iterator[Path]:
        """Wait until no other process copies into this folder; gives a folder for drafts that no other one uses.

        Where this system has no locks, the process has drafts of its own and begins large files anew.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.folder.with_name(f"{self.folder.name}.lock").open("ab") as stream:
            held = lock(stream)
            if held is False:
                say(f"waiting for another process that copies {self.location}")
                held = lock(stream, wait=True)
            name = f"{self.folder.name}.drafts" if held else f"{self.folder.name}.{os.getpid()}.drafts"
            yield self.folder.with_name(name)
