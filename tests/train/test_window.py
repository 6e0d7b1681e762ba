import pytest
import torch

from maskrcnn.train.step import GRADIENT_NORM, Losses
from maskrcnn.train.stopwatch import HostStopwatch, Spent
from maskrcnn.train.window import StepRecord, Window

NAN, INF = float("nan"), float("inf")


def step(number: int, mean: list[float], parts: list[list[float]] | None = None) -> StepRecord:
    names = ("rpn/box", "mask_head/mask", "count/rois", GRADIENT_NORM)
    losses = Losses(names, torch.tensor(mean), torch.tensor(parts or [mean[:3]] * 2))
    return StepRecord(number, losses, [[139, 285], [632, 724]])


def window(*steps: StepRecord, overflow_allowed: bool = False) -> Window:
    window = Window(HostStopwatch(), overflow_allowed=overflow_allowed)
    window.stopwatch.settle(1e-9)
    window.steps.extend(steps)
    return window


def test_entries_are_averaged_over_steps_and_counts_stand_apart():
    means = window(step(1, [1.0, 2.0, 7.0, 3.0]), step(2, [2.0, 4.0, 9.0, 5.0])).read()
    assert means.losses == {"rpn/box": 1.5, "mask_head/mask": 3.0}
    assert means.counts == {"rois": 8.0, "gradient_norm": 4.0}
    assert means.total == 4.5


class FourSeconds(HostStopwatch):
    def read(self):
        return Spent(seconds=4.0, waited=1.0)


def test_speed_and_waiting_are_those_of_the_stopwatch():
    both = Window(FourSeconds())
    both.steps += [step(1, [1.0] * 4), step(2, [1.0] * 4)]
    means = both.read()
    assert (means.steps_per_second, means.waiting) == (0.5, 0.25)


def test_a_loss_that_is_not_finite_is_traced_to_its_step_entries_and_images():
    bad = step(8, [1.0, NAN, 7.0, NAN], [[1.0, 2.0, 7.0], [1.0, NAN, 7.0]])
    with pytest.raises(FloatingPointError) as caught:
        window(step(7, [1.0, 2.0, 7.0, 3.0]), bad, step(9, [NAN] * 4)).check()
    expected = "step 8 is not finite: mask_head/mask nan, count/gradient_norm nan, from the images 632, 724;"
    assert str(caught.value).startswith(expected)


def test_a_loss_that_broke_in_another_process_is_said_to_be_there():
    with pytest.raises(FloatingPointError, match=r"step 8 .* from another process, which names the images"):
        window(step(8, [INF, 2.0, 7.0, NAN], [[1.0, 2.0, 7.0]] * 2)).read()


def test_a_gradient_that_is_not_finite_stops_too_unless_a_loss_scale_meets_it():
    overflow = step(8, [1.0, 2.0, 7.0, INF])
    with pytest.raises(FloatingPointError, match="though the losses of the images 139, 285, 632, 724 are finite"):
        window(overflow).read()
    assert window(overflow, overflow_allowed=True).read().total == 3.0
