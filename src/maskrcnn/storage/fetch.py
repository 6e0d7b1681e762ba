"""The one door that copies remote files here: complete, verified, once for all processes, anew when they change."""

import shutil
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from maskrcnn.files import writing
from maskrcnn.sentences import some_of
from maskrcnn.storage import web
from maskrcnn.storage.copies import PARALLEL, copy_all
from maskrcnn.storage.location import Location, Where, at
from maskrcnn.storage.mirror import ALL, Copied, Mirror
from maskrcnn.storage.progress import Meter, Say
from maskrcnn.storage.store import Entry, endpoint, head, listing, patience

OFFLINE_PATIENCE = 10.0
"""Longest time in seconds to look for a store that is not needed, since there are copies."""
SILENT: set[str] = set()
"""Buckets that did not answer this process when they were last asked."""


def fetch_file(where: Where, *, say: Say = print) -> Path:
    """Return a file's path: its own where it is on disk, that of a copy in the cache where it is remote.

    say   told what is copied
    A copy is used again while the store's size and mark (ETag) of the object are those that it had, and where the
    store cannot be reached. A copy that was interrupted is gone on with.
    Raises FileNotFoundError, PermissionError or ConnectionError with a sentence.
    """
    found = at(where)
    if isinstance(found, Path):
        return found
    if found.is_web:
        return web.fetch(found, say)
    mirror = Mirror(found.parent)
    known = mirror.read().get(found.name)
    has = mirror.has(known)
    try:
        with _waiting(found, kept=has) as seconds:
            entry = head(found, seconds)
    except ConnectionError as error:
        if not has or known is None:
            raise
        return _offline(mirror.path(found.name), known, error, say)
    if entry is None:
        raise FileNotFoundError(f"{found} does not exist; {_neighbours(found)}")
    _bring(mirror, [entry], say)
    return mirror.path(found.name)


def fetch_folder(where: Where, names: Collection[str] | None = None, *, say: Say = print) -> Path:
    """Return a folder's path: its own where it is on disk, that of copies in the cache where it is remote.

    names   of the files that are needed, below the folder; None takes all that are there
    Otherwise as `fetch_file`. A web server cannot be asked what it has: there names are needed, and copies are not
    compared again.
    """
    found = at(where)
    if isinstance(found, Path):
        return found
    if found.is_web:
        if names is None:
            raise ValueError(f"{found}: a web server does not list its files; give their names, or use an object store")
        return web.fetch_all(found, names, say)
    mirror = Mirror(found)
    known = mirror.read()
    wanted = None if names is None else set(names)
    has = all(mirror.has(known.get(name)) for name in wanted) if wanted is not None else ALL in known
    try:
        with _waiting(found, kept=has) as seconds:
            entries = list(_wanted(found, wanted, seconds))
    except ConnectionError as error:
        if not has or not known:
            raise
        return _offline(mirror.folder, max(known.values(), key=lambda one: one.modified_ns), error, say)
    _refuse_missing(found, entries, wanted)
    _bring(mirror, entries, say)
    if wanted is None and (ALL not in known or known[ALL].size != len(entries)):
        mirror.add(ALL, len(entries), "")
    return mirror.folder


def refuse_missing(location: Location, names: Collection[str]) -> None:
    """Raise FileNotFoundError unless a store has all these names below a folder; of a web server nothing is known."""
    if not location.is_web:
        wanted = set(names)
        _refuse_missing(location, list(_wanted(location, wanted, None)), wanted)


def exists(where: Where) -> bool:
    """Whether there is such a file, on disk, in a store or on the web."""
    return _is_there(at(where))


def first_there(candidates: Sequence[Path | Location]) -> Path | Location | None:
    """The first of some files that is there; where that cannot be asked, the first one with a copy in the cache.

    None where there is none of them. Raises what `fetch_file` raises.
    """
    kept = next(filter(_has_copy, candidates), None)
    try:
        return next((one for one in candidates if _is_there(one, kept=kept is not None)), None)
    except ConnectionError:
        if kept is None:
            raise
        return kept


def _is_there(found: Path | Location, *, kept: bool = False) -> bool:
    if isinstance(found, Path):
        return found.is_file()
    if found.is_web:
        return web.exists(found)
    with _waiting(found, kept=kept) as seconds:
        return head(found, seconds) is not None


@contextmanager
def _waiting(location: Location, *, kept: bool) -> Iterator[float | None]:
    """Give the seconds to wait for a store; one that was silent before is asked, and not waited for again.

    kept   whether there is a copy to take; without one the patience is as everywhere
    """
    bucket = f"{endpoint(location)} {location.bucket}"
    seconds = 0.0 if bucket in SILENT else min(patience(), OFFLINE_PATIENCE)
    try:
        yield seconds if kept else None
    except ConnectionError:
        SILENT.add(bucket)
        raise
    SILENT.discard(bucket)


def _has_copy(found: Path | Location) -> bool:
    if isinstance(found, Path):
        return False
    mirror = Mirror(found.parent)
    return mirror.has(mirror.read().get(found.name))


def _wanted(location: Location, names: Collection[str] | None, seconds: float | None) -> Iterator[Entry]:
    """Objects below a folder; of a few names one by one, else as the store lists them."""
    if names is not None and len(names) <= PARALLEL:
        for name in names:
            entry = head(location / name, seconds)
            if entry is not None:
                yield entry._replace(key=name)
        return
    yield from (entry for entry in listing(location, seconds) if names is None or entry.key in names)


def _refuse_missing(location: Location, entries: Collection[Entry], names: Collection[str] | None) -> None:
    if not entries and not names:
        raise FileNotFoundError(f"{location} holds nothing; {_neighbours(location)}")
    missing = sorted(set(names or ()) - {entry.key for entry in entries})
    if missing:
        raise FileNotFoundError(
            f"{location} lacks {some_of(missing, 3)} ({len(missing)} of {len(names or ())} files are missing); "
            "complete it, or correct the names"
        )


def _bring(mirror: Mirror, entries: Collection[Entry], say: Say) -> None:
    """Copy what is not there yet, one process at a time."""
    known = mirror.read()
    if all(mirror.has(known.get(entry.key), entry) for entry in entries):
        return
    with mirror.alone(say) as drafts:
        known = mirror.read()  # another process may have copied meanwhile
        missing = [entry for entry in entries if not mirror.has(known.get(entry.key), entry)]
        if not missing:
            return
        total = sum(entry.size for entry in missing)
        _refuse_full(mirror, total)
        what = mirror.location / missing[0].key if len(entries) == 1 else mirror.location
        say(f"copying {what} ({len(missing)} of {len(entries)} files, {total / 1e6:.1f} MB) to {mirror.folder}")
        with writing(mirror.folder):
            copy_all(
                mirror.location,
                missing,
                mirror.path,
                drafts,
                lambda entry: mirror.add(entry.key, entry.size, entry.mark),
                Meter(f"copying {what}"),
            )


def _refuse_full(mirror: Mirror, needed: int) -> None:
    free = shutil.disk_usage(mirror.folder).free
    if needed > free:
        raise OSError(
            f"{mirror.location}: {needed / 1e9:.1f} GB are to be copied, and {mirror.folder} has room for "
            f"{free / 1e9:.1f} GB; set MASKRCNN_CACHE to a larger disk, or read data uncopied by data.remote=stream"
        )


def _offline(path: Path, known: Copied, error: ConnectionError, say: Say) -> Path:
    moment = time.strftime("%Y-%m-%d %H:%M", time.localtime(known.modified_ns / 1e9))
    say(f"{error}; meanwhile the copy of {moment} is taken: {path}")
    return path


def _neighbours(location: Location) -> str:
    """What is there instead, for a message."""
    try:
        names = [entry.key for entry in islice(listing(location.parent, min(patience(), OFFLINE_PATIENCE)), 8)]
    except FileNotFoundError as error:  # not even the bucket
        return str(error)
    except (OSError, ValueError):
        return "correct the address"
    return f"{location.parent} holds {some_of(names)}" if names else f"{location.parent} holds nothing"
