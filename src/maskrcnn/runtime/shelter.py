"""A process that outlives its launcher for as long as a checkpoint takes.

Open MPI's `mpirun` sends SIGTERM to its processes and a second later SIGKILL, to their process groups. So the process
that it knows begins another one in a session of its own and passes signals on to it. When the first one is killed the
other notices, writes what it has learnt and ends.
"""

import io
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Thread
from types import FrameType
from typing import Any, NoReturn

PASSED_ON = (signal.SIGINT, signal.SIGTERM)
LOOK = 1.0
"""Seconds between looks whether the launcher is still there."""
STOPPED = 30.0
"""Seconds after which the process that the launcher knows is killed if it was stopped: the launcher would wait for it
for ever, long after this one has ended."""
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
    parent, child = os.getpid(), os.fork()
    if child:
        _wait(child)
    os.close(write)
    os.setsid()
    name = f"process {env['OMPI_COMM_WORLD_RANK']} (pid {parent} on {socket.gethostname()})"
    Thread(target=_end_after_parent, args=(read, parent, name, PATIENCE), name="shelter", daemon=True).start()
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


def _end_after_parent(pipe: int, parent: int, name: str, patience: float) -> None:
    """When the parent has ended say so by SIGHUP, and leave this process some time to end; end one that is stopped."""
    looks = 0
    while not select.select([pipe], [], [], LOOK)[0]:
        looks = looks + 1 if _is_stopped(parent) else 0  # not by a clock: both may have been stopped, and go on
        if looks * LOOK > STOPPED:
            with suppress(OSError):
                os.write(2, f"error: {name} was stopped for {STOPPED:.0f} s. All processes of the run end\n".encode())
            os.kill(parent, signal.SIGKILL)
            break
    os.kill(os.getpid(), signal.SIGHUP)
    time.sleep(patience)
    os._exit(128 + signal.SIGTERM)


def _is_stopped(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"T"
    return False


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
