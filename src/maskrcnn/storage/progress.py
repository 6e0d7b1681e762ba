"""How far a copy is."""

import sys
import time
from collections.abc import Callable

Say = Callable[[str], None]
Progress = Callable[[int, int], None]
"""Called with the bytes that are done and those in total, 0 where that is unknown."""


class Meter:
    """Progress of a copy on stderr: a line that is rewritten on a terminal, else one every five seconds."""

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._in_place = sys.stderr.isatty()
        self._every = 0.5 if self._in_place else 5.0
        self._begin = self._told = time.monotonic()
        self._first: int | None = None

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self._first is None or done < self._first:  # the first part of a resumed file is not part of the rate
            self._first, self._begin = done, now
        if self._in_place and done == total:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        elif done != total and now - self._told >= self._every:
            self._told = now
            share = f"{done / total:.0%} of {total / 1e6:.0f} MB" if total else f"{done / 1e6:.0f} MB"
            rate = (done - self._first) / 1e6 / max(now - self._begin, 1e-9)
            sentence = f"{self._doing}: {share}, {rate:.1f} MB/s"
            line = f"\r\x1b[K{sentence}\r" if self._in_place else f"{sentence}\n"
            print(line, end="", file=sys.stderr, flush=True)
