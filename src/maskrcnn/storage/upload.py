"""A folder that is uploaded by a thread while others write to it, and is complete in the store at the end."""

import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from maskrcnn.sentences import some_of, typed
from maskrcnn.storage.location import Location
from maskrcnn.storage.outgoing import Outgoing
from maskrcnn.storage.staging import refuse_a_run, results_folder, staging_folder
from maskrcnn.storage.write import check_writable

EVERY = 1.0
"""Seconds between looks at the folder."""
LONGEST_PAUSE = 60.0
"""Seconds between attempts while the store fails, at most."""
AT_END, AFTER_ERROR = 600.0, 60.0
"""Seconds in which what is left must get through: at the end, and when a run was stopped or failed."""


class Upload:
    """The thread, and what it has to say. It never raises into the run: it tries again, and tells once."""

    def __init__(self, outgoing: Outgoing, say: Callable[[str], None], every: float) -> None:
        self.outgoing = outgoing
        self._say = say
        self._every = every
        self._failures = 0
        self._ending = threading.Event()
        self._deadline = 0.0
        self._thread = threading.Thread(target=self._work, name="upload", daemon=True)
        self._thread.start()

    def finish(self, seconds: float) -> list[str]:
        """Upload what is left, and return the names of what did not get there in that time."""
        self._deadline = time.monotonic() + seconds
        self._ending.set()
        while self._thread.is_alive() and time.monotonic() < self._deadline:
            self._thread.join(timeout=0.1)  # a signal is heard in between
        return self.outgoing.missing()

    def _work(self) -> None:
        while not self._ending.wait(self._pause()):
            self._attempt(self.outgoing.push)
        while not self._attempt(self._complete) and time.monotonic() < self._deadline:
            time.sleep(min(1.0, self._every))

    def _complete(self) -> None:
        """Upload all, look whether the store has it, and upload again what it lost."""
        self.outgoing.push()
        self.outgoing.compare()
        self.outgoing.push()

    def _attempt(self, upload: Callable[[], None]) -> bool:
        try:
            upload()
        except Exception as error:  # whatever it is, training goes on
            self._failures += 1
            if self._failures == 1:
                self._say(f"uploading to {self.outgoing.location} does not succeed for now, and goes on later: {error}")
            return False
        if self._failures:
            self._say(f"uploading to {self.outgoing.location} goes on")
        self._failures = 0
        return True

    def _pause(self) -> float:
        return min(self._every * 2**self._failures, LONGEST_PAUSE)


@contextmanager
def uploading(
    folder: Path, location: Location | Path, say: Callable[[str], None], *, active: bool = True
) -> Iterator[None]:
    """Keep an address like a folder while the context lasts; at its end everything is there.

    location   a path means that nothing is uploaded
    say        told once when the store fails, and when it answers again
    active     False in all processes but one
    Raises ConnectionError at the end where something is not there, with what and where it is kept.
    """
    if isinstance(location, Path) or not active:
        yield
        return
    upload = Upload(Outgoing(folder, location), say, EVERY)
    try:
        yield
    except BaseException:
        missing = upload.finish(AFTER_ERROR)
        if missing:
            say(_incomplete(missing, folder, location))
        raise
    missing = upload.finish(AT_END)
    if missing:
        raise ConnectionError(_incomplete(missing, folder, location))
    print(f"everything is at {location}", flush=True)


@contextmanager
def publishing(location: Path | Location, *, active: bool = True) -> Iterator[Path]:
    """A folder to write results to: a path itself, or one whose content gets to an address.

    active   as of `uploading`
    That folder is this process's own, and is removed when everything is at the address. Raises ValueError where a run
    is or belongs there, OSError where it cannot be written, before any work is done and at the end.
    """
    if isinstance(location, Path):
        yield location
    elif not active:
        yield staging_folder(location)
    else:
        check_writable(location)
        refuse_a_run(location)
        folder = results_folder(location)
        with uploading(folder, location, tell):
            yield folder
        shutil.rmtree(folder.parent)


def tell(text: str) -> None:
    """What happens to an upload, on stderr, beside what a command prints."""
    print(text, file=sys.stderr, flush=True)


def _incomplete(missing: list[str], folder: Path, location: Location) -> str:
    number = "1 file is" if len(missing) == 1 else f"{len(missing)} files are"
    return (
        f"{number} not at {location}: {some_of(missing)}; they are kept in {folder}; run the command again, "
        f"a training with {typed('--resume')} auto"
    )
