"""The learning rate as a function of the step alone, so that a resumed run needs no schedule state."""

import math

from maskrcnn import config


def base_rate(settings: config.Optimizer, batch: int) -> float:
    """The recipe's rate scaled linearly to the effective batch. Source: Goyal et al. 2017."""
    return settings.lr * batch / settings.lr_batch


def learning_rate(
    step: int, settings: config.Schedule, *, base: float, steps_per_epoch: int, total_steps: int
) -> float:
    """The rate of the update that follows `step` updates.

    Warm-up goes linearly from `warmup_factor` to 1 and multiplies the schedule, which is a staircase that
    falls by `decay` after each milestone, or half a cosine wave that reaches 0 after `total_steps`.
    """
    return base * _warm_up(step, settings) * _decline(step, settings, steps_per_epoch, total_steps)


def _warm_up(step: int, settings: config.Schedule) -> float:
    if step >= settings.warmup_steps:
        return 1.0
    return settings.warmup_factor + (1 - settings.warmup_factor) * step / settings.warmup_steps


def _decline(step: int, settings: config.Schedule, steps_per_epoch: int, total_steps: int) -> float:
    if settings.kind == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(step / total_steps, 1)))
    return settings.decay ** sum(step >= milestone * steps_per_epoch for milestone in settings.milestones)
