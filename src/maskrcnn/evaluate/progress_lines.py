"""How far a long evaluation is, in words."""

import time
from collections.abc import Callable
from datetime import timedelta


class Ticker:
    """Tells a sentence now and then; `evaluate` calls it after each batch, of tiles even if no image is done by it."""

    def __init__(self, tell: Callable[[str], None], every: float) -> None:
        """every   seconds between two sentences; an evaluation that is over sooner is not spoken of"""
        self._tell, self._every = tell, every
        self._begin = self._told = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done == total:
            if self._told > self._begin:
                self._tell("scoring")
        elif now - self._told >= self._every:
            self._told = now
            self._tell(f"evaluating: {done / total:.0%} done{self._left(now, done, total)}")

    def _left(self, now: float, done: int, total: int) -> str:
        """The time that is left; nothing is said of it before the first image, of many tiles, is done."""
        return f", {timedelta(seconds=round((now - self._begin) / done * (total - done)))} left" if done else ""
