import signal
import threading

import pytest

from maskrcnn.train.interrupt import StopRequest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_first_signal_waits_for_the_step_and_a_second_does_not(number):
    before = signal.getsignal(number)
    with StopRequest() as wish:
        wish.deferring = True
        signal.raise_signal(number)
        assert wish.raised
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) is before


def test_outside_of_steps_a_signal_stops_at_once():
    with StopRequest(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)


def test_another_thread_trains_without_listening():
    raised = []

    def train():
        with StopRequest() as wish:
            raised.append(wish.raised)

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert raised == [False]
