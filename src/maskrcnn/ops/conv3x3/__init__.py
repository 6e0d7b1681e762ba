"""A convolution with 3 x 3 weights and a border: `reference.py` defines it.

On a processor `cpu.py` multiplies a quarter, and `strided.py` has weights' gradients of those that leave out pixels.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from maskrcnn.ops.channels_last import empty_result, suits
from maskrcnn.ops.conv3x3 import cpu, reference, strided
from maskrcnn.ops.operator import operator

__all__ = ["conv3x3"]

MIN_CHANNELS, MIN_TILES, MIN_PIXELS = 64, 16, 128
"""Fewer channels do not repay the transforms of pixels, fewer tiles of 4 x 4 pixels those of the weights.

With a stride, fewer pixels of the result do not repay copying patches for the weights' gradient.
"""


def conv3x3(
    x: Float[Tensor, "B C H W"],
    weight: Float[Tensor, "K C 3 3"],
    bias: Float[Tensor, " K"] | None = None,
    *,
    stride: int = 1,
    relu: bool = False,
) -> Float[Tensor, "B K h w"]:
    """Correlate with a border of zeros, at each pixel or each `stride`-th from the first on.

    Add the bias, then ReLU where asked. On a processor, in float32, with enough channels in multiples of 32 and enough
    pixels, results lie in channels-last memory. With stride 1 they are off by up to 1.5e-5 of the largest, six times a
    direct convolution's error. Differentiable once.
    """
    if _is_faster(x, weight, bias, stride):
        return _convolve(x, weight, bias, stride, relu)
    return reference.conv3x3(x, weight, bias, stride, relu)


def _is_faster(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> bool:
    """Whether the processor's kernels can do it, and gain by it."""
    if not suits(x, weight, bias, side=3, stride=stride):
        return False
    if stride > 1:
        return len(x) * x.shape[2] * x.shape[3] >= MIN_PIXELS * stride**2
    return min(weight.shape[:2]) >= MIN_CHANNELS and cpu.num_tiles(x.shape) >= MIN_TILES


@operator("conv3x3", "cpu")
def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, relu: bool) -> Tensor:
    if stride == 1:
        return cpu.forward(x, weight, bias, relu)
    return reference.conv3x3(x, weight, bias, stride, relu).contiguous(memory_format=torch.channels_last)


@_convolve.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, relu: bool) -> Tensor:
    return empty_result(x, len(weight), stride)


@operator("conv3x3_weight_gradient", "cpu")
def _weight_gradient(grad: Tensor, x: Tensor, stride: int) -> Tensor:
    return strided.weight_gradient(grad, x, stride) if stride > 1 else cpu.weight_gradient(grad, x)


@_weight_gradient.register_fake
def _(grad: Tensor, x: Tensor, stride: int) -> Tensor:
    weight = x.new_empty((grad.shape[1], x.shape[1], 3, 3))
    return weight.contiguous(memory_format=torch.channels_last)


@operator("conv3x3_input_gradient", "cpu")
def _input_gradient(grad: Tensor, weight: Tensor) -> Tensor:
    return cpu.input_gradient(grad, weight)


@_input_gradient.register_fake
def _(grad: Tensor, weight: Tensor) -> Tensor:
    return empty_result(grad, weight.shape[1])


def _gradient_of_input(grad: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    if stride == 1:
        return _input_gradient(grad, weight)
    return torch.ops.aten.convolution_backward(
        grad, x, weight, None, [stride, stride], [1, 1], [1, 1], False, [0, 0], 1, [True, False, False]
    )[0]


def _save(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    x, weight, _, stride, relu = inputs
    ctx.save_for_backward(x, weight, output if relu else None)
    ctx.stride = stride


def _differentiate(ctx, grad):  # type: ignore[no-untyped-def]
    x, weight, y = ctx.saved_tensors
    needs_x, needs_weight, needs_bias, *_ = ctx.needs_input_grad
    if y is not None:
        grad = torch.ops.aten.threshold_backward(grad, y, 0)
    return (
        _gradient_of_input(grad, x, weight, ctx.stride) if needs_x else None,
        _weight_gradient(grad, x, ctx.stride) if needs_weight else None,
        grad.sum((0, 2, 3)) if needs_bias else None,
        None,
        None,
    )


_convolve.register_autograd(_differentiate, setup_context=_save)
