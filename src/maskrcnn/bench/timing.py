"""How long work takes, by the clock of the device that does it. Rivals take turns: what disturbs one disturbs all.

A measurement lasts at least `LEAST_SECONDS`, several calls in a row where one is shorter: a GPU's host is then ahead,
as it is in a run, and clocks are exact enough.
"""

import gc
import math
from collections.abc import Callable, Iterator, Mapping
from statistics import median
from typing import NamedTuple

import torch

from maskrcnn.runtime.clock import mark, seconds_between
from maskrcnn.runtime.devices import synchronize
from maskrcnn.runtime.memory import peak_memory

LEAST_SECONDS = 0.05
MOST_CALLS = 1000
WARM_CALLS = 3
"""Calls before a measurement: the first may compile, the second record, and the third runs as all later ones."""

Work = Callable[[], object]
OnStage = Callable[[str], None]
"""Ends a stage and names it."""


class Cost(NamedTuple):
    """What one call takes."""

    seconds: float
    memory: int | None
    """Most bytes that the device held for it, weights included; None where the device does not count."""


def seconds_of(work: Work, device: torch.device, calls: int = 1) -> float:
    """Seconds of one call, from some in a row."""
    synchronize(device)
    begin = mark(device)
    for _ in range(calls):
        work()
    end = mark(device)
    synchronize(device)
    return seconds_between(begin, end) / calls


def in_turns(works: Mapping[str, Work], device: torch.device, repeats: int) -> dict[str, float]:
    """Median seconds of one call of each, of `repeats` measurements, after a warm-up."""
    calls = {name: _warm(work, device) for name, work in works.items()}
    spent: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            spent[name].append(seconds_of(work, device, calls[name]))
    return {name: median(seconds) for name, seconds in spent.items()}


def stages_in_turns(
    works: Mapping[str, Callable[[OnStage], object]], device: torch.device, repeats: int
) -> dict[str, dict[str, float]]:
    """Median seconds of each stage that the works name while they run, after a warm-up."""
    for work in works.values():
        for _ in range(WARM_CALLS):
            _stages(work, device)
    runs = [{name: _stages(work, device) for name, work in works.items()} for _ in range(repeats)]
    return {name: {stage: median(run[name][stage] for run in runs) for stage in runs[0][name]} for name in works}


def steady_seconds(batches: Iterator[object], device: torch.device, *, skip: int, count: int) -> float:
    """Seconds from one to the next, on average over `count`, after those that were made ahead."""
    for _ in range(skip):
        next(batches)
    return seconds_of(lambda: next(batches), device, count)


def compare(makers: Mapping[str, Callable[[], Work]], device: torch.device, repeats: int) -> dict[str, Cost | None]:
    """What each work costs that is made: in turns if the device has room for all at once, else one after the other.

    None is a work for which the memory does not suffice even then.
    """
    together = _compare(makers, device, repeats)
    if together is not None:
        return dict(together)
    costs: dict[str, Cost | None] = {}
    for name, make in makers.items():
        alone = _compare({name: make}, device, repeats)
        costs[name] = alone[name] if alone is not None else None
    return costs


def _compare(makers: Mapping[str, Callable[[], Work]], device: torch.device, repeats: int) -> dict[str, Cost] | None:
    """Costs of works that are made together; None without enough memory."""
    try:
        made = {name: _with_memory(make, device) for name, make in makers.items()}
        seconds = in_turns({name: work for name, (work, _) in made.items()}, device, repeats)
        return {name: Cost(seconds[name], memory) for name, (_, memory) in made.items()}
    except RuntimeError as error:
        if not _is_out_of_memory(error):
            raise
    _free(device)
    return None


def _with_memory(make: Callable[[], Work], device: torch.device) -> tuple[Work, int | None]:
    """A work that is warm, and the most memory of one call, the one that is recorded where any is."""
    peak_memory(device)
    synchronize(device)
    before = peak_memory(device)
    work = make()
    work()
    synchronize(device)
    peak_memory(device)
    work()
    synchronize(device)
    most = peak_memory(device)
    return work, None if most is None or before is None else most - before


def _warm(work: Work, device: torch.device) -> int:
    """How many calls make up a measurement."""
    for _ in range(WARM_CALLS - 1):
        work()
    return max(1, min(MOST_CALLS, math.ceil(LEAST_SECONDS / max(seconds_of(work, device), 1e-6))))


def _stages(work: Callable[[OnStage], object], device: torch.device) -> dict[str, float]:
    synchronize(device)
    names, marks = [], [mark(device)]

    def on_stage(name: str) -> None:
        names.append(name)
        marks.append(mark(device))

    work(on_stage)
    synchronize(device)
    return {name: seconds_between(*marks[number : number + 2]) for number, name in enumerate(names)}


def _is_out_of_memory(error: BaseException | None) -> bool:
    """Whether memory lacked, also in a recording that broke off because of it."""
    while error is not None and not isinstance(error, torch.OutOfMemoryError):
        error = error.__cause__ or error.__context__
    return error is not None


def _free(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
