"""How long steps take and how long they wait for images, measured where they run.

On a GPU the host is ahead of the device and its clock sees neither: events on the device do, without anybody waiting.
"""

import time
from itertools import pairwise
from typing import NamedTuple

import torch

from maskrcnn.runtime.clock import Mark, mark, seconds_between


class Spent(NamedTuple):
    """Seconds of some steps, and those of them in which there was nothing to do."""

    seconds: float
    waited: float


class HostStopwatch:
    """For devices that have done a step when the call returns, or when its numbers are read."""

    def __init__(self) -> None:
        self._seconds = self._waited = self._fetched = 0.0

    def fetch(self) -> None:
        """A step's images are asked for."""
        self._fetched = time.perf_counter()

    def begin(self, waited: float) -> None:
        """The images are here, after `waited` seconds of waiting for the loader."""
        self._waited += waited

    def end(self) -> None:
        """The step is queued."""
        self._seconds += time.perf_counter() - self._fetched

    def pause(self) -> None:
        """What comes before the next step is no part of any."""

    def settle(self, seconds: float) -> None:
        """Count the seconds that the host then waited for the device to finish."""
        self._seconds += seconds

    def read(self) -> Spent:
        """Seconds of all steps so far, which are done."""
        return Spent(self._seconds, self._waited)


class DeviceStopwatch:
    """For GPUs: waiting is the time between the end of a step and the beginning of the next, by the device's clock."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._begin = mark(device)
        self._stretches: list[list[tuple[Mark, Mark]]] = [[]]
        """Steps without a pause between them."""

    def fetch(self) -> None:
        """A step's images are asked for, which the device does not notice."""

    def begin(self, waited: float) -> None:
        """The device may begin as soon as it has done what was queued before. What the host waited does not count."""
        self._begin = mark(self._device)

    def end(self) -> None:
        """The step is queued."""
        self._stretches[-1].append((self._begin, mark(self._device)))

    def pause(self) -> None:
        """What comes before the next step is no part of any."""
        if self._stretches[-1]:
            self._stretches.append([])

    def settle(self, seconds: float) -> None:
        """Do nothing: events have counted what the host waited."""

    def read(self) -> Spent:
        """Seconds of all steps so far, which are done."""
        seconds = waited = 0.0
        for steps in filter(None, self._stretches):
            seconds += seconds_between(steps[0][0], steps[-1][1])
            waited += sum(seconds_between(end, begin) for (_, end), (begin, _) in pairwise(steps))
        return Spent(seconds, waited)


Stopwatch = HostStopwatch | DeviceStopwatch


def stopwatch_for(device: torch.device) -> Stopwatch:
    return DeviceStopwatch(device) if device.type == "cuda" else HostStopwatch()
