"""Objects copied to files: many at once, large ones in parts, each verified before it gets its name."""

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from threading import Lock
from uuid import uuid4

from maskrcnn.files import sync
from maskrcnn.storage.location import Location
from maskrcnn.storage.progress import Progress
from maskrcnn.storage.store import ATTEMPTS, Entry, read_object

PARALLEL = 16
"""Number of requests under way."""
PART = 8 << 20
"""Bytes of a part; smaller objects are read at once."""
SMALL = ".new"
"""Ending of the draft of a small file."""
SAME = 3
"""Copies in a row that must agree before a mark is taken to be no digest."""
MD5 = re.compile(r"[0-9a-f]{32}")
"""Mark that may be the digest of the content: an object's that was uploaded at once and is not encrypted by a key."""

Find = Callable[[str], Path]
Kept = Callable[[Entry], None]


class Marks:
    """What is known of a folder's marks: whether those that look like digests are any.

    Stores give objects that are encrypted by a key marks that look like an MD5 and are none. So content that does not
    have it is copied again, and right once three copies were the same; where no object's mark was its MD5 so far,
    those of later objects are not looked at.
    """

    def __init__(self) -> None:
        self._are_digests: bool | None = None

    def may_be(self, mark: str) -> bool:
        """Whether content must be compared with its mark."""
        return self._are_digests is not False and bool(MD5.fullmatch(mark))

    def are_of(self, mark: str, copies: Sequence[str]) -> bool:
        """Whether the last copy is right, by the digests of all that were made; an empty one is not compared."""
        if not copies[-1]:
            return True
        if copies[-1] == mark:
            self._are_digests = True
            return True
        is_same = len(copies) >= SAME and len(set(copies[-SAME:])) == 1
        if is_same and self._are_digests is None:
            self._are_digests = False
        return is_same


class Tally:
    """Bytes copied so far, by several threads."""

    def __init__(self, total: int, progress: Progress) -> None:
        self._total, self._progress = total, progress
        self._done, self._lock = 0, Lock()

    def add(self, size: int) -> None:
        with self._lock:
            self._done += size
            self._progress(self._done, self._total)


def copy_all(
    location: Location, entries: Sequence[Entry], find: Find, drafts: Path, kept: Kept, progress: Progress
) -> None:
    """Copy objects below a remote folder to files.

    find     the file of a name
    drafts   a folder on the same disk, for what is not whole yet: no other process may use it. Of large files that an
             earlier process left there it goes on with the parts
    kept     called for each file once it is whole, by this thread
    Raises what `read_object` raises, and ConnectionError where what arrives is not what the store tells of. What is
    complete by then is kept.
    """
    drafts.mkdir(exist_ok=True)
    for left in drafts.glob(f"*{SMALL}"):
        left.unlink(missing_ok=True)
    tally, marks = Tally(sum(entry.size for entry in entries), progress), Marks()
    pool = ThreadPoolExecutor(PARALLEL, thread_name_prefix="copies")
    try:
        for entry in (entry for entry in entries if entry.size > PART):
            _copy_large(location / entry.key, entry, find(entry.key), drafts, pool, tally, marks)
            kept(entry)
        jobs = {
            pool.submit(_copy_small, location / entry.key, entry, find(entry.key), drafts, tally, marks): entry
            for entry in entries
            if entry.size <= PART
        }
        for job in as_completed(jobs):
            job.result()
            kept(jobs[job])
    finally:
        pool.shutdown(cancel_futures=True)


def _copy_small(location: Location, entry: Entry, path: Path, drafts: Path, tally: Tally, marks: Marks) -> None:
    copies: list[str] = []
    for _ in range(ATTEMPTS):
        content = read_object(location, mark=entry.mark)
        if len(content) != entry.size:
            continue
        copies.append(_md5(content).hexdigest() if marks.may_be(entry.mark) else "")
        if marks.are_of(entry.mark, copies):
            draft = drafts / f"{uuid4().hex}{SMALL}"
            draft.write_bytes(content)
            path.parent.mkdir(parents=True, exist_ok=True)
            draft.replace(path)
            return tally.add(entry.size)
    raise _broken(location, entry)


def _copy_large(
    location: Location, entry: Entry, path: Path, drafts: Path, pool: ThreadPoolExecutor, tally: Tally, marks: Marks
) -> None:
    """Fill a file part by part."""
    draft = drafts / f"{hashlib.sha256(entry.key.encode()).hexdigest()[:16]}.part"
    copies: list[str] = []
    for _ in range(ATTEMPTS):
        parts = Parts(draft, entry)
        tally.add(parts.done_bytes)
        _together(pool.submit(_copy_part, location, entry, parts, index, tally) for index in parts.missing)
        copies.append(_digest(draft) if marks.may_be(entry.mark) else "")
        if marks.are_of(entry.mark, copies):
            path.parent.mkdir(parents=True, exist_ok=True)
            draft.replace(path)
            return parts.forget()
        parts.forget()
        tally.add(-entry.size)
    raise _broken(location, entry)


def _copy_part(location: Location, entry: Entry, parts: "Parts", index: int, tally: Tally) -> None:
    begin, end = index * PART, min((index + 1) * PART, entry.size)
    for _ in range(ATTEMPTS):
        content = read_object(location, (begin, end), entry.mark)
        if len(content) == end - begin:
            parts.write(index, content)
            return tally.add(len(content))
    raise _broken(location, entry)


class Parts:
    """A file that is filled in any order, and beside it the numbers of the parts that it has."""

    def __init__(self, draft: Path, entry: Entry) -> None:
        self._draft, self._notes = draft, draft.with_name(f"{draft.name}.done")
        self._lock = Lock()
        first = f"{entry.size} {entry.mark} {PART}"
        count = -(-entry.size // PART)
        done = self._done(first, entry, count)
        self.missing = [index for index in range(count) if index not in done]
        self.done_bytes = sum(min(PART, entry.size - index * PART) for index in done)
        if not done:
            self._begin(first, entry.size)

    def write(self, index: int, content: bytes) -> None:
        """Put a part in its place, and note it once the disk has it."""
        with self._draft.open("rb+") as stream:
            stream.seek(index * PART)
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        with self._lock, self._notes.open("a", encoding="ascii") as notes:
            notes.write(f"{index}\n")

    def forget(self) -> None:
        """Remove what is no longer needed."""
        self._notes.unlink(missing_ok=True)
        self._draft.unlink(missing_ok=True)

    def _done(self, first: str, entry: Entry, count: int) -> set[int]:
        """Parts that an earlier process wrote of the very same object; none where that cannot be told."""
        try:
            lines = self._notes.read_text(encoding="ascii").splitlines()
            if not entry.mark or lines[:1] != [first] or self._draft.stat().st_size != entry.size:
                return set()
        except (OSError, UnicodeError):
            return set()
        return {int(line) for line in lines[1:] if line.isdigit() and int(line) < count}

    def _begin(self, first: str, size: int) -> None:
        self._notes.unlink(missing_ok=True)
        with self._draft.open("wb") as stream:
            stream.truncate(size)
        sync(self._draft)
        self._notes.write_text(f"{first}\n", encoding="ascii")


def _together(jobs: Iterable[Future[None]]) -> None:
    """Wait for all; where one fails, those that have not begun are called off."""
    started = list(jobs)
    try:
        for job in as_completed(started):
            job.result()
    except BaseException:
        for job in started:
            job.cancel()
        raise


def _broken(location: Location, entry: Entry) -> ConnectionError:
    return ConnectionError(
        f"copying {location}: {ATTEMPTS} copies in a row were not the {entry.size:,} bytes with the mark {entry.mark} "
        "that the store tells of; look at what lies between the store and here, then run the command again"
    )


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, _md5).hexdigest()


def _md5(data: bytes = b"") -> "hashlib._Hash":
    return hashlib.md5(data, usedforsecurity=False)
