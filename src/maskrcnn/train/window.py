"""The steps since the last line of the log: the only place where training waits for its numbers."""

import math
import time
from typing import NamedTuple

import torch

from maskrcnn.train.step import COUNT, GRADIENT_NORM, Losses
from maskrcnn.train.stopwatch import Stopwatch


class StepRecord(NamedTuple):
    """One update, as it was queued on the device."""

    number: int
    losses: Losses
    image_ids: list[list[int]]
    """Ids of the images of each micro-batch of this process."""


class Means(NamedTuple):
    """A window in numbers."""

    losses: dict[str, float]
    counts: dict[str, float]
    steps_per_second: float
    waiting: float
    """Share of the time in which the model waited for images."""

    @property
    def total(self) -> float:
        return sum(self.losses.values())


class Window:
    """Collects steps without waiting for the device until it is asked for their numbers.

    Its stopwatch runs only in steps and while it waits for them, not while others write or evaluate.
    """

    def __init__(self, stopwatch: Stopwatch, *, overflow_allowed: bool = False) -> None:
        """An empty window.

        overflow_allowed   the gradient may be infinite, because fp16's loss scale is there to meet that
        """
        self.steps: list[StepRecord] = []
        self.stopwatch = stopwatch
        self.totals: list[tuple[int, float]] = []
        """Number and total loss of each step that `check` found finite."""
        self._overflow_allowed = overflow_allowed

    def check(self) -> list[list[float]]:
        """Wait for the device, and check the entries of each step, which it returns.

        Raises FloatingPointError at the first step whose losses or gradient are not finite, in every process.
        """
        if not self.steps:
            return []
        begin = time.perf_counter()
        rows = torch.stack([step.losses.mean for step in self.steps]).tolist()
        self.stopwatch.settle(time.perf_counter() - begin)
        self.totals = []
        for step, row in zip(self.steps, rows, strict=True):
            bad = {name: value for name, value in zip(step.losses.names, row, strict=True) if not math.isfinite(value)}
            if self._overflow_allowed:
                bad.pop(GRADIENT_NORM, None)
            if bad:
                raise FloatingPointError(_non_finite_message(step, bad))
            losses = [value for name, value in zip(step.losses.names, row, strict=True) if not name.startswith(COUNT)]
            self.totals.append((step.number, sum(losses)))
        return rows

    def read(self) -> Means:
        """`check`, and the mean of each entry over the steps."""
        rows = self.check()
        names = self.steps[0].losses.names
        means = {name: sum(column) / len(rows) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
        spent = self.stopwatch.read()
        return Means(
            losses={name: value for name, value in means.items() if not name.startswith(COUNT)},
            counts={name.removeprefix(COUNT): value for name, value in means.items() if name.startswith(COUNT)},
            steps_per_second=len(rows) / spent.seconds,
            waiting=spent.waited / spent.seconds,
        )


def _non_finite_message(step: StepRecord, bad: dict[str, float]) -> str:
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
        "train.schedule.warmup_steps or look at these annotations"
    )


def _bad_images(step: StepRecord) -> list[list[int]]:
    finite = step.losses.parts.isfinite().all(dim=1).tolist()
    return [images for images, is_finite in zip(step.image_ids, finite, strict=True) if not is_finite]


def _listed(micro_batches: list[list[int]]) -> str:
    return ", ".join(str(image) for images in micro_batches for image in images)
