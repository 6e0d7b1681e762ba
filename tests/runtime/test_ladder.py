"""Predictions go on, one rung down, where a way to run does not hold; and how far detections are apart."""

import pytest
import torch

from maskrcnn.runtime import execution, ladder
from maskrcnn.runtime.execution import Captured
from maskrcnn.runtime.ladder import choose_rungs, detections_apart, laddered
from maskrcnn.structures import Detections, ImageBatch

CPU, GPU = torch.device("cpu"), torch.device("cuda")
NAN, INF = float("nan"), float("inf")


@pytest.fixture(autouse=True)
def _nothing_failed_yet(monkeypatch):
    monkeypatch.setattr(ladder, "_failed", set())


def test_auto_is_the_whole_ladder_on_a_gpu_and_line_by_line_elsewhere():
    assert choose_rungs("auto", GPU, "train.execution") == ("compiled", "captured", "eager")
    for kind in ("cpu", "mps", "xpu"):
        assert choose_rungs("auto", torch.device(kind), "train.execution") == ("eager",)


def test_a_named_way_is_the_only_rung():
    assert choose_rungs("captured", GPU, "train.execution") == ("captured",)
    assert choose_rungs("compiled", CPU, "train.execution") == ("compiled",)
    with pytest.raises(ValueError, match="captured needs a CUDA GPU"):
        choose_rungs("captured", CPU, "train.execution")


def detections(boxes, labels=None, scores=None, masks=None, valid=None):
    """Of one image."""
    count = len(boxes)
    return Detections(
        torch.tensor([boxes], dtype=torch.float32).view(1, count, 4),
        torch.tensor([labels or [1] * count]),
        torch.tensor([scores or [0.5] * count], dtype=torch.float32),
        torch.tensor([valid or [True] * count]),
        torch.zeros(1, count, 2, 2) if masks is None else masks,
    )


A, B, FAR = [0, 0, 20, 10], [5, 30, 25, 70], [200, 200, 220, 230]


@pytest.mark.parametrize(
    ("other", "apart"),
    [
        (detections([A, B]), 0.0),
        (detections([B, A]), 0.0),
        (detections([A, B, FAR], valid=[True, True, False]), 0.0),
        (detections([A, FAR]), 0.5),
        (detections([A, B, FAR]), 1 / 3),  # one too many
        (detections([A, B], labels=[1, 2]), 0.5),
        (detections([[0, 0, 20, 5], B]), 0.25),
        (detections([A, B], scores=[0.5, 0.3]), 0.1),
        (detections([A, B], masks=torch.full((1, 2, 2, 2), 0.2)), 0.2),
        (detections([A, B], scores=[0.5, NAN]), INF),
        (detections([A, [NAN, 0, 1, 1]]), INF),
        (detections([A, B], masks=torch.full((1, 2, 2, 2), INF)), INF),
        (detections([FAR]), 1.0),
    ],
)
def test_detections_are_apart_by_the_share_without_counterpart(other, apart):
    assert detections_apart(other, detections([A, B])) == pytest.approx(apart)


def test_no_detections_twice_are_not_apart():
    none = detections([A], valid=[False])
    assert detections_apart(none, none) == 0.0
    assert detections_apart(none, detections([A])) == 1.0


class Finder:
    """Finds a box as wide as the image is bright."""

    def __init__(self):
        self.calls = 0

    def __call__(self, images):
        self.calls += 1
        box = images.pixels.amax((1, 2, 3))[:, None, None] * torch.tensor([0.0, 0.0, 2.0, 1.0])
        ones = torch.ones(len(box), 1)
        return Detections(box, ones.long(), ones / 2, ones.bool(), ones.view(-1, 1, 1, 1).expand(-1, 1, 2, 2))


def images(value, height=4, width=6):
    return ImageBatch(torch.full((1, 3, height, width), float(value)), torch.tensor([[4.0, 6.0]]))


@pytest.fixture
def way(tape, monkeypatch):
    """Stand-ins for compilers and recorders on this machine: those of each rung fail, or change results, as told."""
    does = {"compiled": lambda function: function, "record": tape.record}

    class Recorder:
        run = staticmethod(tape.run)
        record = staticmethod(lambda function: does["record"](function))

    def executed(function, rung, device):
        if rung == "eager":
            return function
        return Captured(does["compiled"](function) if rung == "compiled" else function, Recorder())

    monkeypatch.setattr(ladder, "executed", executed)
    return does


def fails(*_):
    def call(*_):
        raise RuntimeError("no")

    return call


def predict(number=4, finder=None):
    """Widths found, sentences, and the ladder."""
    told = []
    forward = laddered(finder or Finder(), ladder.RUNGS, GPU, told.append)
    return [float(forward(images(value)).boxes[0, 0, 2]) for value in range(1, 1 + number)], told, forward


def test_predictions_are_those_of_the_first_rung_where_it_holds(way):
    finder = Finder()
    found, told, forward = predict(6, finder)
    assert (found, told, forward.execution) == ([2, 4, 6, 8, 10, 12], [], "compiled")
    assert finder.calls == 4  # twice for the first rung, twice for the comparison


def test_what_cannot_be_compiled_is_recorded(way):
    way["compiled"] = fails
    found, told, forward = predict()
    assert (found, forward.execution) == ([2, 4, 6, 8], "captured")
    assert told[0].startswith("evaluate.execution: captured from here on, since compiled does not hold")


def test_what_cannot_be_recorded_either_runs_line_by_line(way):
    way["record"] = fails()
    found, told, forward = predict()
    assert (found, forward.execution) == ([2, 4, 6, 8], "eager")
    assert len(told) == 2


def test_detections_that_differ_are_not_believed(way):
    def moved(function):
        return lambda batch: function(ImageBatch(batch.pixels * 3, batch.sizes))

    way["compiled"] = moved
    found, told, forward = predict()
    assert (found, forward.execution) == ([2, 4, 6, 8], "captured")
    assert "differ from those line by line by 8.9e-01, where 0.25 is allowed" in told[0]


def test_what_failed_once_is_not_tried_again_in_this_process(way):
    way["compiled"] = fails
    predict()
    assert choose_rungs("auto", GPU, "evaluate.execution") == ("captured", "eager")
    assert choose_rungs("auto", GPU, "train.execution") == ("compiled", "captured", "eager")
    assert choose_rungs("compiled", GPU, "evaluate.execution") == ("compiled",)


def test_one_rung_alone_is_neither_tried_nor_compared(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, **options: fails())
    with pytest.raises(RuntimeError, match="no"):
        laddered(Finder(), ("compiled",), CPU, fails())(images(1))
    finder = Finder()
    assert laddered(finder, ("eager",), CPU, fails()) is finder
    assert execution.executed(finder, "eager", CPU) is finder
