"""What a folder on disk and a folder in a store have of each other."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import msgspec

from maskrcnn.files import atomic_write
from maskrcnn.run_folder import CHECKPOINTS, HISTORY, STATE
from maskrcnn.storage.location import Location
from maskrcnn.storage.store import Entry, listing
from maskrcnn.storage.write import remove_objects, write_object

RECORD = "uploaded.json"
"""File beside a folder that says what of it is in the store."""
SMALL = 2**20
"""Bytes up to which a file is read whole before it is sent, since it may grow meanwhile."""
FILES_AT_ONCE = 4
"""Files on the way at once."""


class Sent(NamedTuple):
    """A file as it was when it was sent."""

    size: int
    """Bytes."""
    modified: int
    """Nanoseconds since 1970."""
    mark: str
    """ETag of the object, which tells it from one that others put there."""


class State(msgspec.Struct):
    """A checkpoint's state.json, as far as it is looked at here."""

    files: dict[str, msgspec.Raw]


class New(NamedTuple):
    """A file that is to be sent."""

    size: int
    modified: int
    content: bytes | None
    """Its bytes where they are few; else it is read while it is sent."""


class Outgoing:
    """A run's folder on disk and in a store; `push` makes the store's like the one on disk.

    A checkpoint is complete in the store when its state.json is there: that is written last and removed first. What
    a checkpoint needs of the run, such as the lines of metrics.jsonl, is there before. Names that begin with a dot are
    drafts and stay here.
    """

    def __init__(self, folder: Path, location: Location) -> None:
        self.folder = folder
        self.location = location
        record = folder.parent / RECORD
        self.sent = _sent(record)
        """Files that are in the store."""
        was_sent = bool(self.sent)
        self._recorded = dict(self.sent)
        self.compare()
        self.was_removed = was_sent and not self.there
        """Whether somebody has emptied the store's folder since it was written from here."""
        self._has_new_checkpoint = False

    def push(self) -> None:
        """Upload what was written since the last time, and remove the checkpoints that training has removed.

        Raises OSError where the store fails; what is there by then is remembered.
        """
        # What tells of other files is read before them and sent after them: a line of metrics.jsonl that says that
        # weights were evaluated never comes before these weights, nor a checkpoint before the lines of its steps.
        names = files_of(self.folder)
        told = self._read(HISTORY)
        others = [name for name in names if name != HISTORY and not is_checkpoint(name)]
        try:
            with ThreadPoolExecutor(FILES_AT_ONCE, thread_name_prefix="upload") as pool:
                list(pool.map(self._send_new, others))
            self._send(HISTORY, told)
            for step in steps_in(names):
                self._send_checkpoint(step_folder(self.folder, step))
            if self._has_new_checkpoint:
                self._remove_old(steps_in(names))
        finally:
            self.write_record()

    def missing(self) -> list[str]:
        """Files that are not in the store as they are on disk."""
        return [name for name in files_of(self.folder) if self._read(name) is not None]

    def compare(self) -> None:
        """Ask the store what it has, and forget what it lost."""
        self.there = {entry.key: entry for entry in listing(self.location)}
        """What is in the store."""
        self.sent = {name: one for name, one in self.sent.items() if _is_of(self.there.get(name), one)}

    def take_as_sent(self, entries: Iterable[Entry]) -> None:
        """Remember files that were just brought from the store."""
        states = {entry: (self.folder / entry.key).stat() for entry in entries}
        self.sent = {entry.key: Sent(one.st_size, one.st_mtime_ns, entry.mark) for entry, one in states.items()}
        self.write_record()

    def write_record(self) -> None:
        """Keep what is known for a later process."""
        if self._recorded == self.sent:
            return
        self._recorded = dict(self.sent)
        with atomic_write(self.folder.parent / RECORD) as draft:
            draft.write_bytes(msgspec.json.encode(self.sent))

    def _read(self, name: str) -> New | None:
        """What of a file is to be sent; None where it is gone or in the store as it is."""
        path = self.folder / name
        try:
            state = path.stat()
            sent = self.sent.get(name)
            if sent is not None and (sent.size, sent.modified) == (state.st_size, state.st_mtime_ns):
                return None
            return New(state.st_size, state.st_mtime_ns, path.read_bytes() if state.st_size <= SMALL else None)
        except FileNotFoundError:
            return None

    def _send_new(self, name: str) -> None:
        self._send(name, self._read(name))

    def _send(self, name: str, new: New | None) -> None:
        if new is None:
            return
        if new.content is not None:
            mark = write_object(self.location / name, new.content)
        else:
            try:
                stream = (self.folder / name).open("rb")
            except FileNotFoundError:  # training removed it since it was seen
                return
            with stream:
                mark = write_object(self.location / name, stream)
        self.sent[name] = Sent(new.size, new.modified, mark)
        self.there[name] = Entry(name, new.size, mark)

    def _send_checkpoint(self, checkpoint: Path) -> None:
        """Upload a checkpoint, state.json last; an earlier one of its name is made incomplete first."""
        prefix = checkpoint.relative_to(self.folder).as_posix()
        state = f"{prefix}/{STATE}"
        new = self._read(state)
        if new is None or new.content is None:
            return
        files = [f"{prefix}/{name}" for name in _files_in(new.content)]
        if not files:
            return
        if state in self.there:
            self._remove([state])
        for name in files:
            self._send_new(name)
        if all(name in self.sent for name in files):  # else training removed it meanwhile
            self._send(state, new)
            self._has_new_checkpoint = True

    def _remove_old(self, steps: list[int]) -> None:
        """Remove the store's checkpoints that are not here, each state.json first."""
        kept = {f"{CHECKPOINTS}/step-{step}" for step in steps}
        old = [name for name in self.there if is_checkpoint(name) and name.rpartition("/")[0] not in kept]
        self._remove(sorted(old, key=lambda name: not name.endswith(f"/{STATE}")))

    def _remove(self, names: list[str]) -> None:
        for name in names:
            remove_objects(self.location, [name])
            self.there.pop(name, None)
            self.sent.pop(name, None)


def _files_in(state: bytes) -> list[str]:
    """Names in a checkpoint's state.json; none of a damaged one, which nobody can go on from."""
    try:
        return list(msgspec.json.decode(state, type=State).files)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []


def _sent(record: Path) -> dict[str, Sent]:
    """What an earlier process recorded. Raises ValueError where that is damaged: what is newer cannot be told then."""
    try:
        return msgspec.json.decode(record.read_bytes(), type=dict[str, Sent]) if record.is_file() else {}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(
            f"{record} is damaged ({error}), which says what of the files beside it was uploaded; remove it to take "
            f"what is in the store, or all of {record.parent}, once nothing in it is needed"
        ) from None


def files_of(folder: Path) -> list[str]:
    """Files of a run's folder, sorted, without drafts and checkpoints that are not complete."""
    paths = (Path(root, name) for root, _, names in os.walk(folder) for name in names)  # which may vanish meanwhile
    names = sorted(path.relative_to(folder).as_posix() for path in paths)
    names = [name for name in names if not is_draft(name)]
    whole = {f"{CHECKPOINTS}/step-{step}" for step in steps_in(names)}
    return [name for name in names if not is_checkpoint(name) or name.rpartition("/")[0] in whole]


def steps_in(names: list[str]) -> list[int]:
    """Steps of the complete checkpoints among the files of a run, newest first."""
    parts = [name.split("/") for name in names if name.startswith(f"{CHECKPOINTS}/step-")]
    numbers = [part[1].removeprefix("step-") for part in parts if part[2:] == [STATE]]
    return sorted((int(number) for number in numbers if number.isdecimal()), reverse=True)


def step_folder(folder: Path, step: int) -> Path:
    """The folder of a checkpoint in a run's."""
    return folder / CHECKPOINTS / f"step-{step}"


def is_draft(name: str) -> bool:
    """Whether a name, or that of a folder around it, begins with a dot, or is empty as no file's is."""
    return any(not part or part.startswith(".") for part in name.split("/"))


def is_checkpoint(name: str) -> bool:
    """Whether a file is one of a checkpoint's."""
    parts = name.split("/")
    return len(parts) == 3 and parts[0] == CHECKPOINTS and parts[1].startswith("step-")


def _is_of(entry: Entry | None, sent: Sent) -> bool:
    """Whether an object is the one that was sent; of a store without marks the size must do."""
    return entry is not None and entry.size == sent.size and (entry.mark == sent.mark or not sent.mark)
