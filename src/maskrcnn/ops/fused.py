"""Convolutions of torch's own library that end in what follows them, for processors and networks that do not learn.

What `torch.compile` calls for the same expressions. A residual and a ReLU of their own read and write everything again,
which takes longer than a product on matrix units; here they cost one reading of the residual. The sum is rounded once.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from maskrcnn.ops.channels_last import agree
from maskrcnn.ops.operator import operator
from maskrcnn.ops.relu import rectify

HAS_FLOAT32 = torch.backends.mkldnn.is_available()
HAS_BF16 = HAS_FLOAT32 and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
"""Whether the library is part of torch and computes in a number type on this processor."""


def suits(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    *,
    stride: int = 1,
    groups: int = 1,
) -> bool:
    """Whether the library can: on the processor, all in one number type that it computes in, with no gradient."""
    tensors = [one for one in (x, weight, bias, residual) if one is not None]
    if x.device.type != "cpu" or any(one.dtype != weight.dtype for one in tensors):
        return False
    if not agree(x, weight, bias, residual, stride=stride, groups=groups):  # which the library does not ask either
        return False
    if torch.is_grad_enabled() and any(one.requires_grad for one in tensors):
        return False
    if weight.dtype == torch.bfloat16:
        return HAS_BF16
    return HAS_FLOAT32 and weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")  # to bf16


def convolution(
    x: Float[Tensor, "B C H W"],
    weight: Float[Tensor, "K _ k k"],
    bias: Float[Tensor, " K"] | None = None,
    residual: Float[Tensor, "B K h w"] | None = None,
    *,
    stride: int = 1,
    groups: int = 1,
    relu: bool = False,
    ceiling: float = math.inf,
    padding: int | None = None,
) -> Float[Tensor, "B K h w"]:
    """Correlate with a border of zeros; add bias and residual, then ReLU where asked.

    The result lies in channels-last memory. The library's ReLU makes zero of what is no number.
    ceiling   what ReLU lets pass at most: 6 makes it ReLU6
    padding   width of the border, half the weights' where none is given
    """
    padding = weight.shape[2] // 2 if padding is None else padding
    result: Tensor = _convolve(x, weight, bias, residual, stride, groups, padding, relu, ceiling)
    return result


@operator("fused_convolution", "cpu")
def _convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None,
    stride: int,
    groups: int,
    padding: int,
    relu: bool,
    ceiling: float,
) -> Tensor:
    x, weight = (one.contiguous(memory_format=torch.channels_last) for one in (x, weight))
    geometry = [padding, padding], [stride, stride], [1, 1], groups
    is_one_call = residual is None or (groups == 1 and not (relu and ceiling < math.inf))
    if residual is not None and is_one_call:
        residual = residual.contiguous(memory_format=torch.channels_last)
        after = "relu" if relu else None
        y = torch.ops.mkldnn._convolution_pointwise.binary(
            x, residual, weight, bias, *geometry, "add", 1.0, after, [], ""
        )
    else:
        after = _activation(ceiling) if relu and is_one_call else ("none", [])
        y = torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *geometry, *after, "")
        if not is_one_call:  # the library adds none to groups, and ends no sum in ReLU6
            y = rectify(y + residual, relu, ceiling)
    return y.contiguous(memory_format=torch.channels_last)


def _activation(ceiling: float) -> tuple[str, list[float]]:
    """The library's word for a ReLU, and its numbers."""
    return ("relu", []) if ceiling == math.inf else ("hardtanh", [0.0, ceiling])


@_convolve.register_fake
def _(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None,
    stride: int,
    groups: int,
    padding: int,
    relu: bool,
    ceiling: float,
) -> Tensor:
    spans = (side + 2 * padding - taps for side, taps in zip(x.shape[2:], weight.shape[2:], strict=True))
    shape = len(x), len(weight), *(span // stride + 1 for span in spans)
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
