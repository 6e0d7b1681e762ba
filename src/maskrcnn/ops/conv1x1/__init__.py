"""A convolution with 1 x 1 weights and what follows it: `reference.py` defines it, `cpu.py` writes each number once."""

import torch
from jaxtyping import Float
from torch import Tensor

from maskrcnn.ops import fused
from maskrcnn.ops.channels_last import empty_result, suits
from maskrcnn.ops.conv1x1 import cpu, reference
from maskrcnn.ops.operator import operator

__all__ = ["conv1x1"]

HAS_WIDE_VECTORS = torch.backends.cpu.get_cpu_capability() == "AVX512"
"""Whether vectors of torch have 16 numbers."""


def conv1x1(
    x: Float[Tensor, "B C H W"],
    weight: Float[Tensor, "K C 1 1"],
    bias: Float[Tensor, " K"] | None = None,
    residual: Float[Tensor, "B K h w"] | None = None,
    *,
    stride: int = 1,
    relu: bool = False,
) -> Float[Tensor, "B K h w"]:
    """A linear layer at each pixel, or at each `stride`-th of a row and column from the first on.

    Add the bias and the residual, then ReLU where asked.
    On a CPU, in float32, with channels in multiples of 8, results lie in channels-last memory.
    Differentiable once. Where nothing learns, bf16 and, with vectors of 16 numbers, float32 are torch's fused ones.
    """
    if _is_faster_fused(x, weight, bias, residual, stride):
        return fused.convolution(x, weight, bias, residual, stride=stride, relu=relu)
    if _is_faster(x, weight, bias, residual, stride):
        return _forward(x[:, :, ::stride, ::stride], weight, bias, residual, relu)
    return reference.conv1x1(x, weight, bias, residual, stride, relu)


def _is_faster(x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None, stride: int) -> bool:
    """Whether the CPU's kernels can do it, and gain by it."""
    return suits(x, weight, bias, residual, side=1, stride=stride, multiple=cpu.LEAST)


def _is_faster_fused(x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None, stride: int) -> bool:
    """Whether torch's library has the faster kernel: it fills vectors of 16 numbers better, and computes in bf16."""
    has_kernel = x.dtype == torch.bfloat16 or HAS_WIDE_VECTORS
    return has_kernel and weight.shape[2:] == (1, 1) and fused.suits(x, weight, bias, residual, stride=stride)


@operator("conv1x1", "cpu")
def _forward(x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None, relu: bool) -> Tensor:
    return cpu.forward(x, weight, bias, residual, relu)


@_forward.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None, relu: bool) -> Tensor:
    return empty_result(x, len(weight))


def _save(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    x, weight, _, _, relu = inputs
    ctx.save_for_backward(x, weight, output if relu else None)


def _differentiate(ctx, grad):  # type: ignore[no-untyped-def]
    x, weight, y = ctx.saved_tensors
    needs_x, needs_weight, needs_bias, needs_residual, _ = ctx.needs_input_grad
    if y is not None:
        grad = torch.ops.aten.threshold_backward(grad, y, 0)
    rows, matrix = grad.permute(0, 2, 3, 1), weight.flatten(1)
    return (
        (rows @ matrix).permute(0, 3, 1, 2) if needs_x else None,
        (rows.flatten(0, 2).T @ x.permute(0, 2, 3, 1).flatten(0, 2))[:, :, None, None] if needs_weight else None,
        grad.sum((0, 2, 3)) if needs_bias else None,
        grad if needs_residual else None,
        None,
    )


_forward.register_autograd(_differentiate, setup_context=_save)
