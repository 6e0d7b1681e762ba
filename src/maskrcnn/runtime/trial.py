"""How this CPU predicts fastest: by a rule where one holds, else by a trial that is kept."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from typing import NamedTuple

import torch
from torch import Tensor, nn

from maskrcnn.models.layers import Conv, Doubling, fold
from maskrcnn.models.resnet import Bottleneck
from maskrcnn.runtime.precision import Precision, cpu_has_bf16
from maskrcnn.runtime.verdicts import Facts, Verdict, recall, remember

CHANNELS, HEIGHT, WIDTH = 256, 24, 48
"""Size of the activations that are tried."""
TRIES = 5
"""Measurements of each way, whose least counts: what else runs on the machine only adds to one."""
CLOCK = time.perf_counter if os.name == "nt" else time.thread_time
"""A clock that stands still while other work has the core; on Windows, whose has too few ticks, one that does not."""
LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
"""Variables that keep torch's library from using what the CPU has."""


class Way(NamedTuple):
    """How layers are computed."""

    dtype: torch.dtype
    widened: bool = False
    """Whether 3 x 3 convolutions between bf16 activations are computed in float32, with fewer products."""


WAYS = {
    "float32": Way(torch.float32),
    "bf16": Way(torch.bfloat16),
    "bf16, 3 x 3 in float32": Way(torch.bfloat16, widened=True),
}


class Trial(Verdict, frozen=True):
    """What was measured."""

    seconds: dict[str, float]
    """Least of each way."""


def fastest_on_cpu(dtype: torch.dtype | None = None) -> Precision:
    """The fastest way of a number type, or of both float32 and bf16.

    Nothing is tried where bf16 has to be emulated, which float32 always beats, and where matrix units multiply it,
    which no float32 kernel comes near. Otherwise the first process of a machine takes some tenths of a second.
    """
    way = _fastest(dtype)
    return Precision("cpu", way.dtype, way.widened)


@cache
def _fastest(dtype: torch.dtype | None) -> Way:
    if dtype == torch.float32 or not cpu_has_bf16():
        return Way(dtype or torch.float32)
    if _has_matrix_units():
        return Way(torch.bfloat16)
    seconds = _kept_seconds(_facts())
    allowed = [name for name, way in WAYS.items() if dtype in (None, way.dtype)]
    return WAYS[min(allowed, key=lambda name: seconds[name])]


def _has_matrix_units() -> bool:
    """AMX that torch's library is free to use, and the system lets this process have."""
    has_amx = torch.cpu.get_capabilities().get("amx_bf16", False)
    return bool(has_amx) and not any(map(os.environ.get, LIMITS)) and torch.cpu._init_amx()


def _facts() -> Facts:
    """All that decides which way is the fastest."""
    capabilities = torch.cpu.get_capabilities()
    return {
        "cpu": str(capabilities.get("cpu_name", "")),
        "features": " ".join(sorted(name for name, value in capabilities.items() if value is True)),
        "limits": " ".join(os.environ.get(name, "") for name in LIMITS).strip(),
        "vectors": os.environ.get("MASKRCNN_VECTOR_WIDTH", ""),
        "torch": str(torch.__version__),
        "maskrcnn": version("maskrcnn"),
    }


def _kept_seconds(facts: Facts) -> dict[str, float]:
    """What was measured earlier, or now; the first of several processes that measure at once has its way."""
    known = _known_seconds(facts)
    if known is not None:
        return known
    measured = _measure()
    known = _known_seconds(facts)
    if known is not None:
        return known
    remember(Trial(facts, measured))
    return measured


def _known_seconds(facts: Facts) -> dict[str, float] | None:
    """What was measured earlier; None where a way is missing, as well."""
    trial = recall(Trial, facts)
    return trial.seconds if trial is not None and trial.seconds.keys() == WAYS.keys() else None


class _Sample(nn.Module):
    """Layers of each kind that costs time: a bottleneck, a lateral and an output of the pyramid, a mask head's end."""

    def __init__(self) -> None:
        super().__init__()
        self.block = Bottleneck(CHANNELS, CHANNELS // 4, 1, "frozen_batch_norm")
        self.lateral = Conv(CHANNELS, CHANNELS, 1)
        self.output = Conv(CHANNELS, CHANNELS, 3, relu=True)
        self.doubling = Doubling(CHANNELS, CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.doubling(self.output(self.lateral(self.block(x), x)))
        return y


def _measure() -> dict[str, float]:
    """Seconds of each way on one core, the least of several in turns.

    With more threads, one that waits for another, which the machine lets wait, would count.
    """
    works = {name: _work(way) for name, way in WAYS.items()}
    spent: dict[str, list[float]] = {name: [] for name in WAYS}
    with _one_thread():
        for work in works.values():
            work()  # compiles kernels
        for _ in range(TRIES):
            for name, work in works.items():
                begin = CLOCK()
                work()
                spent[name].append(CLOCK() - begin)
    return {name: min(times) for name, times in spent.items()}


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _work(way: Way) -> Callable[[], Tensor]:
    """A prediction of the sample."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sample = _Sample().to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
        x = torch.randn(1, CHANNELS, HEIGHT, WIDTH, dtype=way.dtype).contiguous(memory_format=torch.channels_last)
    fold(sample.eval(), way.dtype, widened=way.widened)

    @torch.inference_mode()
    def work() -> Tensor:
        with Precision("cpu", way.dtype).autocast():
            y: Tensor = sample(x)
        return y

    return work
