"""The learning rate as a function of where a run is, so that a resumed run needs no schedule state."""

import math
from typing import NamedTuple

from maskrcnn import config

WARM_UP_SHARE = 0.1
"""Share of a run of given time in which warm-up ends, if its steps take longer."""


class Place(NamedTuple):
    """Where a run is."""

    step: int
    """Updates so far."""
    epochs: float
    """Epochs so far, by which milestones count."""
    share: float
    """Share of the run that is done."""
    is_timed: bool = False
    """Whether time decides how many steps there are."""


def base_rate(settings: config.Optimizer, batch: int) -> float:
    """The recipe's rate scaled linearly to the effective batch. Source: Goyal et al. 2017."""
    return settings.lr * batch / settings.lr_batch


def learning_rate(place: Place, settings: config.Schedule, base: float) -> float:
    """The rate of the update at a place.

    Warm-up goes linearly from `warmup_factor` to 1 and multiplies the schedule, which is a staircase that
    falls by `decay` after each milestone, or half a cosine wave that reaches 0 at the end.
    """
    return base * _warm_up(place, settings) * _decline(place, settings)


def _warm_up(place: Place, settings: config.Schedule) -> float:
    steps: float = settings.warmup_steps
    if place.is_timed and place.share:
        steps = min(steps, WARM_UP_SHARE * place.step / place.share)
    if place.step >= steps:
        return 1.0
    return settings.warmup_factor + (1 - settings.warmup_factor) * place.step / steps


def _decline(place: Place, settings: config.Schedule) -> float:
    if settings.kind == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(place.share, 1)))
    return settings.decay ** sum(place.epochs >= milestone for milestone in settings.milestones)
