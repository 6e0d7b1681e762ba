"""Group norm (Wu and He 2018) with ReLU: `reference.py` defines it, `cpu.py` is fast on CPUs."""

import torch
from jaxtyping import Float
from torch import Tensor

from maskrcnn.ops.group_norm import cpu, reference
from maskrcnn.ops.operator import operator

__all__ = ["group_norm"]


def group_norm(
    x: Float[Tensor, "B C H W"],
    weight: Float[Tensor, " C"],
    bias: Float[Tensor, " C"],
    *,
    groups: int,
    eps: float = 1e-5,
    relu: bool = False,
) -> Float[Tensor, "B C H W"]:
    """Centre and scale each image's groups of channels, then scale and shift each channel, then ReLU where asked.

    groups   consecutive channels share statistics, C / groups of them
    eps      added to the variance, which is over the group's C / groups * H * W values

    Computed in float32 and returned in the type of x. bf16 with a float32 weight, as autocast gives, needs no copy.
    On a CPU the result lies in channels-last memory, which x had best come in: there torch's own backward is
    several times slower than in NCHW, in bf16 some twenty times. NaN passes through the ReLU.
    Differentiable once, in x, weight and bias.
    Raises ValueError when groups do not divide the channels or weight and bias are not one number for each channel.
    """
    channels = x.shape[1]
    if groups < 1 or channels % groups:
        raise ValueError(f"group_norm: expected groups that divide {channels} channels, received {groups}")
    if weight.shape != (channels,) or bias.shape != (channels,):
        received = f"{tuple(weight.shape)} and {tuple(bias.shape)}"
        raise ValueError(f"group_norm: expected weight and bias of shape ({channels},), received {received}")
    if x.device.type == "cpu" and x.dtype in cpu.DTYPES:
        return _forward(x, weight.float(), bias.float(), groups, eps, relu)[0]
    return reference.group_norm(x, weight, bias, groups=groups, eps=eps, relu=relu)


@operator("group_norm", "cpu")
def _forward(
    x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, relu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The result, and mean and reciprocal standard deviation (B, groups)."""
    return cpu.forward(x, weight, bias, groups, eps, relu)


@_forward.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, relu: bool) -> tuple[Tensor, Tensor, Tensor]:
    y = torch.empty_like(x, memory_format=torch.channels_last)
    mean = x.new_empty((x.shape[0], groups), dtype=torch.float32)
    return y, mean, torch.empty_like(mean)


@operator("group_norm_backward", "cpu")
def _backward(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, rstd: Tensor, relu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    return cpu.backward(grad, x, weight, bias, mean, rstd, relu)


@_backward.register_fake
def _(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, rstd: Tensor, relu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    x_grad = torch.empty_like(x, memory_format=torch.channels_last)
    return x_grad, torch.empty_like(weight), torch.empty_like(bias)


def _save(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    x, weight, bias, _, _, ctx.relu = inputs
    _, mean, rstd = output
    ctx.mark_non_differentiable(mean, rstd)
    ctx.save_for_backward(x, weight, bias, mean, rstd)


def _differentiate(ctx, grad, *_):  # type: ignore[no-untyped-def]
    return *_backward(grad, *ctx.saved_tensors, ctx.relu), None, None, None


_forward.register_autograd(_differentiate, setup_context=_save)
