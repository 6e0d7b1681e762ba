"""No kernel touches memory that is not its own: in fresh processes, and between guards."""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from maskrcnn.kernels import WIDTH_VARIABLE, WIDTHS
from maskrcnn.ops import channels_last
from maskrcnn.ops.conv1x1 import conv1x1
from maskrcnn.ops.conv1x1.reference import conv1x1 as reference_1x1
from maskrcnn.ops.conv3x3 import conv3x3
from maskrcnn.ops.conv3x3.reference import conv3x3 as reference_3x3

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
    assert {stress(width, "small", "5") for width in WIDTHS} == {digest(SMALL)}


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


GOOD = {"x": (1, 64, 32, 32), "bias": (64,), "residual": (1, 64, 32, 32)}
BAD = {
    "more channels than the weights": {"x": (1, 128, 32, 32)},
    "fewer channels than the weights": {"x": (1, 32, 32, 32)},
    "weights of another size": {"side": 5},
    "a bias of one number": {"bias": (1,)},
    "a bias of too few": {"bias": (32,)},
    "a residual to be repeated": {"residual": (1, 64, 1, 1)},
}


@pytest.mark.parametrize("learn", [True, False])
@pytest.mark.parametrize("op", [conv1x1, conv3x3])
@pytest.mark.parametrize("wrong", BAD, ids=str)
def test_shapes_that_disagree_are_left_to_the_definition(wrong, op, learn):
    """Which raises, or knows what is meant."""
    shapes = {**GOOD, "side": 3 if op is conv3x3 else 1, **BAD[wrong]}
    weight = torch.ones(64, 64, shapes["side"], shapes["side"]).requires_grad_(learn)
    given = [torch.ones(shapes["x"]), weight, torch.ones(shapes["bias"])]
    if op is conv1x1:
        given.append(torch.ones(shapes["residual"]))
    elif "residual" in wrong:
        pytest.skip("a 3 x 3 convolution has none")
    definition, unchecked = {conv1x1: reference_1x1, conv3x3: reference_3x3}[op], inspect.unwrap(op)
    try:
        expected = definition(*given, 1, False)
    except (RuntimeError, NotImplementedError):
        with pytest.raises((RuntimeError, NotImplementedError, TypeError)):
            unchecked(*given)
    else:
        torch.testing.assert_close(unchecked(*given), expected)


def test_weights_of_another_device_are_left_to_the_definition():
    x, weight = torch.ones(1, 64, 32, 32), torch.ones(64, 64, 3, 3)
    assert channels_last.suits(x, weight, None, side=3, stride=1)
    assert not channels_last.suits(x, weight.to("meta"), None, side=3, stride=1)
