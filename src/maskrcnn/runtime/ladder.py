"""What `auto` execution does: compiled and recorded, else recorded, else line by line, whichever holds on a machine.

Every call that compiles or records something is a trial. Its results are compared with those of the same call line by
line, and where it fails or they differ, state becomes what it was and everything goes one rung down, for good. Replays
are calls like any other and cost nothing more.
"""

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from maskrcnn import config
from maskrcnn.boxes import area, intersection
from maskrcnn.runtime.execution import Captured, Execution, choose_execution, executed
from maskrcnn.runtime.memory import free_cached, is_out_of_memory
from maskrcnn.structures import Detections

RUNGS: tuple[Execution, ...] = ("compiled", "captured", "eager")
DETECTIONS_APART = 0.25
"""Tolerance of the first detections, see `detections_apart`: those of a network that has hardly learnt are up to 0.17
apart in bf16 and float32, for rounding turns the order of boxes that are nearly as good."""

T = TypeVar("T")
E = TypeVar("E")
_failed: set[tuple[str, Execution]] = set()
"""Settings' names and rungs that did not hold in this process: the next evaluation need not find out again."""


def choose_rungs(setting: config.Execution, device: torch.device, name: str) -> tuple[Execution, ...]:
    """The ways to run, best first: those left of the ladder for `auto`, otherwise the one that was named.

    Raises ValueError, naming the setting, for what the device cannot do.
    """
    first = choose_execution(setting, device, name)
    if setting != "auto":
        return (first,)
    return tuple(rung for rung in RUNGS[RUNGS.index(first) :] if (name, rung) not in _failed)


class FailedElsewhereError(RuntimeError):
    """Another process failed in what all do together."""

    def __init__(self) -> None:
        super().__init__("it failed in another process")


class Ladder(Generic[T, E]):
    """A function on the highest rung that holds."""

    def __init__(
        self,
        rungs: Sequence[Execution],
        build: Callable[[Execution], Callable[..., T]],
        *,
        name: str,
        say: Callable[[str], None],
        expect: Callable[..., E],
        apart: Callable[[T, E], float],
        tolerance: float,
        keep: Callable[[], Callable[[], None]] = lambda: lambda: None,
        any_process: Callable[[bool], bool] = bool,
    ) -> None:
        """A ladder on its first rung.

        rungs        best first; the last one is not tried but trusted
        build        the function as a rung runs it: `Captured`, but for the last
        name         the setting that chooses a rung, for sentences
        expect       the function's results line by line, without consequences
        apart        how far results are from those; more than the tolerance is too far
        keep         notes the state that the function changes, and returns what brings it back
        any_process  whether something happened in any of the processes that work as one
        """
        self._rungs, self._build, self._name, self._say = list(rungs), build, name, say
        self._expect, self._apart, self._tolerance = expect, apart, tolerance
        self._keep, self._any_process = keep, any_process
        self._runs = build(rungs[0])
        self.is_trying = False
        """Whether a trial is going on, in which every process has to hear of a failure."""

    @property
    def execution(self) -> Execution:
        return self._rungs[0]

    def __call__(self, *arguments: Any) -> T:
        while isinstance(self._runs, Captured) and len(self._rungs) > 1 and not self._runs.has_recorded(*arguments):
            self.is_trying = True
            try:
                results, fault = self._try(self._runs, arguments)
            finally:
                self.is_trying = False
            if not fault:
                assert results is not None, "a trial without a fault has results"
                return results
            self._step_down(fault)
        return self._runs(*arguments)

    def _try(self, runs: Captured[T], arguments: tuple[Any, ...]) -> tuple[T | None, str]:
        """The results, or what is wrong with them; then nothing has happened."""
        bring_back, results, fault = self._keep(), None, ""
        expected = self._expected(arguments)
        try:
            results = runs(*arguments)
            if expected is not None and not (apart := self._apart(results, expected)) <= self._tolerance:
                fault = f"its results differ from those line by line by {apart:.1e}, where {self._tolerance} is allowed"
        except ConnectionError:  # another process is gone
            raise
        except Exception as error:
            fault = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        if self._any_process(bool(fault)):
            bring_back()
            return None, fault or str(FailedElsewhereError())
        return results, ""

    def _expected(self, arguments: tuple[Any, ...]) -> E | None:
        """Results line by line; None without enough memory: a better rung may need less, eager steps say what helps."""
        try:
            return self._expect(*arguments)
        except FailedElsewhereError:  # for want of memory, or that process ends now and the next collective says so
            pass
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        free_cached()
        return None

    def _step_down(self, fault: str) -> None:
        left = self._rungs.pop(0)
        _failed.add((self._name, left))
        self._say(
            f"{self._name}: {self.execution} from here on, since {left} does not hold on this machine ({fault}); "
            f"{self._name}={left} shows the whole error, {self._name}={self.execution} skips the trial"
        )
        del self._runs  # and with it recordings, before the next ones need their memory
        free_cached()
        self._runs = self._build(self.execution)


def laddered(
    function: Callable[..., Detections],
    rungs: Sequence[Execution],
    device: torch.device,
    say: Callable[[str], None],
) -> Callable[..., Detections]:
    """Prediction on the highest rung that holds; strict, and without any trial, where there is one alone."""
    if len(rungs) == 1:
        return executed(function, rungs[0], device)
    return Ladder(
        rungs,
        lambda rung: executed(function, rung, device),
        name="evaluate.execution",
        say=say,
        expect=function,
        apart=detections_apart,
        tolerance=DETECTIONS_APART,
    )


def detections_apart(found: Detections, expected: Detections) -> float:
    """Share of the detections, weighted by their scores, that the others do not have: 0 where all agree, 1 where none.

    A detection has a counterpart as far as one of the others with its label overlaps it, is as certain, and has the
    same mask. The larger share of the two directions counts. Infinite where a number is not finite.
    """
    for one in (found, expected):
        if not all(bool(part[one.valid].isfinite().all()) for part in (one.boxes, one.scores, one.masks)):
            return float("inf")
    return max(_missing(found, expected), _missing(expected, found))


def _missing(ours: Detections, theirs: Detections) -> float:
    same = (ours.labels[:, :, None] == theirs.labels[:, None, :]) & ours.valid[:, :, None] & theirs.valid[:, None, :]
    overlap, partner = torch.where(same, _overlap(ours.boxes.float(), theirs.boxes.float()), 0.0).max(dim=2)
    scores = torch.where(ours.valid, ours.scores.float(), 0.0)
    certainty = 1 - (scores - theirs.scores.float().gather(1, partner)).abs()
    masks = theirs.masks.float()[torch.arange(len(partner), device=partner.device)[:, None], partner]
    likeness = 1 - (ours.masks.float() - masks).abs().mean(dim=(2, 3))
    counterpart = torch.where(ours.valid, torch.minimum(overlap, torch.minimum(certainty, likeness)), 0.0)
    total = float(scores.sum())
    return 1 - float((scores * counterpart).sum()) / total if total else 0.0


def _overlap(a: Float[Tensor, "B n 4"], b: Float[Tensor, "B m 4"]) -> Float[Tensor, "B n m"]:
    shared = intersection(a, b)
    return shared / (area(a)[:, :, None] + area(b)[:, None, :] - shared).clamp(min=1e-9)
