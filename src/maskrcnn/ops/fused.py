"""Convolutions of torch's own library that end in what follows them, for CPUs and networks that do not learn.

What `torch.compile` calls for the same expressions. A residual and a ReLU of their own read and write everything again,
which takes longer than a product on matrix units; here they cost one reading of the residual. The sum is rounded once.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from maskrcnn.ops.channels_last import agree
from maskrcnn.ops.operator import operator

HAS_FLOAT32 = torch.backends.mkldnn.is_available()
HAS_BF16 = HAS_FLOAT32 and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
"""Whether the library is part of torch and computes in a number type on this CPU."""


def suits(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    *,
    stride: int = 1,
    groups: int = 1,
) -> bool:
    """Whether the library can do it: on the CPU, all in one number type that it computes in, with no gradient."""
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
    padding: int | None = None,
) -> Float[Tensor, "B K h w"]:
    """Correlate with a border of zeros; add bias and residual, then ReLU where asked.

    The result lies in channels-last memory. The library's ReLU turns NaN into 0.
    padding   width of the border, by default half the weights'
    """
    padding = weight.shape[2] // 2 if padding is None else padding
    result: Tensor = _convolve(x, weight, bias, residual, stride, groups, relu, padding)
    return result


@operator("fused_convolution", "cpu")
def _convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None,
    stride: int,
    groups: int,
    relu: bool,
    padding: int,
) -> Tensor:
    x, weight = (one.contiguous(memory_format=torch.channels_last) for one in (x, weight))
    geometry = [padding, padding], [stride, stride], [1, 1], groups
    if residual is not None and groups == 1:
        residual = residual.contiguous(memory_format=torch.channels_last)
        after = "relu" if relu else None
        y = torch.ops.mkldnn._convolution_pointwise.binary(
            x, residual, weight, bias, *geometry, "add", 1.0, after, [], ""
        )
    else:
        after = "relu" if relu and residual is None else "none"
        y = torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *geometry, after, [], "")
        if residual is not None:  # the library adds none to groups
            y = F.relu(y + residual) if relu else y + residual
    return y.contiguous(memory_format=torch.channels_last)


@_convolve.register_fake
def _(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None,
    stride: int,
    groups: int,
    relu: bool,
    padding: int,
) -> Tensor:
    spans = (side + 2 * padding - taps for side, taps in zip(x.shape[2:], weight.shape[2:], strict=True))
    shape = len(x), len(weight), *(span // stride + 1 for span in spans)
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
