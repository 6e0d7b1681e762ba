"""No kernel touches memory that is not its own: in fresh processes, and between guards."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from maskrcnn.kernels import WIDTH_VARIABLE, WIDTHS

from .stress import LARGE, SMALL, digest, results

HERE = Path(__file__).parent
ALLOCATOR = "glibc.malloc.tcache_count=0:glibc.malloc.arena_max=1:glibc.malloc.perturb=165"
"""One heap for all threads, and none of each thread's own: memory that one frees is another's at once, and is
overwritten first. With addresses that outlived their arrays five repeats aborted or differed in five of six processes;
with the default setting, or with MALLOC_CHECK_, which lets one thread at a time allocate, in one of six or none."""
GUARD = 4096
"""Numbers before and after an array."""
CANARY = np.frombuffer(b"\xa5\xc3\xff\x7f", np.float32)[0]
"""A NaN that no arithmetic makes: read, it would show in a result; overwritten, it is missed."""


def stress(width: int, *arguments: str) -> str:
    environment = {**os.environ, WIDTH_VARIABLE: str(width), "GLIBC_TUNABLES": ALLOCATOR, "OMP_NUM_THREADS": "2"}
    command = [sys.executable, HERE / "stress.py", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{done.returncode}: {done.stderr}"
    return done.stdout.strip()


def test_threads_and_vectors_of_either_width_give_the_same_bits_in_every_process():
    assert {stress(width, "small", "10") for width in WIDTHS} == {digest(SMALL)}


@pytest.mark.exhaustive
def test_the_same_holds_at_the_sizes_of_a_large_network():
    assert {stress(width, "large", "2") for width in WIDTHS for _ in range(3)} == {digest(LARGE)}


class Guarded:
    """Stands in for `empty` of numpy and torch: arrays lie between guards, and hold NaN until they are written."""

    def __init__(self):
        self.memory: list[np.ndarray] = []

    def _flat(self, size: int) -> np.ndarray:
        whole = np.full(size + 2 * GUARD, CANARY)
        self.memory.append(whole)
        return whole[GUARD : GUARD + size]

    def numpy_empty(self, shape, dtype=np.float32):
        assert dtype == np.float32
        return self._flat(int(np.prod(shape))).reshape(shape)

    def torch_empty(self, *shape, memory_format=torch.contiguous_format, **_):
        shape = tuple(shape[0]) if isinstance(shape[0], tuple) else shape
        flat = torch.from_numpy(self._flat(int(np.prod(shape))))
        if memory_format == torch.channels_last:
            batch, channels, height, width = shape
            return flat.view(batch, height, width, channels).permute(0, 3, 1, 2)
        return flat.view(shape)

    def like(self, tensor: torch.Tensor) -> torch.Tensor:
        held = self.torch_empty(tuple(tensor.shape), memory_format=torch.channels_last)
        return held.copy_(tensor)

    def check(self):
        assert self.memory
        for whole in self.memory:
            for guard in (whole[:GUARD], whole[-GUARD:]):
                assert (guard.view(np.uint32) == CANARY.view(np.uint32)).all()


@pytest.mark.parametrize(("op", "call"), [(op, call) for op, calls in SMALL.items() for call in calls])
def test_what_lies_around_inputs_scratch_and_results_is_neither_read_nor_written(op, call, monkeypatch):
    expected = results(op, *call)
    guarded = Guarded()
    with monkeypatch.context() as patch:
        patch.setattr(np, "empty", guarded.numpy_empty)
        patch.setattr(torch, "empty", guarded.torch_empty)
        found = results(op, *call, place=guarded.like)
    guarded.check()
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)
