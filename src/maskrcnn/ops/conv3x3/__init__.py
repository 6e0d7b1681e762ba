"""A convolution with 3 x 3 weights that keeps the size: `reference.py` defines it, `cpu.py` multiplies a quarter."""

import torch
from jaxtyping import Float
from torch import Tensor

from maskrcnn.ops.channels_last import empty_result, suits
from maskrcnn.ops.conv3x3 import cpu, reference

__all__ = ["conv3x3"]

MIN_CHANNELS, MIN_TILES, MIN_GRADIENT_TILES = 64, 48, 16
"""Fewer channels do not repay the transforms of pixels, fewer tiles of 4 x 4 pixels those of the weights.

The weights' gradient is transformed but once, so that it repays earlier.
"""


def conv3x3(
    x: Float[Tensor, "B C H W"],
    weight: Float[Tensor, "K C 3 3"],
    bias: Float[Tensor, " K"] | None = None,
    *,
    relu: bool = False,
) -> Float[Tensor, "B K H W"]:
    """Correlate with stride 1 and a border of zeros, add the bias, then ReLU where asked.

    On a processor, in float32, with enough channels in multiples of 32 and enough pixels, results lie in channels-last
    memory and are off by some 5e-6 of the largest, five times a direct convolution's error. Differentiable once.
    """
    if _is_faster(x, weight):
        return _convolve(x, weight, bias, relu)
    return reference.conv3x3(x, weight, bias, relu)


def _is_faster(x: Tensor, weight: Tensor) -> bool:
    """Whether the processor's kernel can do it, and gains by it."""
    is_large = min(weight.shape[:2]) >= MIN_CHANNELS and cpu.num_tiles(x.shape) >= MIN_GRADIENT_TILES
    return is_large and suits(x, weight)


@torch.library.custom_op("maskrcnn::conv3x3", mutates_args=(), device_types="cpu")
def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
    if cpu.num_tiles(x.shape) >= MIN_TILES:
        return cpu.forward(x, weight, bias, relu)
    return reference.conv3x3(x, weight, bias, relu).contiguous(memory_format=torch.channels_last)


@_convolve.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
    return empty_result(x, len(weight))


@torch.library.custom_op("maskrcnn::conv3x3_weight_gradient", mutates_args=(), device_types="cpu")
def _weight_gradient(grad: Tensor, x: Tensor) -> Tensor:
    return cpu.weight_gradient(grad, x)


@_weight_gradient.register_fake
def _(grad: Tensor, x: Tensor) -> Tensor:
    weight = x.new_empty((grad.shape[1], x.shape[1], 3, 3))
    return weight.contiguous(memory_format=torch.channels_last)


def _save(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    x, weight, _, relu = inputs
    ctx.save_for_backward(x, weight, output if relu else None)


def _differentiate(ctx, grad):  # type: ignore[no-untyped-def]
    x, weight, y = ctx.saved_tensors
    needs_x, needs_weight, needs_bias, _ = ctx.needs_input_grad
    if y is not None:
        grad = torch.ops.aten.threshold_backward(grad, y, 0)
    turned = weight.transpose(0, 1).flip(2, 3)
    return (
        _convolve(grad, turned, None, False) if needs_x else None,
        _weight_gradient(grad, x) if needs_weight else None,
        grad.sum((0, 2, 3)) if needs_bias else None,
        None,
    )


_convolve.register_autograd(_differentiate, setup_context=_save)
