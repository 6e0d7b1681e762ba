"""What the device can do at most, measured: products of large matrices, and copies."""

from functools import partial
from typing import NamedTuple

import torch

from maskrcnn.bench.timing import seconds_of

SIDE = {"cpu": 1024, "cuda": 8192}
"""Sides of the matrices."""
COPIED = {"cpu": 2**27, "cuda": 2**30}
"""Bytes that are copied, far more than the caches hold."""
TRIES = 7


class Ceilings(NamedTuple):
    """Rates that no kernel exceeds by much."""

    flops: float
    """Operations per second of matrix products in one number type."""
    bandwidth: float
    """Bytes per second, read and written."""


def measure(device: torch.device, dtype: torch.dtype) -> Ceilings:
    """The best of some tries, with the right matrix in both orders of memory: a library may be slow in one.

    float32 products are as exact as those of convolutions, which may take TF32.
    """
    side, size = (values.get(device.type, values["cpu"]) for values in (SIDE, COPIED))
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    source = torch.empty(size, dtype=torch.uint8, device=device).fill_(1)
    target = torch.empty_like(source)
    exact = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    try:
        product = min(
            seconds_of(partial(torch.matmul, left, matrix), device, calls=2)
            for matrix in (right, right.T)
            for _ in range(TRIES)
        )
    finally:
        torch.backends.cuda.matmul.allow_tf32 = exact
    copy = min(seconds_of(lambda: target.copy_(source), device, calls=2) for _ in range(TRIES))
    return Ceilings(2 * side**3 / product, 2 * size / copy)
