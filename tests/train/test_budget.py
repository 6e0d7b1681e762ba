"""A run of given time on machines of any speed, by a clock that tests move."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch

from maskrcnn.config import Schedule, Train
from maskrcnn.runtime.distributed import World
from maskrcnn.train import budget
from maskrcnn.train.budget import Budget, Length
from maskrcnn.train.schedule import learning_rate

WORLD = World(torch.device("cpu"))


class Run:
    """Drives a budget as training does: `pace` gives the seconds of a step at a time, of which an evaluation takes as
    long as some."""

    def __init__(self, pace: Callable[[float], float], *, evaluation: float = 20.0, **train) -> None:
        self.now, self.pace, self.evaluation = 10.0, pace, evaluation
        self.settings = Train(minutes=5.0, **{"epochs": 5, "batch": 4} | train)
        self.length = Length(steps_per_epoch=50, num_evaluated=40)
        self.step, self.evaluated, self.rates = 0, [], []
        self.budget = budget.begin(self.settings, self.length, lambda: self.now, 0, 5 * 50)

    def go(self, stop_at: int | None = None) -> "Run":
        schedule = Schedule(kind="cosine", warmup_steps=1000, warmup_factor=0.0)
        while self.step < self.budget.state.end:
            if self.step == stop_at:
                return self
            self.rates.append(learning_rate(self.budget.place(self.step), schedule, 1.0))
            self.now += 30.0 if self.step == 0 else self.pace(self.now)  # the first one compiles
            self.step += 1
            self.budget.count(self.step)
            if self.step >= self.budget.next_look and self.step < self.budget.state.end:
                self.budget.look(self.step, WORLD)
            if self.step == self.budget.state.end or self.step % self.length.steps_per_epoch == 0:
                self.end_epoch()
        self.now += 2.0
        return self

    def end_epoch(self) -> None:
        with budget.apart(self.budget, "saving", self.step):
            self.now += 0.5
        if self.budget.is_evaluation_due(self.step):
            self.evaluated.append(self.step)
            with budget.apart(self.budget, "evaluation", self.step):
                self.now += self.evaluation * self.pace(self.now)
            if self.step < self.budget.state.end:
                self.budget.look(self.step, WORLD)


@pytest.mark.parametrize(
    ("pace", "evaluation"),
    [
        (lambda now: 0.05, 100.0),
        (lambda now: 0.4, 20.0),
        (lambda now: 4.0, 9.0),
        (lambda now: 0.2 if now < 150 else 0.8, 20.0),
        (lambda now: 0.8 if now < 150 else 0.2, 20.0),
        (lambda now: 0.2 if now < 240 else 2.0, 8.0),
        (lambda now: 0.2 * (1 + int(now * 7) % 3), 30.0),
    ],
)
def test_five_minutes_end_in_time_with_the_whole_schedule_run_on_machines_of_any_speed(pace, evaluation):
    run = Run(pace, evaluation=evaluation).go()
    assert 285 <= run.now <= 303
    assert run.evaluated[-1] == run.step
    peak = run.rates.index(max(run.rates))
    assert run.rates[peak] > 0.9
    assert run.rates[-1] < 0.1
    assert all(earlier >= later for earlier, later in pairwise(run.rates[peak:]))


def test_as_many_evaluations_as_without_a_time_are_spread_over_it():
    run = Run(lambda now: 0.2, evaluation=10.0, epochs=4).go()
    shares = [step / run.step for step in run.evaluated]
    assert len(shares) == 4
    assert all(0 <= share - part < 0.06 for share, part in zip(shares, (0.25, 0.5, 0.75, 1.0), strict=True))


def test_evaluations_that_would_take_most_of_the_time_are_fewer():
    run = Run(lambda now: 0.2, evaluation=200.0, epochs=50).go()
    assert len(run.evaluated) <= 3
    assert run.now <= 303


def test_milestones_come_at_their_part_of_the_time():
    run = Run(lambda now: 0.4, epochs=10)
    run.go(stop_at=300)
    schedule = Schedule(milestones=(8,), warmup_steps=0)
    last = run.budget.state.end
    drops = [step for step in range(300, last) if learning_rate(run.budget.place(step), schedule, 1.0) < 0.5]
    state = run.budget.state
    assert drops[0] == next(step for step in range(300, last) if state.share_at(step) >= 0.8)
    assert drops == list(range(drops[0], last))


def test_warm_up_ends_after_a_tenth_of_the_time_or_after_its_steps():
    run = Run(lambda now: 0.4)
    run.go(stop_at=200)
    place = run.budget.place(200)
    assert learning_rate(place, Schedule(warmup_steps=10**6, milestones=()), 2.0) == 2.0
    short = place._replace(step=5, share=0.05)
    assert learning_rate(short, Schedule(warmup_steps=10**6, warmup_factor=0.0, milestones=()), 2.0) == 1.0
    assert learning_rate(short, Schedule(warmup_steps=5, milestones=()), 2.0) == 2.0


def test_a_run_that_goes_on_does_what_its_checkpoint_says_and_counts_the_time_before():
    run = Run(lambda now: 0.4)
    run.go(stop_at=303)
    stored = budget.store(run.budget)
    planned = [run.budget.place(step).share for step in range(303, 330)]
    now = 0.0
    again = budget.go_on(run.settings, run.length, lambda: now, 303, stored)
    assert [again.place(step).share for step in range(303, 330)] == planned
    assert again.used == run.budget.used
    assert again.state == run.budget.state
    now = 100.0
    again.look(303 + budget.COLD_STEPS, WORLD)
    assert again.state.end < run.budget.state.end - 200  # a hundred seconds were lost


class Second(World):
    """The second of two processes, which is told what the first one says."""

    told: list[float]

    def from_main(self, numbers):
        return list(self.told)


def test_all_processes_agree_whatever_their_own_clocks_say():
    settings, length, now = Train(minutes=5.0, epochs=5, batch=4), Length(50, 40), [0.0, 0.0]
    second = Second(torch.device("cpu"), rank=1, size=2)
    ours, theirs = (budget.begin(settings, length, lambda rank=rank: now[rank], 0, 250) for rank in range(2))
    for step in range(1, 121):
        now[0] += 0.5
        now[1] += 0.9
        for one in (ours, theirs):
            one.count(step)
        assert ours.next_look == theirs.next_look
        if step >= ours.next_look:
            ours.look(step, WORLD)
            object.__setattr__(second, "told", [float(value) for value in ours.state])
            theirs.look(step, second)
            assert theirs.state == ours.state
        with budget.apart(ours, "saving", step), budget.apart(theirs, "saving", step):
            now[1] += 0.2
        assert theirs.is_evaluation_due(step) == ours.is_evaluation_due(step)
    assert ours.state.end > 500


def test_a_run_without_a_measure_of_its_own_keeps_the_length_of_its_epochs():
    run = budget.begin(Train(minutes=5.0, epochs=2), Length(50, 0), lambda: 0.0, 0, 5000)
    run.look(3, WORLD)
    assert (run.state.end, run.next_look) == (5000, 3 + budget.FIRST_LOOK)


def test_a_machine_that_is_busy_for_a_while_is_not_taken_for_a_slow_one():
    run = Run(lambda now: 9.0 if now < 60 else 0.4).go()
    assert 285 <= run.now <= 303
    assert run.step > 400
    assert run.rates[150] > 0.6


@pytest.mark.parametrize(("minutes", "share"), [(10.0, 0.25), (2.5, 1.0), (5.0, 0.5)])
def test_another_time_makes_what_is_done_another_share(minutes, share):
    stored = {"minutes": 5.0, "used": 140.0, **budget.State(100, 0.5, 200, 1.0)._asdict()}
    again = budget.go_on(Train(minutes=minutes), Length(50, 0), lambda: 0.0, 100, stored)
    assert again.place(100).share == share
    assert again.state.end == {10.0: 300, 2.5: 100, 5.0: 200}[minutes]
    assert isinstance(again.state.end, int)


def test_nothing_is_left_of_a_time_that_is_over():
    over: Budget = budget.begin(Train(minutes=1.0), Length(50, 0), lambda: 61.0, 0, 100)
    assert (over.left, over.used) == (0.0, 61.0)
