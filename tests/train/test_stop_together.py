"""How the processes of a run stop at one step: a stand-in for the others says what they want."""

import signal
from types import SimpleNamespace

import pytest
import torch

from maskrcnn.runtime.distributed import World
from maskrcnn.train import loop
from maskrcnn.train.interrupt import Stopped, StopRequest
from maskrcnn.train.training import Training


class Others(World):
    """Answers each question in turn: whether somebody is to stop or has failed, has failed, got SIGTERM."""

    def __init__(self, *answers):
        super().__init__(torch.device("cpu"), rank=0, size=2)
        object.__setattr__(self, "answers", list(answers))

    def any(self, flag):
        answer = self.answers.pop(0)
        return flag or answer


def stop(world, failure=None):
    done = []
    training = object.__new__(Training)
    training.world, training.window = world, SimpleNamespace(steps=["a step"])
    training.tell, training.save = (lambda epoch: done.append("told")), (lambda: done.append("saved"))
    training.settle = lambda: done.append("settled")
    wish = StopRequest()
    try:
        loop._stop_together(training, 0, wish, failure)
    except BaseException as error:
        return done, error, wish
    return done, None, wish


def test_nobody_stops_where_nobody_is_to():
    assert stop(Others(False))[:2] == ([], None)


@pytest.mark.parametrize(("is_term", "number"), [(True, signal.SIGTERM), (False, signal.SIGINT)])
def test_a_signal_to_another_process_saves_and_stops_this_one_with_the_same_code(is_term, number):
    done, error, wish = stop(Others(True, False, is_term))
    assert done == ["told", "saved", "settled"]
    assert isinstance(error, Stopped)
    assert (error.number, wish.number) == (number, number)


def test_an_image_that_another_process_cannot_read_saves_and_stops_this_one():
    done, error, _ = stop(Others(True, True, False))
    assert done == ["told", "saved", "settled"]
    assert isinstance(error, ConnectionError)
    assert str(error) == "process 0 of 2 stops with another one, which says why"


def test_the_process_that_cannot_read_its_image_saves_with_the_others_and_says_why():
    failure = ValueError("7.png is cut short")
    done, error, _ = stop(Others(False, False, False), failure)
    assert (done, error) == (["told", "saved", "settled"], failure)
