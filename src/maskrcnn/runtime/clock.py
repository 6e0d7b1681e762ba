"""Moments by the clock of the device that does the work: the host is ahead of a GPU and would only time its asking."""

import time

import torch

from maskrcnn.runtime.devices import function_of, synchronize

Mark = float | torch.Event
"""Seconds of the host's clock, or a moment in the device's queue."""


def mark(device: torch.device) -> Mark:
    """This moment: on a device with a queue, when it has done what was queued so far.

    Nobody waits, but where torch does not show the queue (mps): there only the host has a clock.
    """
    if device.type == "cpu":
        return time.perf_counter()
    current_stream = function_of(device, "current_stream")
    if current_stream is None:
        synchronize(device)
        return time.perf_counter()
    event = torch.Event(device.type, enable_timing=True)
    event.record(current_stream(device))
    return event


def seconds_between(first: Mark, second: Mark) -> float:
    """From one mark to another of the same device, which has passed both."""
    if isinstance(first, torch.Event) and isinstance(second, torch.Event):
        return float(first.elapsed_time(second)) / 1000
    assert isinstance(first, float), "marks of one device are of one kind"
    assert isinstance(second, float), "as the first"
    return second - first
