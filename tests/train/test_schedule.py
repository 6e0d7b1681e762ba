import pytest

from maskrcnn.config import Optimizer, Schedule
from maskrcnn.train.schedule import Place, base_rate, learning_rate


def rate(step: int, settings: Schedule, total_steps: int = 100) -> float:
    return learning_rate(Place(step, step / 10, step / total_steps), settings, 2.0)


def test_the_rate_grows_with_the_batch():
    assert base_rate(Optimizer(lr=0.02, lr_batch=16), batch=4) == 0.005


def test_warm_up_is_a_line_from_its_factor_to_one():
    settings = Schedule(warmup_steps=4, warmup_factor=0.2, milestones=())
    assert [rate(step, settings) for step in range(6)] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0, 2.0])


def test_no_warm_up_starts_at_the_full_rate():
    assert rate(0, Schedule(warmup_steps=0)) == 2.0


def test_steps_fall_after_whole_epochs():
    settings = Schedule(warmup_steps=0, milestones=(3, 5), decay=0.1)
    assert [rate(step, settings) for step in (29, 30, 49, 50)] == pytest.approx([2.0, 0.2, 0.2, 0.02])


def test_cosine_reaches_half_in_the_middle_and_nothing_at_the_end():
    settings = Schedule(kind="cosine", warmup_steps=0)
    assert [rate(step, settings) for step in (0, 25, 50, 100, 101)] == pytest.approx([2.0, 1.7071068, 1.0, 0.0, 0.0])


def test_warm_up_multiplies_the_cosine():
    settings = Schedule(kind="cosine", warmup_steps=50, warmup_factor=0.0)
    assert rate(25, settings) == pytest.approx(1.7071068 * 0.5)
