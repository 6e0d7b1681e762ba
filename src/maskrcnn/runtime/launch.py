"""One process for each device of a machine, with the variables by which they meet."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import NamedTuple

GRACE = 60.0
"""Seconds in which the others end by themselves when one has failed, and again when they were told to."""
LOOK = 0.1
"""Seconds between looks at the processes."""


class Cluster(NamedTuple):
    """The machines of a job, seen from one of them."""

    machines: int
    number: int
    """This machine's number; that of the first is 0."""
    devices: int
    """Number on each machine; each has a process."""
    address: str
    """The first machine's name."""
    port: int

    def variables(self, local_rank: int) -> dict[str, str]:
        """What `distributed.start` reads in a process of this machine."""
        return {
            "RANK": str(self.number * self.devices + local_rank),
            "WORLD_SIZE": str(self.machines * self.devices),
            "LOCAL_RANK": str(local_rank),
            "LOCAL_WORLD_SIZE": str(self.devices),
            "MASTER_ADDR": self.address,
            "MASTER_PORT": str(self.port),
        }


def launch(command: Sequence[str], cluster: Cluster, env: Mapping[str, str] = os.environ) -> int:
    """Run a command once for each device of this machine, and wait for all of them.

    Returns 0 when all did, else the exit code of the one that failed first, 128 + N for one that signal N ended.
    SIGINT and SIGTERM are passed on as SIGTERM. When one fails the others are left time to end, then are stopped.
    """
    processes = [
        subprocess.Popen(command, env={**env, **cluster.variables(rank)}, process_group=0)
        for rank in range(cluster.devices)
    ]
    before = {number: signal.signal(number, _passing_on(processes)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        code = _first_failure(processes)
        _end(processes)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code


def _first_failure(processes: Sequence[subprocess.Popen[bytes]]) -> int:
    """Wait until one has failed or all are done; the code of the one, or 0."""
    while True:
        codes = [process.poll() for process in processes]
        failed = next((code for code in codes if code), 0)
        if failed or None not in codes:
            return failed
        time.sleep(LOOK)


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Wait for those that still run, which lose the one that failed; then tell them to stop, then stop them."""
    for stop in (None, signal.SIGTERM, signal.SIGKILL):
        if stop is not None:
            _send(processes, stop)
        deadline = time.monotonic() + GRACE
        while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
            time.sleep(LOOK)


def _passing_on(processes: Sequence[subprocess.Popen[bytes]]) -> Callable[[int, FrameType | None], None]:
    return lambda number, frame: _send(processes, signal.SIGTERM)


def _send(processes: Sequence[subprocess.Popen[bytes]], number: int) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(number)
