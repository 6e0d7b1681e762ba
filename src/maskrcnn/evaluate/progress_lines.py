"""How far a long evaluation is, in words."""

import time
from collections.abc import Callable
from datetime import timedelta


class Ticker:
    """Tells a sentence now and then; `evaluate` calls it after each batch."""

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
            left = timedelta(seconds=round((now - self._begin) / done * (total - done)))
            self._tell(f"evaluating: {done / total:.0%} done, {left} left")
