import threading

import pytest
import torch

from maskrcnn.train.background import Background, HostMemory


def failing(text: str):
    def task() -> None:
        raise OSError(text)

    return task


def test_a_task_goes_on_while_its_owner_does():
    gate, done = threading.Event(), []
    with Background(print) as background:
        background.begin(lambda: (gate.wait(), done.append(1)))
        assert done == []
        gate.set()
    assert done == [1]


def test_at_most_one_is_on_its_way():
    running, most = [], []

    def task() -> None:
        running.append(1)
        most.append(len(running))
        running.pop()

    with Background(print) as background:
        for _ in range(5):
            background.begin(task)
    assert most == [1] * 5


@pytest.mark.parametrize("what", ["begin", "wait", "end"])
def test_an_error_is_raised_where_the_next_one_begins_or_at_the_end_and_once(what):
    background = Background(print)
    ends = {
        "begin": lambda: background.begin(lambda: None),
        "wait": background.wait,
        "end": lambda: background.__exit__(None, None, None),
    }
    background.begin(failing("disk full"))
    with pytest.raises(OSError, match="disk full"):
        ends[what]()
    background.wait()


def test_where_another_error_ends_the_run_it_is_only_said():
    told = []
    background = Background(told.append)
    background.begin(failing("disk full"))
    background.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert told == ["the last checkpoint was not written: disk full"]


def test_a_copy_keeps_what_was_there_and_the_next_takes_its_memory():
    weights, count = torch.arange(6.0).reshape(2, 3).t(), torch.tensor(3.0)
    memory, groups = HostMemory(), {"model": {"w": weights}, "optimizer": {"w/step": count}}
    first = memory.copy(groups, torch.device("cpu")).wait()
    weights.zero_()
    count += 1
    assert first["model"]["w"].tolist() == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
    assert first["optimizer"]["w/step"] == 3
    second = memory.copy(groups, torch.device("cpu")).wait()
    assert second["optimizer"]["w/step"] == 4
    assert second["model"]["w"].data_ptr() == first["model"]["w"].data_ptr() != weights.data_ptr()


def test_a_tensor_of_another_shape_gets_memory_of_its_own():
    memory = HostMemory()
    memory.copy({"model": {"w": torch.ones(2)}}, torch.device("cpu"))
    assert memory.copy({"model": {"w": torch.ones(3, 2)}}, torch.device("cpu")).wait()["model"]["w"].shape == (3, 2)
