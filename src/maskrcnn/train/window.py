"""The steps since the last line of the log: the only place where training waits for its numbers."""

import math
import time
from typing import NamedTuple

import torch

from maskrcnn.train.step import COUNT, GRADIENT_NORM, Losses


class Step(NamedTuple):
    """One update, as it was queued on the device."""

    number: int
    losses: Losses
    image_ids: list[list[int]]
    """Of each micro-batch of this process."""
    waited: float
    """Seconds until its pictures were there."""


class Means(NamedTuple):
    """A window in numbers."""

    losses: dict[str, float]
    counts: dict[str, float]
    steps_per_second: float
    waiting: float
    """Share of the time in which the model waited for pictures."""

    @property
    def total(self) -> float:
        return sum(self.losses.values())


class Window:
    """Collects steps without waiting for the device until `read`."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._start = time.perf_counter()

    def read(self, *, overflow_allowed: bool = False) -> Means:
        """Wait for the device and average each entry over the steps.

        overflow_allowed   the gradient may be infinite, because fp16's loss scale is there to meet that
        Raises FloatingPointError at the first step whose losses or gradient are not finite, in every process.
        """
        names = self.steps[0].losses.names
        rows = torch.stack([step.losses.mean for step in self.steps]).tolist()
        for step, row in zip(self.steps, rows, strict=True):
            bad = {name: value for name, value in zip(names, row, strict=True) if not math.isfinite(value)}
            if overflow_allowed:
                bad.pop(GRADIENT_NORM, None)
            if bad:
                raise FloatingPointError(_accusation(step, bad))
        seconds = time.perf_counter() - self._start
        means = {name: sum(column) / len(rows) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
        return Means(
            losses={name: value for name, value in means.items() if not name.startswith(COUNT)},
            counts={name.removeprefix(COUNT): value for name, value in means.items() if name.startswith(COUNT)},
            steps_per_second=len(rows) / seconds,
            waiting=min(1.0, sum(step.waited for step in self.steps) / seconds),
        )


def _accusation(step: Step, bad: dict[str, float]) -> str:
    entries = ", ".join(f"{name} {value}" for name, value in bad.items())
    images = _bad_images(step)
    if images:
        where = f"from the images {_listed(images)}"
    elif set(bad) == {GRADIENT_NORM}:
        where = f"though the losses of the images {_listed(step.image_ids)} are finite"
    else:
        where = "from another process, which names the images"
    return (
        f"step {step.number} is not finite: {entries}, {where}; lower train.optimizer.lr, lengthen "
        "train.schedule.warmup_steps or look at these annotations, and go on from the last checkpoint"
    )


def _bad_images(step: Step) -> list[list[int]]:
    finite = step.losses.parts.isfinite().all(dim=1).tolist()
    return [images for images, is_finite in zip(step.image_ids, finite, strict=True) if not is_finite]


def _listed(micro_batches: list[list[int]]) -> str:
    return ", ".join(str(image) for images in micro_batches for image in images)
