"""A convolution of each channel with weights of its own, between ReLUs.

`reference.py` defines it. On a CPU `cpu.py` reads and writes each number as seldom as can be.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from maskrcnn.ops.channels_last import agree, empty_result
from maskrcnn.ops.depthwise import cpu, reference
from maskrcnn.ops.depthwise.rows import KERNELS, VECTOR
from maskrcnn.ops.operator import operator

__all__ = ["depthwise"]


def depthwise(
    x: Float[Tensor, "B C H W"],
    weight: Float[Tensor, "C 1 k k"],
    bias: Float[Tensor, " C"] | None = None,
    *,
    stride: int = 1,
    before: bool = False,
    after: bool = False,
    ceiling: float = math.inf,
) -> Float[Tensor, "B C h w"]:
    """Correlate each channel, with a border of zeros so that stride alone decides the size, and add the bias.

    The border is TensorFlow's SAME: of an odd number of zeros the last one lies behind, see `reference.border`.
    before, after   whether pixels, and results, go through ReLU
    ceiling         what a ReLU lets pass at most: 6 makes it ReLU6

    On a CPU, with 3 x 3 or 5 x 5 weights, stride 1 or 2 and channels in multiples of 16, results lie in
    channels-last memory, which pixels had best come in. bf16 pixels, as autocast makes them, meet float32 weights and
    are rounded once.
    NaN passes through the ReLUs. Differentiable once.
    """
    if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        x = x.to(torch.get_autocast_dtype("cpu"))
    if _is_faster(x, weight, bias, stride):
        return _forward(x, weight.float(), None if bias is None else bias.float(), stride, before, after, ceiling)
    return reference.depthwise(x, weight, bias, stride, before, after, ceiling)


def _is_faster(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> bool:
    """Whether the CPU's kernels can do it, and gain by it."""
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
def _forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, before: bool, after: bool, ceiling: float
) -> Tensor:
    return cpu.forward(x, weight, bias, stride, cpu.bounds(before, ceiling), cpu.bounds(after, ceiling))


@_forward.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, before: bool, after: bool, ceiling: float) -> Tensor:
    return empty_result(x, len(weight), stride)


@operator("depthwise_backward", "cpu")
def _backward(
    grad: Tensor,
    y: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: int,
    before: bool,
    after: bool,
    ceiling: float,
    needs_x: bool,
    needs_weight: bool,
) -> tuple[Tensor, Tensor]:
    """Gradients of pixels and weights; one that is not needed has no size, or no sense."""
    bounds = cpu.bounds(before, ceiling), cpu.bounds(after, ceiling)
    return cpu.backward(grad, y, x, weight, stride, *bounds, (needs_x, needs_weight))


@_backward.register_fake
def _(
    grad: Tensor,
    y: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: int,
    before: bool,
    after: bool,
    ceiling: float,
    needs_x: bool,
    needs_weight: bool,
) -> tuple[Tensor, Tensor]:
    like_x = torch.empty_like(x, memory_format=torch.channels_last)
    return like_x if needs_x else like_x[..., :0, :0], torch.empty(weight.shape, device=x.device)


def _save(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    x, weight, _, *ctx.how = inputs
    _, _, after, ctx.ceiling = ctx.how
    ctx.save_for_backward(output if after else None, x, weight)


def _differentiate(ctx, grad):  # type: ignore[no-untyped-def]
    needs_x, needs_weight, needs_bias, *_ = ctx.needs_input_grad
    y, x, weight = ctx.saved_tensors
    x_grad, weight_grad = None, None
    if needs_x or needs_weight:
        x_grad, weight_grad = _backward(grad, grad if y is None else y, x, weight, *ctx.how, needs_x, needs_weight)
    if needs_bias and y is not None:
        grad = torch.ops.aten.hardtanh_backward(grad, y, 0.0, ctx.ceiling)
    return (
        x_grad if needs_x else None,
        weight_grad if needs_weight else None,
        grad.sum((0, 2, 3), dtype=torch.float32) if needs_bias else None,
        *[None] * 4,
    )


_forward.register_autograd(_differentiate, setup_context=_save)
