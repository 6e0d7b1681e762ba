"""A launcher's process and the one that outlives it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from maskrcnn.runtime.shelter import shelter, unbreakable

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Open MPI's processes are sheltered on Linux")
SOURCE = Path(__file__).parents[2] / "src"
PROGRAM = """
import os, signal, sys, time
from pathlib import Path
from maskrcnn.runtime import shelter

told = Path(sys.argv[1])
signal.signal(signal.SIGTERM, lambda *_: told.write_text(told.read_text() + "term "))
signal.signal(signal.SIGHUP, lambda *_: told.write_text(told.read_text() + "hup "))
shelter.PATIENCE, shelter.STOPPED, shelter.LOOK = float(sys.argv[2]), 0.5, 0.1
shelter.shelter()
told.write_text("")
print(os.getpid(), os.getsid(0), flush=True)
while "hup" not in told.read_text() or sys.argv[3] == "hangs":
    time.sleep(0.02)
print("nobody reads this", flush=True)
told.write_text(told.read_text() + "saved ")
"""


def started(tmp_path: Path, patience: float, then: str = "ends") -> tuple[subprocess.Popen, int]:
    """A sheltered program, and the number of the process that does the work."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "told"), str(patience), then],
        env={**os.environ, "PYTHONPATH": str(SOURCE), "OMPI_COMM_WORLD_RANK": "0"},
        stdout=subprocess.PIPE,
        text=True,
    )
    worker, session = map(int, process.stdout.readline().split())
    assert worker == session != process.pid
    return process, worker


def wait_for(path: Path, word: str) -> None:
    for _ in range(500):
        if word in path.read_text():
            return
        time.sleep(0.02)
    raise AssertionError(path.read_text())


def test_a_killed_launcher_leaves_time_to_save_and_a_broken_pipe_does_not_matter(tmp_path):
    process, _ = started(tmp_path, patience=60)
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
    wait_for(tmp_path / "told", "term")
    process.kill()
    process.stdout.close()
    wait_for(tmp_path / "told", "saved")
    assert (tmp_path / "told").read_text().split() == ["term", "hup", "saved"]
    process.wait()


def test_a_launcher_does_not_wait_for_its_process_where_that_was_stopped(tmp_path):
    process, _ = started(tmp_path, patience=60)
    process.send_signal(signal.SIGSTOP)
    wait_for(tmp_path / "told", "saved")
    assert process.wait(10) == -signal.SIGKILL


def test_one_that_was_stopped_for_a_moment_goes_on(tmp_path):
    process, _ = started(tmp_path, patience=60)
    for number in (signal.SIGSTOP, signal.SIGCONT):
        process.send_signal(number)
        time.sleep(0.2)
    time.sleep(0.6)
    assert (tmp_path / "told").read_text() == ""
    process.kill()
    wait_for(tmp_path / "told", "saved")
    process.wait()


def test_what_waits_for_ever_ends_some_time_after_its_launcher(tmp_path):
    process, _ = started(tmp_path, patience=0.1, then="hangs")
    process.kill()
    process.wait()
    assert process.stdout.read() == ""  # which comes when the worker, too, has ended


def test_elsewhere_nothing_is_sheltered():
    before = os.getpid()
    shelter({})
    assert os.getpid() == before


def test_what_nobody_reads_is_written_nowhere():
    read, write = os.pipe()
    os.close(read)
    with unbreakable(write) as file:
        print("more", file=file, flush=True)
    os.close(write)
