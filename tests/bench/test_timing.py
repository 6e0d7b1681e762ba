"""Rivals take turns, medians are of single calls, and what does not fit is told."""

import pytest
import torch

from maskrcnn.bench import timing
from maskrcnn.bench.timing import Cost, compare, in_turns, stages_in_turns, steady_seconds

CPU = torch.device("cpu")


class Clock:
    """Stands still but for what works spend."""

    def __init__(self):
        self.now, self.calls = 0.0, []

    def work(self, name, *seconds):
        """Spends these seconds, one after the other, the last again and again."""
        left = list(seconds)

        def call():
            self.calls.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return call


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing, "mark", lambda device: clock.now)
    return clock


def test_rivals_take_turns_after_a_warm_up(clock):
    assert in_turns({"a": clock.work("a", 2.0), "b": clock.work("b", 3.0)}, CPU, 2) == {"a": 2.0, "b": 3.0}
    assert "".join(clock.calls) == "aaabbb" + "abab"


def test_one_disturbed_measurement_does_not_count(clock):
    warm_up = [9.0, 9.0, 1.0]
    assert in_turns({"a": clock.work("a", *warm_up, 1.0, 50.0, 1.25, 1.0, 1.25)}, CPU, 5) == {"a": 1.25}


def test_short_work_is_called_often_enough_to_be_measured(clock):
    spent = in_turns({"a": clock.work("a", 0.02)}, CPU, 1)
    assert spent["a"] == pytest.approx(0.02)
    assert len(clock.calls) == 3 + 3  # 0.06 seconds are the first multiple above LEAST_SECONDS


def test_stages_are_told_apart(clock):
    def step(on_stage):
        clock.now += 1.0
        on_stage("there")
        clock.now += 4.0
        on_stage("back")

    assert stages_in_turns({"ours": step}, CPU, 3) == {"ours": {"there": 1.0, "back": 4.0}}


def test_batches_made_ahead_are_not_timed(clock):
    def batches():
        for number in range(100):
            clock.now += 0.0 if number < 4 else 2.0
            yield number

    assert steady_seconds(batches(), CPU, skip=4, count=3) == 2.0


def test_works_that_do_not_fit_together_are_measured_alone_and_those_that_never_fit_are_none(clock):
    made = []

    def maker(name):
        def make():
            made.append(name)
            if name == "huge" or made == ["small", "large"]:
                raise torch.OutOfMemoryError
            return clock.work(name, 1.0)

        return make

    costs = compare({name: maker(name) for name in ("small", "large", "huge")}, CPU, 1)
    assert costs == {"small": Cost(1.0, None), "large": Cost(1.0, None), "huge": None}
    assert made == ["small", "large", "small", "large", "huge"]


def test_a_recording_that_broke_off_for_want_of_memory_counts_as_that(clock):
    def make():
        try:
            raise torch.OutOfMemoryError
        except torch.OutOfMemoryError:
            raise RuntimeError("the recording was invalidated")  # noqa: B904

    assert compare({"a": make}, CPU, 1) == {"a": None}


def test_other_errors_are_not_hidden():
    def make():
        raise RuntimeError("a fault")

    with pytest.raises(RuntimeError, match="a fault"):
        compare({"a": make}, CPU, 1)
