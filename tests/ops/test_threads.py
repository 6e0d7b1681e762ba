"""Parts of a kernel's work on the threads of torch."""

import os
import sys
import threading
import time

import pytest

from maskrcnn.ops import threads
from maskrcnn.ops.threads import parallel_for


@pytest.fixture(params=["of torch", "of our own"])
def either_kind(request, monkeypatch):
    """Where torch's library has no entry point for us, a pool of threads does the same."""
    if request.param == "of our own":
        monkeypatch.setattr(threads, "_openmp", lambda: None)


@pytest.mark.usefixtures("either_kind")
@pytest.mark.parametrize(("count", "smallest"), [(0, 1), (1, 1), (7, 3), (100, 1), (1000, 300)])
def test_every_item_has_its_turn_once(count, smallest):
    turns = [0] * count

    def work(first, last):
        for item in range(first, last):
            turns[item] += 1

    parallel_for(work, count, smallest)
    assert turns == [1] * count


@pytest.mark.usefixtures("either_kind")
def test_two_threads_work_at_the_same_time():
    """Each waits for the other, which would never end on one."""
    meeting = threading.Barrier(2, timeout=60)
    parallel_for(lambda first, last: meeting.wait(), 2)


def test_no_part_is_smaller_than_it_should_be():
    parts = []
    parallel_for(lambda first, last: parts.append(last - first), 1000, 300)
    assert sum(parts) == 1000
    assert min(parts) >= 300


@pytest.mark.usefixtures("either_kind")
def test_what_a_part_raises_is_raised_to_the_caller():
    def work(first, last):
        time.sleep(0.01)
        if first >= 2:
            raise ValueError(f"part from {first}")

    with pytest.raises(ValueError, match="part from"):
        parallel_for(work, 8)


def test_callers_on_several_threads_do_not_wait_for_each_other():
    sums = []

    def call():
        parts = []
        parallel_for(lambda first, last: parts.append(last - first), 100)
        sums.append(sum(parts))

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert sums == [100] * 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_a_forked_process_does_not_wait_for_threads_that_it_lacks():
    parallel_for(lambda first, last: None, 8)
    child = os.fork()
    if child == 0:
        done = []
        parallel_for(lambda first, last: done.append(last - first), 8)
        os._exit(sum(done))
    until = time.monotonic() + 60
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < until:
        time.sleep(0.01)
    if ended == (0, 0):
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(ended[1]) == 8
    assert ended[0] == child


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere torch brings another library")
def test_on_linux_the_threads_are_those_of_torch():
    assert threads._openmp() is not None
