"""A convolution of each channel with weights of its own: `reference.py` defines it, `cpu.py` is fast on processors."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from maskrcnn.ops.channels_last import agree
from maskrcnn.ops.depthwise import cpu, reference
from maskrcnn.ops.depthwise.rows import KERNELS, VECTOR
from maskrcnn.ops.operator import operator
from maskrcnn.ops.relu import gated

__all__ = ["depthwise"]


def depthwise(
    x: Float[Tensor, "B C H W"],
    weight: Float[Tensor, "C 1 k k"],
    bias: Float[Tensor, " C"] | None = None,
    *,
    stride: int = 1,
    relu: bool = False,
    ceiling: float = math.inf,
) -> Float[Tensor, "B C h w"]:
    """Correlate each channel, with a border of zeros so that stride alone decides the size; add the bias, then ReLU.

    The border is TensorFlow's SAME, so stride 2 centres windows on the second pixel of each pair where their number is
    even: `reference.border`.
    ceiling   what ReLU lets pass at most: 6 makes it ReLU6

    On a processor, with 3 x 3 or 5 x 5 weights, stride 1 or 2 and channels in multiples of 16, results lie in
    channels-last memory, which pixels had best come in. There bf16 pixels, as autocast makes them, meet float32 weights
    and are rounded once; torch's own backward takes three times as long in float32 and twenty times in bf16.
    NaN passes through the ReLU. Differentiable once.
    """
    if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        x = x.to(torch.get_autocast_dtype("cpu"))
    if _is_faster(x, weight, bias, stride):
        return _forward(x, weight.float(), None if bias is None else bias.float(), stride, relu, ceiling)
    return reference.depthwise(x, weight, bias, stride, relu, ceiling)


def _is_faster(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> bool:
    """Whether the processor's kernels can do it, which is then faster."""
    channels, _, height, width = weight.shape
    return (
        x.device.type == "cpu"
        and x.dtype in cpu.DTYPES
        and weight.dtype in (x.dtype, torch.float32)
        and channels % VECTOR == 0
        and height == width
        and (height, stride) in KERNELS
        and agree(x, weight, bias, None, stride=stride, groups=channels)
    )


@operator("depthwise", "cpu")
def _forward(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, relu: bool, ceiling: float) -> Tensor:
    return cpu.forward(x, weight, bias, stride, relu, ceiling)


@_forward.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, relu: bool, ceiling: float) -> Tensor:
    return _empty(x, [-(-side // stride) for side in x.shape[2:]])


@operator("depthwise_backward", "cpu")
def _backward(
    grad: Tensor,
    y: Tensor | None,
    x: Tensor,
    weight: Tensor,
    stride: int,
    ceiling: float,
    needs_x: bool,
    needs_weight: bool,
) -> tuple[Tensor, Tensor]:
    """Gradients of pixels and weights, of which one that is not needed has no sense."""
    return cpu.backward(grad, y, x, weight, stride, ceiling, (needs_x, needs_weight))


@_backward.register_fake
def _(
    grad: Tensor,
    y: Tensor | None,
    x: Tensor,
    weight: Tensor,
    stride: int,
    ceiling: float,
    needs_x: bool,
    needs_weight: bool,
) -> tuple[Tensor, Tensor]:
    x_grad = _empty(x, x.shape[2:] if needs_x else (0, 0))
    return x_grad, torch.empty(weight.shape, device=x.device)


def _empty(x: Tensor, size: Sequence[int]) -> Tensor:
    """Of another height and width, in channels-last memory."""
    shape = *x.shape[:2], *size
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def _save(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    x, weight, _, ctx.stride, relu, ctx.ceiling = inputs
    ctx.save_for_backward(x, weight, output if relu else None)


def _differentiate(ctx, grad):  # type: ignore[no-untyped-def]
    x, weight, y = ctx.saved_tensors
    needs_x, needs_weight, needs_bias, *_ = ctx.needs_input_grad
    x_grad, weight_grad = None, None
    if needs_x or needs_weight:
        x_grad, weight_grad = _backward(grad, y, x, weight, ctx.stride, ctx.ceiling, needs_x, needs_weight)
    return (
        x_grad if needs_x else None,
        weight_grad if needs_weight else None,
        gated(grad, y, ctx.ceiling).sum((0, 2, 3), dtype=torch.float32) if needs_bias else None,
        None,
        None,
        None,
    )


_forward.register_autograd(_differentiate, setup_context=_save)
