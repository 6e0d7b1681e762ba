"""Folders on disk for what goes to a store: one for a run, found again by the next command; one for each results."""

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from maskrcnn.files import cache_folder, lock, size_of, writing
from maskrcnn.run_folder import CONFIG, HISTORY, LOG, STATE
from maskrcnn.sentences import typed
from maskrcnn.storage.copies import copy_all
from maskrcnn.storage.location import Location
from maskrcnn.storage.outgoing import Outgoing, files_of, is_checkpoint, is_draft, step_folder, steps_in
from maskrcnn.storage.progress import Meter
from maskrcnn.storage.store import Entry, endpoint, listing

OF_A_RUN = frozenset((LOG, HISTORY, STATE))
"""Files that a run or a checkpoint has from its beginning on, and results have not."""
Check = Callable[[Path], object]
"""Raises ValueError for a checkpoint that is not what was written."""


def staging_folder(location: Location) -> Path:
    """Return the folder on disk for an address; it need not be there yet."""
    digest = hashlib.sha256(f"{endpoint(location)} {location}".encode()).hexdigest()[:16]
    return cache_folder() / "uploads" / digest / (location.name or location.bucket)


def emptied(location: Location) -> Path:
    """Return the folder for an address without what an earlier command left in it."""
    folder = staging_folder(location)
    shutil.rmtree(folder.parent, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def results_folder(location: Location) -> Path:
    """Make a folder for results on their way to an address, which no other process has."""
    place = staging_folder(location)
    uploads = place.parent.parent
    uploads.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{place.parent.name}-", dir=uploads)) / place.name
    folder.mkdir()
    return folder


def refuse_a_run(location: Location) -> None:
    """Raise ValueError where results would be mixed with a run, which is at an address or on its way there."""
    names = [entry.key for entry in listing(location)]
    if steps_in(names) or not OF_A_RUN.isdisjoint(names):
        raise ValueError(f"{location} holds a run, with which results are not mixed; choose another {typed('--out')}")
    folder = staging_folder(location)
    if steps_in(files_of(folder)):
        raise ValueError(
            f"{location} belongs to a run whose checkpoints are still in {folder}; choose another {typed('--out')}, or "
            "remove that folder"
        )


def holds_a_run(location: Location) -> bool:
    """Whether there is a run at an address, or the beginning of one."""
    names = [entry.key for entry in listing(location)]
    return CONFIG in names or bool(steps_in(names))


def bring_run(location: Location, whole: Check, tell: Callable[[str], None]) -> Path | None:
    """Return the folder on disk for a run's address, with its files and its newest checkpoint; None if it has none.

    tell    told of a checkpoint that is not whole; then the one before it is brought
    Where the newest checkpoint in the store came from this folder, it is left as it is: it may have later ones, which
    were not yet uploaded when an earlier command was killed. Several processes may call this at once.
    """
    folder = staging_folder(location)
    with _alone(folder.parent):
        outgoing = Outgoing(folder, location)
        entries = [entry for entry in outgoing.there.values() if not is_draft(entry.key)]
        steps = steps_in([entry.key for entry in entries])
        if outgoing.was_removed:
            shutil.rmtree(folder, ignore_errors=True)
        elif steps and not (_state(steps[0]) in outgoing.sent and steps_in(files_of(folder))):
            _bring(location, folder, entries, whole, tell)
        return folder if steps_in(files_of(folder)) else None


def bring_checkpoint(location: Location) -> Path | None:
    """Return a folder on disk with the checkpoint of an address; None where there is no checkpoint."""
    folder = staging_folder(location)
    entries = [entry for entry in listing(location) if "/" not in entry.key]
    if STATE not in [entry.key for entry in entries]:
        return None
    with _alone(folder.parent):
        here = {path.name: path.stat().st_size for path in folder.iterdir()} if folder.is_dir() else {}
        if here != {entry.key: entry.size for entry in entries}:
            _replace(folder, _copied(location, entries, folder))
    return folder


def _bring(
    location: Location, folder: Path, entries: Sequence[Entry], whole: Check, tell: Callable[[str], None]
) -> None:
    """Copy the newest checkpoint that is whole, and all else but the other checkpoints."""
    for step in steps_in([entry.key for entry in entries]):
        prefix = step_folder(Path(), step).as_posix() + "/"
        wanted = [entry for entry in entries if not is_checkpoint(entry.key) or entry.key.startswith(prefix)]
        copy = _copied(location, wanted, folder)
        try:
            whole(copy / prefix)
        except ValueError as damage:
            tell(f"passing over a damaged checkpoint of {location} ({damage})")
            shutil.rmtree(copy / prefix)
            continue
        _replace(folder, copy)
        Outgoing(folder, location).take_as_sent(wanted)
        return


def _copied(location: Location, entries: Sequence[Entry], folder: Path) -> Path:
    """Copy objects into a folder beside `folder`; a copy that was interrupted is gone on with."""
    copy = folder.with_name(f".{folder.name}.incoming")
    copy.mkdir(parents=True, exist_ok=True)
    with writing(folder, max(0, sum(entry.size for entry in entries) - size_of(copy))):
        copy_all(
            location,
            entries,
            lambda name: copy.joinpath(*name.split("/")),
            folder.parent / "parts",
            lambda entry: None,
            Meter(f"copying {location}"),
        )
    return copy


def _replace(folder: Path, copy: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    copy.rename(folder)


def _state(step: int) -> str:
    return (step_folder(Path(), step) / STATE).as_posix()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process is in here."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("wb") as stream:
        lock(stream, wait=True)
        yield
