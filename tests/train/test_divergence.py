import msgspec
import pytest

from maskrcnn.train.divergence import FEWEST, Course


def course(*stretches: list[float], keep: int = 2) -> Course:
    """A course with a checkpoint after each stretch of steps."""
    found = Course()
    step = 0
    for totals in stretches:
        found.add(enumerate(totals, start=step + 1))
        step += len(totals)
        found.close(step, keep)
    return found


def test_the_mean_since_the_last_checkpoint_is_held_and_the_lowest_is_remembered():
    found = course([4.0] * 20, [1.0] * 20, [2.0] * 20)
    assert (found.loss, found.lowest, found.sound) == (2.0, 1.0, [40, 60])


def test_steps_are_counted_once_however_often_the_window_is_looked_at():
    found = Course()
    found.add([(1, 5.0), (2, 3.0)])
    found.add([(1, 5.0), (2, 3.0), (3, 1.0)])
    found.close(3, 2)
    assert found.loss == 3.0
    found.add([(3, 1.0), (4, 9.0)])
    assert found.since == [9.0]


def test_without_a_step_in_between_the_last_known_loss_is_kept():
    found = course([4.0] * 20)
    found.close(20, 2)
    assert (found.loss, found.sound) == (4.0, [20])


@pytest.mark.parametrize(
    "totals",
    [
        [9.0] * 20 + [3.0] * 20 + [1.0] * 20,  # the beginning of a run
        [1.0] * 40 + [2.5] * 20,  # a restart of the schedule
        [1.0] * 20 + [20.0] + [1.0] * 19,  # a single image
        [0.001] * 20 + [0.2] * 20,  # nearly nothing and a little more
    ],
)
def test_what_losses_do_in_healthy_runs_is_no_growth(totals):
    found = course(*[totals[first : first + 20] for first in range(0, len(totals), 20)])
    assert found.sound[-1] == len(totals)


def test_checkpoints_at_every_step_are_judged_by_the_steps_before_them_too():
    noisy = [[value] for value in [0.5, 2.5, 0.5, 0.4] * 10]
    found = course(*noisy)
    assert found.sound == [39, 40]
    assert len(found.recent) == FEWEST


def test_checkpoints_from_after_the_growth_are_not_sound_and_what_is_learnt_again_is():
    healthy, grown = [1.0] * 20, [1.0] + [1e6] * 19
    assert course(healthy, healthy, grown, [1e5] * 20).sound == [20, 40]
    assert course(healthy, grown, healthy).sound == [20, 60]


def test_a_checkpoint_whose_next_step_is_too_high_was_spoilt_by_its_own_last_update():
    assert course([1.0] * 20, [1.0] * 20, [1e6] * 20).sound == [20]
    assert course([1.0] * 20, [1.0] * 20, [1e6] * 20, keep=1).sound == [40]  # the other one is gone


def test_a_course_goes_on_from_what_a_checkpoint_holds_as_if_it_had_not_stopped():
    first = course([4.0] * 20, [1.0] * 7)
    stored = msgspec.json.decode(msgspec.json.encode(first.state()))
    again = Course.of(27, stored)
    for one in (first, again):
        one.add([(28, 1.5)])
        one.close(28, 2)
    assert again == first


@pytest.mark.parametrize("first", [1, 2, 5, 20])
def test_losses_that_explode_before_the_first_checkpoint_have_grown(first):
    totals = [3.2] + [1e9] * 39
    found = course(totals[:first], *[[total] for total in totals[first:]]) if first > 1 else course([3.2], totals[1:])
    assert found.is_grown
    assert found.lowest == pytest.approx(3.2)


def test_a_first_loss_that_is_low_by_chance_makes_no_growth():
    assert not course([0.01] + [4.0] * 19, [4.0] * 20).is_grown


def test_what_recovers_after_it_exploded_at_first_is_sound():
    assert course([3.2, 1e9, 1e9], [2.0] * 20).sound == [23]


def test_a_checkpoint_of_an_earlier_version_counts_as_sound():
    found = Course.of(40, {})
    assert (found.sound, found.has_grown, found.lowest) == ([40], False, float("inf"))
