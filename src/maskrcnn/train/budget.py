"""A run that fits into a time: how many steps are left, and how its schedule lies over them.

Now and then the first process looks at the clock and tells all how many more steps there will be. Until the next look
the schedule rises evenly with the steps, so that each one's learning rate follows from what a checkpoint holds.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import fmean, median
from typing import Literal, NamedTuple

from maskrcnn.config import Train
from maskrcnn.runtime.distributed import World
from maskrcnn.train.schedule import Place

COLD_STEPS = 3
"""Steps of a process that are not measured: kernels are compiled and memory is found in the first ones."""
FIRST_LOOK = 2
"""Measured steps after which the rest of a run is fitted for the first time."""
ASSUMED_STEPS = 1000
"""Steps of a run of which nothing is known yet, if its epochs do not have more: too many cost its schedule nothing."""
LOOKS = 16
"""Looks at the clock in what is left: a machine ten times slower from one look to the next still ends in time."""
MOST_COUNTED, FEWEST_COUNTED = 64, 8
"""Bounds of the steps of late whose mean time counts: a quarter of those that were measured."""
OUTLIER = 4.0
"""Times the median that a step counts at most: a machine that was busy for some seconds is not a slow one."""
AIM = 0.99
"""Share of its time that a run plans to use."""
REPORT_SECONDS = 2.0
"""What the report takes, roughly."""
EVALUATION_STRETCH = 4.0
"""Steps before and after an evaluation take at least this many times as long as it does, but for the last one."""
MOST_ASSUMED = 0.25
"""Share of the time that an evaluation is assumed to take at most, before the first one."""
TINY = 1e-6

Apart = Literal["evaluation", "saving"]


class State(NamedTuple):
    """What all processes agree on, and checkpoints hold."""

    step: int
    """Step of the last look at the clock."""
    share: float
    """Share of the schedule that was done then."""
    end: int
    """Step after which the run ends."""
    pace: float = 0.0
    """Seconds of a step of late; 0 while nothing was measured."""
    evaluation: float = 0.0
    """How many steps the last evaluation took as long as; 0 before the first."""
    saving: float = 0.0
    """Seconds of the last checkpoint."""
    evaluated: float = 0.0
    """Share of the schedule at the last evaluation."""

    def share_at(self, step: int) -> float:
        """Share of the schedule that is done after `step` updates."""
        if step >= self.end:
            return 1.0
        if step <= self.step:
            return self.share
        return self.share + (1 - self.share) * (step - self.step) / (self.end - self.step)


class Length(NamedTuple):
    """What the plan of a run says about its length."""

    steps_per_epoch: int
    num_evaluated: int
    """Validation images; 0 without evaluations."""


class Budget:
    """The time that a run may take, as one of its processes sees it."""

    def __init__(
        self, settings: Train, length: Length, clock: Callable[[], float], start: int, state: State, used: float = 0.0
    ) -> None:
        """A budget at step `start`.

        clock   seconds since this process began
        used    seconds that the run had used before
        """
        self.settings, self.length, self.state = settings, length, state
        self._clock, self._used = clock, used
        self._warm = start + COLD_STEPS
        self._mark: float | None = None
        self._durations: deque[float] = deque(maxlen=MOST_COUNTED)
        self._num_measured = 0
        self._costs = {"evaluation": state.evaluation, "saving": state.saving}
        self.next_look = self._warm + FIRST_LOOK

    @property
    def seconds(self) -> float:
        """The whole time."""
        return self.settings.minutes * 60

    @property
    def used(self) -> float:
        """Seconds used so far, those before the run was resumed among them."""
        return self._used + self._clock()

    @property
    def left(self) -> float:
        """Seconds left, evaluations and saving among them."""
        return max(self.seconds - self.used, 0.0)

    def place(self, step: int) -> Place:
        """Where the schedule is after `step` updates: epochs are equal parts of the time."""
        share = self.state.share_at(step)
        return Place(step, share * self.settings.epochs, share, is_timed=True)

    def count(self, step: int) -> None:
        """Measure the step that is done now, unless it was one of the first."""
        now = self.used
        if self._mark is not None:
            self._durations.append(now - self._mark)
            self._num_measured += 1
        self._mark = now if step >= self._warm else None

    def look(self, step: int, world: World) -> None:
        """Fit the rest of the run, all processes alike."""
        self.state = _agreed(self._fitted(step), world)
        rest = max(1, (self.state.end - step) // LOOKS)
        self.next_look = step + (rest if self._num_measured > 2 * FEWEST_COUNTED else min(rest, FIRST_LOOK))

    def set_apart(self, kind: Apart, step: int, seconds: float) -> None:
        """Note what was done in the `seconds` that end now, and that no step was; it counts from the next look on."""
        self._costs[kind] = seconds / self._pace if kind == "evaluation" and self._pace else seconds
        if kind == "evaluation":
            self.state = self.state._replace(evaluated=self.state.share_at(step))
        self._mark = None if self._mark is None else self.used

    def is_evaluation_due(self, step: int) -> bool:
        """Whether the end of an epoch is evaluated: so many times in the run as without a time, where that leaves
        enough of it for steps."""
        share, part = self.state.share_at(step), self._part
        if share >= 1:
            return True
        begun = int(share / part + TINY) > int(self.state.evaluated / part + TINY)
        stretch = min(share - self.state.evaluated, 1 - share) * self.seconds
        return begun and stretch >= EVALUATION_STRETCH * self._evaluation(self.state)

    @property
    def _part(self) -> float:
        """Share of the schedule from one evaluation to the next."""
        return self.settings.evaluate_every / self.settings.epochs

    def _evaluation(self, state: State) -> float:
        """Seconds of an evaluation at the speed of late: before the first, an image takes as long as in a step."""
        assumed = self.length.num_evaluated * state.pace / self.settings.batch
        return state.evaluation * state.pace or min(assumed, MOST_ASSUMED * self.seconds)

    @property
    def _pace(self) -> float:
        """Seconds of a step of late, as this process saw them."""
        if not self._durations:
            return self.state.pace
        late = list(self._durations)[-max(FEWEST_COUNTED, self._num_measured // 4) :]
        most = OUTLIER * median(late)
        return fmean(min(seconds, most) for seconds in late)

    def _fitted(self, step: int) -> State:
        """What this process would have all agree on."""
        evaluation, saving = self._costs["evaluation"], self._costs["saving"]
        state = self.state._replace(pace=self._pace, evaluation=evaluation, saving=saving)
        if not state.pace:
            return state
        steps = int((self.seconds * AIM - self.used - self._reserve(state, step)) / state.pace)
        return state._replace(step=step, share=state.share_at(step), end=step + max(steps, 0))

    def _reserve(self, state: State, step: int) -> float:
        """Seconds of what is to come besides steps: evaluations, checkpoints, the report."""
        epochs_left = max(state.end - step, 0) // self.length.steps_per_epoch
        saving = (1 + epochs_left) * state.saving + REPORT_SECONDS
        if not self.length.num_evaluated:
            return saving
        seconds, left = self._evaluation(state), 1 - state.share_at(step)
        affordable = int(left * self.seconds / max(EVALUATION_STRETCH * seconds, TINY))
        return saving + seconds * (1 + min(int(left / self._part), epochs_left, affordable))


@contextmanager
def apart(budget: Budget | None, kind: Apart, step: int) -> Iterator[None]:
    """Time something that is no step, where time decides."""
    begin = 0.0 if budget is None else budget.used
    yield
    if budget is not None:
        budget.set_apart(kind, step, budget.used - begin)


def begin(settings: Train, length: Length, clock: Callable[[], float], step: int, num_steps: int) -> Budget:
    """The budget of a run that had none so far.

    num_steps   what the run's epochs would take, which is assumed until something was measured
    """
    end = step + max(num_steps, ASSUMED_STEPS)
    return Budget(settings, length, clock, step, State(step, 0.0, end))


def go_on(settings: Train, length: Length, clock: Callable[[], float], step: int, stored: dict[str, float]) -> Budget:
    """The budget of a run at a checkpoint.

    stored   what `store` gave. Where the run was given another time since, the share that is done is that of the new.
    """
    state = State(**{name: kind(stored[name]) for name, kind in State.__annotations__.items()})
    scale = stored["minutes"] / settings.minutes
    if scale != 1:
        share, evaluated = min(state.share_at(step) * scale, 1.0), min(state.evaluated * scale, 1.0)
        end = step + round((state.end - step) / scale) if share < 1 else step
        state = state._replace(step=step, share=share, end=max(end, step + (share < 1)), evaluated=evaluated)
    return Budget(settings, length, clock, step, state, stored["used"])


def store(budget: Budget) -> dict[str, float]:
    """What a checkpoint holds of a budget."""
    return {"minutes": budget.settings.minutes, "used": budget.used, **budget.state._asdict()}


def _agreed(state: State, world: World) -> State:
    """The state of the first process, in all."""
    values = world.from_main([float(value) for value in state])
    return State(*(kind(value) for kind, value in zip(State.__annotations__.values(), values, strict=True)))
