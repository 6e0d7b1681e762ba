"""A short trial: in which number type this processor predicts faster."""

import time
from functools import cache

import torch

from maskrcnn.ops.conv3x3 import conv3x3
from maskrcnn.precision import processor_has_bf16

CHANNELS, SIDE, TRIES = 256, 64, 3
"""Of a convolution as a prediction consists of."""


@cache
def fastest_on_processor() -> torch.dtype:
    """float32 or bf16; takes some tens of milliseconds once, and nothing on a processor without bf16."""
    if not processor_has_bf16():
        return torch.float32
    return min((torch.float32, torch.bfloat16), key=_seconds)


@torch.inference_mode()
def _seconds(dtype: torch.dtype) -> float:
    x, weight = (
        torch.ones(shape, dtype=dtype).contiguous(memory_format=torch.channels_last)
        for shape in ((1, CHANNELS, SIDE, SIDE), (CHANNELS, CHANNELS, 3, 3))
    )
    spent = []
    for _ in range(TRIES):
        begin = time.perf_counter()
        conv3x3(x, weight, relu=True)
        spent.append(time.perf_counter() - begin)
    return min(spent)
