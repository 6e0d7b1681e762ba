"""A process that outlives its launcher for as long as a checkpoint takes.

Open MPI's `mpirun` sends SIGTERM to its processes and a second later SIGKILL, to their process groups. So the process
that it knows begins another one in a session of its own and passes signals on to it. When the first one is killed the
kernel tells the other, which writes what it has learnt and ends.
"""

import ctypes
import io
import os
import signal
import sys
from collections.abc import Mapping
from types import FrameType
from typing import NoReturn

PR_SET_PDEATHSIG = 1
"""From linux/prctl.h: which signal a process gets when its parent ends."""
PASSED_ON = (signal.SIGINT, signal.SIGTERM)


def shelter(env: Mapping[str, str] = os.environ) -> None:
    """Under Open MPI on Linux, return in a process of its own session; its parent waits and exits with its code.

    To be called before anything has begun a thread. Elsewhere it does nothing.
    """
    if "OMPI_COMM_WORLD_RANK" not in env or sys.platform != "linux":
        return
    take_back_cores()
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
    _tell_when_parent_ends(signal.SIGTERM)
    parent = os.getpid()
    child = os.fork()
    if child:
        _wait(child)
    os.setsid()
    _tell_when_parent_ends(signal.SIGHUP)
    if os.getppid() != parent:  # it ended before the kernel knew whom to tell
        os._exit(128 + signal.SIGTERM)
    sys.stdout, sys.stderr = _unbreakable(1), _unbreakable(2)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)


def take_back_cores() -> None:
    """Use all cores of the launcher, which binds each process to one of them by default."""
    os.sched_setaffinity(0, os.sched_getaffinity(0) | os.sched_getaffinity(os.getppid()))


def _wait(child: int) -> NoReturn:
    """Pass the first signal on, and end as the child does. A second one means no hurry: launchers repeat theirs."""
    passed: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        if not passed:
            passed.append(number)
            os.kill(child, number)

    for number in PASSED_ON:
        signal.signal(number, pass_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os._exit(code if code >= 0 else 128 - code)


def _tell_when_parent_ends(number: int) -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)


class _Unbreakable(io.FileIO):
    """A file that takes everything, also when nobody reads it any more."""

    def write(self, content: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]
        try:
            return super().write(content)
        except OSError:
            return len(content)


def _unbreakable(number: int) -> io.TextIOWrapper:
    """Standard output or errors, line by line."""
    file = io.BufferedWriter(_Unbreakable(number, "w", closefd=False))
    return io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", line_buffering=True)
