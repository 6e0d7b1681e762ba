"""A process that outlives its launcher for as long as a checkpoint takes.

Open MPI's `mpirun` sends SIGTERM to its processes and a second later SIGKILL, to their process groups. So the process
that it knows begins another one in a session of its own and passes signals on to it. When the first one is killed the
other notices, writes what it has learnt and ends.
"""

import io
import os
import signal
import sys
import time
from collections.abc import Mapping
from threading import Thread
from types import FrameType
from typing import Any, NoReturn

PASSED_ON = (signal.SIGINT, signal.SIGTERM)
LOOK = 1.0
"""Seconds between looks whether the launcher is still there."""
PATIENCE = 60.0
"""Seconds after which a process ends whose launcher has gone, whatever it waits for: a peer that never comes, say."""


def shelter(env: Mapping[str, str] = os.environ) -> None:
    """Under Open MPI on Linux, return in a process of its own session; its parent waits and exits with its code.

    To be called before anything has begun a thread. Elsewhere it does nothing.
    """
    if "OMPI_COMM_WORLD_RANK" not in env or sys.platform != "linux":
        return
    take_back_cores()
    signal.pthread_sigmask(signal.SIG_BLOCK, {*PASSED_ON, signal.SIGCHLD})
    read, write = os.pipe()  # the kernel closes the parent's end, however it ends
    child = os.fork()
    if child:
        _wait(child)
    os.close(write)
    os.setsid()
    Thread(target=_end_after_parent, args=(read, PATIENCE), name="shelter", daemon=True).start()
    sys.stdout, sys.stderr = unbreakable(1), unbreakable(2)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {*PASSED_ON, signal.SIGCHLD})


def take_back_cores() -> None:
    """Use all cores of the launcher, which binds each process to one of them by default."""
    os.sched_setaffinity(0, os.sched_getaffinity(0) | os.sched_getaffinity(os.getppid()))


def _wait(child: int) -> NoReturn:
    """Pass the first signal on, and end as the child does. Launchers repeat theirs, which then means no hurry."""
    passed: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        if not passed:
            passed.append(number)
            os.kill(child, number)

    for number in PASSED_ON:
        signal.signal(number, pass_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    launcher = os.getppid()
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        signal.sigtimedwait({signal.SIGCHLD}, LOOK)
        if os.getppid() != launcher:
            pass_on(signal.SIGTERM, None)
    code = os.waitstatus_to_exitcode(ended[1])
    os._exit(code if code >= 0 else 128 - code)


def _end_after_parent(pipe: int, patience: float) -> None:
    """When the parent has ended say so by SIGHUP, and leave this process some time to end."""
    os.read(pipe, 1)
    os.kill(os.getpid(), signal.SIGHUP)
    time.sleep(patience)
    os._exit(128 + signal.SIGTERM)


class _Unbreakable(io.FileIO):
    """A file that takes everything, also when nobody reads it any more."""

    def write(self, content: Any, /) -> int:
        try:
            return super().write(content)
        except OSError:
            return len(content)


def unbreakable(number: int) -> io.TextIOWrapper:
    """Standard output or errors, by its number, line by line."""
    file = io.BufferedWriter(_Unbreakable(number, "w", closefd=False))
    return io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", line_buffering=True)
