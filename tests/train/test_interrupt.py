import signal
import threading

import pytest

from maskrcnn.train import interrupt
from maskrcnn.train.interrupt import Stopped, StopRequest, exit_code

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is set."""
    now = [1000.0]
    monkeypatch.setattr(interrupt.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize("number", SIGNALS)
def test_a_first_signal_waits_for_the_step_and_a_second_does_not(number, clock):
    before = signal.getsignal(number)
    with StopRequest() as wish:
        wish.deferring = True
        signal.raise_signal(number)
        assert wish.number == number
        clock[0] += interrupt.REPEATED
        with pytest.raises(Stopped) as stopped:
            signal.raise_signal(number)
    assert stopped.value.number == number
    assert signal.getsignal(number) is before


def test_what_a_launcher_passes_on_besides_is_the_same_signal(clock):
    with StopRequest() as wish:
        wish.deferring = True
        signal.raise_signal(signal.SIGINT)
        clock[0] += 0.9 * interrupt.REPEATED
        signal.raise_signal(signal.SIGTERM)
    assert wish.number == signal.SIGINT


@pytest.mark.skipif(interrupt.SIGHUP is None, reason="this system has no SIGHUP")
def test_a_launcher_that_has_gone_is_no_second_signal(clock):
    with StopRequest() as wish:
        wish.deferring = True
        signal.raise_signal(signal.SIGTERM)
        clock[0] += 5
        signal.raise_signal(signal.SIGHUP)
    assert wish.number == signal.SIGTERM


def test_a_second_signal_leaves_in_the_way_of_whoever_listens_first(clock):
    left = []
    with StopRequest(left.append) as outer, StopRequest() as wish:
        assert wish is outer
        wish.deferring = True
        signal.raise_signal(signal.SIGTERM)
        clock[0] += 5
        with pytest.raises(Stopped):
            signal.raise_signal(signal.SIGINT)
    assert left == [signal.SIGTERM]


def test_outside_of_steps_a_signal_stops_at_once():
    with StopRequest(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)


def test_a_wish_from_before_is_heard_where_a_stretch_may_be_interrupted():
    with StopRequest() as wish:
        wish.deferring = True
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Stopped), wish.interruptible():
            raise AssertionError("not begun")
        assert wish.deferring


def test_codes_are_those_of_shells():
    assert [exit_code(number) for number in SIGNALS] == [130, 143]


def test_another_thread_trains_without_listening():
    raised = []

    def train():
        with StopRequest() as wish:
            raised.append(wish.raised)

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert raised == [False]
