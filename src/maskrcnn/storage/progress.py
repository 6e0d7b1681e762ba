"""How far a copy is."""

import time
from collections.abc import Callable

from maskrcnn.status_line import StatusLine

Say = Callable[[str], None]
Progress = Callable[[int, int], None]
"""Called with the bytes that are done and those in total, 0 where that is unknown."""


class Meter:
    """Progress of a copy on stderr."""

    def __init__(self, doing: str) -> None:
        self._doing, self._line = doing, StatusLine(0.5)
        self._begin = self._line.begin
        self._first: int | None = None

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self._first is None or done < self._first:  # the first part of a resumed file is not part of the rate
            self._first, self._begin = done, now
        if done == total:
            self._line.clear()
        elif self._line.is_due(now):
            share = f"{done / total:.0%} of {total / 1e6:.0f} MB" if total else f"{done / 1e6:.0f} MB"
            rate = (done - self._first) / 1e6 / max(now - self._begin, 1e-9)
            self._line.say(f"{self._doing}: {share}, {rate:.1f} MB/s", now)
