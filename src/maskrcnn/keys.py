"""Random numbers that an image's key decides."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def uniform(keys: Int[Tensor, "B"], num: int, *, stream: int) -> Float[Tensor, "B num"]:
    """Draw numbers in [0, 1) that depend on key, stream and index alone: the same on every device and process.

    A 32-bit integer hash with two multiplications (Wellons 2018, "lowbias32"), in int64 arithmetic.
    """
    x = (
        torch.arange(num, device=keys.device) * 0x9E3779B1
        + (_mix(keys & _MASK) + _mix(keys >> 32 & _MASK ^ stream))[:, None]
    )
    return (_mix(x & _MASK) >> 8).float() * 2.0**-24


_MASK = 0xFFFFFFFF


def _mix(x: Int[Tensor, "*n"]) -> Int[Tensor, "*n"]:
    x = (x ^ x >> 16) * 0x7FEB352D & _MASK
    x = (x ^ x >> 15) * 0x846CA68B & _MASK
    return x ^ x >> 16
