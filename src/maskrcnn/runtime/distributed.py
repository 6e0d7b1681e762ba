"""Several processes that work as one: who they are, and what they say to each other.

Processes are started by `torchrun`, by an `mpirun`, by SLURM's `srun`, or by anything that sets RANK and WORLD_SIZE;
without those there is one. Every collective also exists for tensors on the CPU (gloo), whatever the device,
so that control and bytes never wait for the device, and a process that dies is noticed at once. One that hangs
is noticed by its `heartbeat`.
"""

import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from threading import Timer

import torch
import torch.distributed as dist
from torch import Tensor, nn

from maskrcnn.runtime.devices import DeviceSetting, choose_device
from maskrcnn.runtime.heartbeat import Heart, join
from maskrcnn.runtime.meeting import first_host, meeting_point
from maskrcnn.runtime.ranks import Ranks, find_ranks
from maskrcnn.runtime.shelter import take_back_cores
from maskrcnn.sentences import typed

TIMEOUT = timedelta(minutes=30)
"""Longest wait for a process that is alive but behind (uneven evaluation on CPUs); a dead one is noticed at once, one
that hangs within a minute."""
LATE = 45.0
"""Seconds of waiting for the others at the beginning after which a process says so: machines may come minutes apart."""
BUCKET_ELEMENTS = 32 * 2**20
"""Elements of one all-reduce, 128 MiB in float32: bounds the copy that flattening makes."""
BACKENDS = {"cpu": "cpu:gloo", "cuda": "cpu:gloo,cuda:nccl", "npu": "cpu:gloo,npu:hccl", "xpu": "cpu:gloo,xpu:xccl"}


@dataclass(frozen=True)
class World:
    """The processes of a run, seen from one of them. Used as a context, an error in one brings the others down."""

    device: torch.device
    rank: int = 0
    size: int = 1
    local_rank: int = 0
    heart: Heart | None = None
    """Tells the others that this process lives; None where there are none."""

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and speaks to people."""
        return self.rank == 0

    def barrier(self) -> None:
        """Return when every process has come here."""
        self.any(False)

    def any(self, flag: bool) -> bool:
        """Whether the flag is up in any process; does not wait for the device."""
        if self.size == 1:
            return flag
        flags = torch.tensor([float(flag)])
        self._together(dist.all_reduce, flags)
        return bool(flags.item() > 0)

    def all_reduce_mean(self, tensors: Sequence[Tensor]) -> None:
        """Replace every tensor by its mean over the processes, in place, a bucket at a time.

        All processes give the same number of tensors of the same shapes, on `device`, of one type.
        """
        if self.size == 1:
            return
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            self._together(dist.all_reduce, flat)
            flat /= self.size
            parts = flat.split([tensor.numel() for tensor in bucket])
            torch._foreach_copy_(bucket, [part.view(tensor.shape) for part, tensor in zip(parts, bucket, strict=True)])

    def broadcast(self, module: nn.Module) -> None:
        """Give every process the first one's parameters and buffers."""
        if self.size == 1:
            return
        for tensor in [*module.parameters(), *module.buffers()]:
            value = tensor.detach().contiguous()
            self._together(dist.broadcast, value, 0)
            tensor.detach().copy_(value)

    def from_main(self, numbers: Sequence[float]) -> list[float]:
        """The first process's numbers, to their last bit; does not wait for the device."""
        if self.size == 1:
            return list(numbers)
        values = torch.tensor(numbers, dtype=torch.float64)
        self._together(dist.broadcast, values, 0)
        return values.tolist()

    def gather_bytes(self, content: bytes) -> list[bytes]:
        """What every process gave, in order of rank, on the first process; an empty list on the others."""
        if self.size == 1:
            return [content]
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        self._together(dist.all_gather, sizes, torch.tensor([len(content)]))
        longest = max(int(size) for size in sizes)
        mine = torch.zeros(longest, dtype=torch.uint8)
        if content:
            mine[: len(content)] = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        received = [torch.empty_like(mine) for _ in range(self.size)] if self.is_main else None
        self._together(dist.gather, mine, received, 0)
        return [part[: int(size)].numpy().tobytes() for part, size in zip(received or [], sizes, strict=False)]

    def doing(self, what: str) -> None:
        """Note what this process is busy with, for the sentence of the others if it hangs: `training, step 17`."""
        if self.heart is not None:
            self.heart.doing = what

    def on_hang(self, tell: Callable[[str], None]) -> None:
        """Tell somebody, in another thread, which process hangs, right before this one ends for that."""
        if self.heart is not None:
            self.heart.tell = tell

    def close(self) -> None:
        """Leave the others; those that still wait for this process fail instead of hanging."""
        if self.heart is not None:
            self.heart.stop()
        if self.size > 1 and dist.is_initialized():
            dist.destroy_process_group()

    def __enter__(self) -> "World":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _together(self, collective: Callable[..., object], *arguments: object) -> None:
        try:
            collective(*arguments)
        except RuntimeError as error:
            raise ConnectionError(
                f"process {self.rank} of {self.size} lost the others: one of them stopped, and its own message says "
                f"why, or the network broke ({_reason(error)})"
            ) from error


def start(device_setting: DeviceSetting = "auto") -> World:
    """Join the other processes, if the environment tells of any, and take this one's device.

    Raises ValueError when the device is missing or the environment is not complete, ConnectionError when the
    others cannot be met.
    """
    env = os.environ
    ranks = find_ranks(env)
    device = choose_device(device_setting, ranks.local_rank)
    if ranks.size > 1:
        share_cpus(env, ranks.local_size)
        meet(env, ranks, device)
    world = World(device, ranks.rank, ranks.size, ranks.local_rank)
    if ranks.size == 1:
        return world
    return replace(world, heart=join(ranks.rank, ranks.size, first_host(env, ranks), world.from_main))


def share_cpus(env: Mapping[str, str], local_size: int) -> None:
    """Give each process of a machine its share of CPU threads, unless OMP_NUM_THREADS says how many.

    `mpirun` binds each process to one core by default, which would starve the threads that decode images:
    the cores of the launcher are taken back first. `torchrun` sets OMP_NUM_THREADS=1 for everyone, which is
    nobody's choice.
    """
    if "OMPI_COMM_WORLD_RANK" in env and hasattr(os, "sched_setaffinity"):
        take_back_cores()
    chosen = env.get("OMP_NUM_THREADS")
    if chosen is None or (chosen == "1" and "TORCHELASTIC_RUN_ID" in env):
        torch.set_num_threads(max(1, _num_cpus() // local_size))


def meet(env: Mapping[str, str], ranks: Ranks, device: torch.device) -> None:
    """Open the process group."""
    # Its functions keep for ever the group that exists when they are imported, which an optimizer does. A group that
    # outlives `close` ends after the interpreter, and then now and then hangs or aborts a process that was done.
    from torch.distributed.nn import functional  # noqa: F401

    if device.type not in BACKENDS:
        raise ValueError(
            f"{ranks.size} processes cannot share work on {device.type}: torch adds up gradients between processes on "
            f"{', '.join(BACKENDS)}; start one process, or set {typed('device=cpu')}"
        )
    address = meeting_point(env, ranks)
    try:
        with said_if_late(
            f"process {ranks.rank} of {ranks.size} (pid {os.getpid()} on {socket.gethostname()}) still waits for the "
            f"others at {address}, up to {TIMEOUT}: one that says nothing did not start, or hangs or was stopped"
        ):
            dist.init_process_group(
                BACKENDS[device.type],
                init_method=address,
                rank=ranks.rank,
                world_size=ranks.size,
                timeout=TIMEOUT,
                device_id=None if device.type == "cpu" else device,
            )
    except (RuntimeError, ValueError) as error:
        raise ConnectionError(
            f"process {ranks.rank} of {ranks.size} could not meet the others at {address}: "
            f"{_reason(error)}; set MASTER_ADDR to the first machine and MASTER_PORT to a free port of it"
        ) from error


@contextmanager
def said_if_late(sentence: str) -> Iterator[None]:
    """Say a sentence on stderr where what is done here takes longer than `LATE`."""
    timer = Timer(LATE, os.write, (2, f"warning: {sentence}\n".encode()))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    elements = 0
    for tensor in tensors:
        if bucket and elements + tensor.numel() > BUCKET_ELEMENTS:
            yield bucket
            bucket, elements = [], 0
        bucket.append(tensor)
        elements += tensor.numel()
    if bucket:
        yield bucket


def _reason(error: Exception) -> str:
    """The first sentence of what a backend says, without its source file's name."""
    return re.sub(r"^\[[^]]*\] ", "", str(error).splitlines()[0]).partition(". ")[0]


def _num_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
