"""A line on stderr that says how far something long is."""

import sys
import time

from maskrcnn.sentences import printable
from maskrcnn.terminal import bare

ELSEWHERE = 5.0
"""Seconds between two lines where there is no terminal."""


class StatusLine:
    """Is rewritten in place on a terminal; elsewhere a new line comes now and then.

    every   seconds between two sentences on a terminal
    """

    def __init__(self, every: float) -> None:
        self._in_place = sys.stderr.isatty()
        self._every = every if self._in_place else ELSEWHERE
        self.begin = self._told = time.monotonic()

    def is_due(self, now: float) -> bool:
        """Whether it is time for the next sentence."""
        return now - self._told >= self._every

    def say(self, sentence: str, now: float) -> None:
        """Put a sentence in the place of the last."""
        self._told = now
        told = f"\r\x1b[K{printable(sentence)}\r" if self._in_place else f"{printable(sentence)}\n"
        print(told, end="", file=bare(sys.stderr), flush=True)

    def clear(self) -> None:
        """Leave nothing on a terminal: it is done."""
        if self._in_place:
            print("\r\x1b[K", end="", file=bare(sys.stderr), flush=True)
