"""Images in channels-last memory, for kernels that run along channels on the CPU."""

import numpy as np
import torch
from jaxtyping import Float, Shaped
from numpy import ndarray
from torch import Tensor

WHOLE = 32
"""Channels that our kernels take at once."""


def suits(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None = None,
    *,
    side: int,
    stride: int,
    multiple: int = WHOLE,
) -> bool:
    """Whether a convolution is one for our kernels: on the CPU, in float32, channels in multiples of a number.

    side   of the weights
    """
    if x.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return False
    is_float = all(one is None or one.dtype == torch.float32 for one in (x, weight, bias, residual))
    return (
        is_float
        and has_whole_vectors(weight, multiple)
        and weight.shape[2:] == (side, side)
        and agree(x, weight, bias, residual, stride=stride)
    )


def agree(
    x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None, *, stride: int, groups: int = 1
) -> bool:
    """Whether a convolution's arguments lie on one device and fit together, which no kernel asks again.

    The definition says what is wrong with others, or knows what they mean. The border is half as wide as the weights.
    """
    if any(one is not None and one.device != x.device for one in (weight, bias, residual)):
        return False
    if x.ndim != 4 or weight.ndim != 4 or x.shape[1] != groups * weight.shape[1] or len(weight) % groups:
        return False
    result = len(x), len(weight), *(-(-length // stride) for length in x.shape[2:])
    has_bias = bias is None or bias.shape == (len(weight),)
    return has_bias and (residual is None or residual.shape == result)


def has_whole_vectors(weight: Float[Tensor, "K C _ _"], multiple: int = WHOLE) -> bool:
    """Whether channels of inputs and outputs come in multiples of what kernels take at once."""
    return all(channels % multiple == 0 for channels in weight.shape[:2])


def empty_result(x: Float[Tensor, "B C H W"], outputs: int, stride: int = 1) -> Float[Tensor, "B {outputs} h w"]:
    """Memory for a result of the size of `x`, or of its every `stride`-th pixel from the first on, not filled."""
    shape = len(x), outputs, *(-(-side // stride) for side in x.shape[2:])
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def pixels(x: Shaped[Tensor, "B C H W"]) -> Shaped[ndarray, "B H W C"]:
    """Pixels with their channels beside each other: a view where memory is channels-last, otherwise a copy."""
    return x.detach().permute(0, 2, 3, 1).contiguous().numpy()


def offset_and_floor(bias: Tensor | None, outputs: int, relu: bool) -> tuple[ndarray, np.float32]:
    """What is added to each channel of a result, and the least number it may hold."""
    offset = np.zeros(outputs, np.float32) if bias is None else bias.detach().contiguous().numpy()
    return offset, np.float32(0 if relu else -np.inf)
