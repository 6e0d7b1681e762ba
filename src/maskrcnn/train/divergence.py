"""Whether the losses of a run have grown, and which checkpoint is from before they did.

Every number can be finite and all of them worthless: weights that exploded give losses in the millions. Each checkpoint
holds what is needed to tell, so that a run which goes on judges as one that was never stopped.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

GROWN = 3.0
"""Times the lowest mean loss so far from which on losses have grown: noise and warm restarts stay below."""
AT_FIRST = 10.0
"""Times the first loss of all from which on losses have grown before there is a mean to compare with."""
FLOOR_AT_FIRST = 1.0
"""First loss below which it is chance: an image without objects."""
FLOOR = 0.1
"""Loss below which a difference is noise, however small the lowest one was."""
FEWEST = 8
"""Steps of which a mean is taken at least, if so many were done: single steps of small batches differ by this much."""
SUSPECTS = 2
"""Checkpoints that are remembered: the update that made the newest one may have been the first to go wrong."""


@dataclass
class Course:
    """Total losses of a run, a mean for each checkpoint. All processes have the same."""

    loss: float | None = None
    """Mean of the steps between the last two checkpoints."""
    lowest: float = math.inf
    """Lowest mean at any checkpoint."""
    recent: list[float] = field(default_factory=list)
    """The last steps before the last checkpoint."""
    sound: list[int] = field(default_factory=list)
    """Steps of the newest checkpoints from before the losses grew, ascending."""
    saved: int = 0
    """Step of the last checkpoint."""
    since: list[float] = field(default_factory=list)
    """Steps since then."""

    @classmethod
    def of(cls, step: int, state: dict[str, Any]) -> "Course":
        """The course up to a checkpoint, from its state; one that was written by an earlier version knows nothing."""
        stored = state.get("course", {"lowest": None, "recent": [], "sound": [step]})
        lowest = math.inf if stored["lowest"] is None else stored["lowest"]
        return cls(state.get("loss"), lowest, stored["recent"], stored["sound"], saved=step)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds, for `of`."""
        lowest = None if math.isinf(self.lowest) else self.lowest
        return {"loss": self.loss, "course": {"lowest": lowest, "recent": self.recent, "sound": self.sound}}

    def add(self, totals: Iterable[tuple[int, float]]) -> None:
        """Count the steps, each with its number and total loss, that were not counted yet."""
        self.since += [total for step, total in totals if step > self.saved + len(self.since)]

    def close(self, step: int, keep: int) -> None:
        """Judge the steps up to a checkpoint.

        keep   checkpoints that there are besides the one that is kept because the losses grew
        """
        late, has_grown = self._late, self.has_grown
        if has_grown:
            self.sound = self.before_growth
            self.lowest = min(self.lowest, self._first)
        else:
            self.sound = [*(one for one in self.sound if one != step), step][-min(keep, SUSPECTS) :]
            self.lowest = min(self.lowest, fmean(late)) if late else self.lowest
        self.loss = fmean(self.since) if self.since else self.loss
        self.recent, self.since, self.saved = late[-FEWEST:], [], step

    @property
    def is_grown(self) -> bool:
        """Whether the last checkpoint is from after the losses grew."""
        return self.saved not in self.sound

    @property
    def has_grown(self) -> bool:
        """Whether the mean of the last steps is far above the lowest one."""
        return bool(self._late) and fmean(self._late) > self._bound

    @property
    def before_growth(self) -> list[int]:
        """Checkpoints from before, given that the losses have grown by now.

        The newest is left out where the very first step after it was too high already, or is not known.
        """
        is_suspect = self.sound[-1:] == [self.saved] and (not self.since or self.since[0] > self._bound)
        return self.sound[:-1] if is_suspect and len(self.sound) > 1 else self.sound

    @property
    def _bound(self) -> float:
        return AT_FIRST * self._first if math.isinf(self.lowest) else GROWN * max(self.lowest, FLOOR)

    @property
    def _first(self) -> float:
        """What losses were before any step, while no mean is known."""
        return max(self.since[0], FLOOR_AT_FIRST) if math.isinf(self.lowest) and self.since else math.inf

    @property
    def _late(self) -> list[float]:
        return [*self.recent, *self.since][-max(FEWEST, len(self.since)) :]
