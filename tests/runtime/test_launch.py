"""Processes for the devices of a machine: their variables, their signals, their exit codes."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from maskrcnn.runtime import launch as launching
from maskrcnn.runtime.launch import Cluster, launch

SECOND = Cluster(machines=2, number=1, devices=2, address="first", port=777)
TELL = """
import os
names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
os.write(1, (" ".join(os.environ[name] for name in names) + "\\n").encode())
"""


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_each_process_knows_its_number(capfd):
    assert launch(python(TELL), SECOND) == 0
    assert sorted(capfd.readouterr().out.splitlines()) == ["2 4 0 2", "3 4 1 2"]
    assert SECOND.variables(1)["MASTER_ADDR"] == "first"
    assert SECOND.variables(1)["MASTER_PORT"] == "777"


@pytest.mark.parametrize(("end", "code"), [("sys.exit(7)", 7), ("os.kill(os.getpid(), 9)", 137)])
def test_the_code_of_the_one_that_failed_first_comes_through(end, code, monkeypatch):
    monkeypatch.setattr(launching, "GRACE", 0.2)
    started = time.monotonic()
    failing = f"import os, sys, time; {end} if os.environ['LOCAL_RANK'] == '1' else time.sleep(60)"
    assert launch(python(failing), SECOND) == code
    assert time.monotonic() - started < 30


def test_one_that_does_not_hear_is_ended(monkeypatch):
    monkeypatch.setattr(launching, "GRACE", 0.3)
    deaf = (
        "import os, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "sys.exit(3) if os.environ['LOCAL_RANK'] == '0' else time.sleep(60)"
    )
    assert launch(python(deaf), SECOND) == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_all_of_them(number, tmp_path):
    """Each answers SIGTERM as a training does, which writes its checkpoint and exits with 143."""
    waiting = (
        "import os, pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
        f"pathlib.Path({str(tmp_path)!r}, os.environ['RANK']).touch()\n"
        "time.sleep(60)\n"
    )
    threading.Thread(target=lambda: (_wait_for(tmp_path, 2), os.kill(os.getpid(), number))).start()
    assert launch(python(waiting), SECOND) == 143


def _wait_for(folder, count: int) -> None:
    while len(list(folder.iterdir())) < count:
        time.sleep(0.01)


def test_processes_are_not_those_of_the_terminal_which_would_hear_a_signal_twice(capfd):
    assert launch(python("import os; os.write(1, f'{os.getpgid(0) == os.getpid()}\\n'.encode())"), SECOND) == 0
    assert capfd.readouterr().out == "True\nTrue\n"
    assert subprocess.run(python("pass"), check=True).returncode == 0
