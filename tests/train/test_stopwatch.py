"""Time of steps, and of waiting for pictures, by two kinds of clock."""

import pytest
import torch

from maskrcnn.train import stopwatch
from maskrcnn.train.stopwatch import DeviceStopwatch, HostStopwatch, stopwatch_for


def test_the_host_counts_from_asking_for_pictures_to_the_end_and_what_the_loader_waited(monkeypatch):
    moments = iter([10.0, 12.0, 20.0, 21.0])
    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: next(moments))
    watch = HostStopwatch()
    for waited in (0.5, 0.0):
        watch.fetch()
        watch.begin(waited)
        watch.end()
        watch.pause()
    watch.settle(1.0)  # for the device's last numbers
    assert watch.read() == (4.0, 0.5)


def test_a_device_waits_between_the_end_of_a_step_and_the_beginning_of_the_next(monkeypatch):
    moments = iter([0.0, 1.0, 3.0, 3.5, 5.5, 100.0, 101.0])
    monkeypatch.setattr(stopwatch, "mark", lambda device: next(moments))
    watch = DeviceStopwatch(torch.device("cuda"))
    for pause in (False, True, False):  # an evaluation comes before the third step
        watch.fetch()
        watch.begin(waited=9.0)
        watch.end()
        if pause:
            watch.pause()
    spent = watch.read()
    assert spent.seconds == pytest.approx(4.5 + 1.0)
    assert spent.waited == pytest.approx(0.5)


def test_processors_have_the_host_s_clock():
    assert isinstance(stopwatch_for(torch.device("cpu")), HostStopwatch)
