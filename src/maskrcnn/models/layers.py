"""A convolution with its norm and activation, and the norms that it knows."""

import copy
import math
from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from maskrcnn.ops import fused
from maskrcnn.ops.channels_last import has_whole_vectors
from maskrcnn.ops.conv1x1 import conv1x1
from maskrcnn.ops.conv3x3 import MIN_CHANNELS, conv3x3
from maskrcnn.ops.depthwise import depthwise
from maskrcnn.ops.depthwise.reference import border
from maskrcnn.ops.group_norm import group_norm
from maskrcnn.ops.processes import gather, num_processes

Model = TypeVar("Model", bound=nn.Module)


class FrozenBatchNorm(nn.Module):
    """Batch norm with fixed statistics: a scale and a shift per channel, never trained."""

    eps = 1e-5
    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def scale_and_shift(self) -> tuple[Float[Tensor, "C"], Float[Tensor, "C"]]:
        return _scale_and_shift(self.weight, self.bias, self.running_mean, self.running_var, self.eps)


class BatchNorm(nn.BatchNorm2d):
    """Batch norm over the images and cells of this process; where it is frozen it uses its running statistics."""

    @property
    def is_live(self) -> bool:
        return self.training and self.weight.requires_grad

    def scale_and_shift(self) -> tuple[Float[Tensor, "C"], Float[Tensor, "C"]]:
        assert self.running_mean is not None, "tracked by default"
        assert self.running_var is not None, "as the mean"
        return _scale_and_shift(self.weight, self.bias, self.running_mean, self.running_var, self.eps)

    def forward(self, x: Float[Tensor, "B C H W"], relu: bool = False) -> Float[Tensor, "B C H W"]:
        x = super().forward(x)
        return F.relu(x, inplace=True) if relu else x


class SyncBatchNorm(BatchNorm):
    """Batch norm over the images and cells of all processes together, as if one process had them all."""

    def forward(self, x: Float[Tensor, "B C H W"], relu: bool = False) -> Float[Tensor, "B C H W"]:
        if not self.is_live or num_processes() == 1:
            return super().forward(x, relu)
        mean, variance, count = joint_moments(x)
        self._remember(mean, variance, count)
        scale, shift = _scale_and_shift(self.weight, self.bias, mean, variance, self.eps)
        y = (x * scale[:, None, None] + shift[:, None, None]).to(x.dtype)
        return F.relu(y, inplace=True) if relu else y

    @torch.no_grad()
    def _remember(self, mean: Float[Tensor, "C"], variance: Float[Tensor, "C"], count: Float[Tensor, ""]) -> None:
        """Move the running statistics as torch does: the variance is that of a sample."""
        assert self.running_mean is not None, "tracked by default"
        assert self.running_var is not None, "as the mean"
        assert self.num_batches_tracked is not None, "as the mean"
        assert self.momentum is not None, "0.1 by default"
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * (count / (count - 1).clamp(min=1)), self.momentum)
        self.num_batches_tracked.add_(1)


class FixedBatchNorm(BatchNorm):
    """Batch norm with given statistics, whose scale and shift are trained."""

    @property
    def is_live(self) -> bool:
        """Never: a convolution folds what is not live into its weights, through which scale and shift are trained."""
        return False


def joint_moments(
    x: Float[Tensor, "B C H W"],
) -> tuple[Float[Tensor, "C"], Float[Tensor, "C"], Float[Tensor, ""]]:
    """Compute mean and variance of each channel over all processes, whose images may have other sizes, and the count.

    One exchange. Variances are combined by their distance from the joint mean, which keeps the digits that the
    difference of two large sums would lose (Chan, Golub and LeVeque 1983).
    """
    channels = x.shape[1]
    variance, mean = torch.var_mean(x.float(), dim=(0, 2, 3), correction=0)
    count = mean.new_full((1,), x.numel() // channels)
    told = gather(torch.cat([mean, variance, count]))
    means, variances, counts = told[:, :channels], told[:, channels:-1], told[:, -1:]
    total = counts.sum()
    mean = (means * counts).sum(0) / total
    variance = ((variances + (means - mean).square()) * counts).sum(0) / total
    return mean, variance, total


def _scale_and_shift(
    weight: Float[Tensor, "C"],
    bias: Float[Tensor, "C"],
    mean: Float[Tensor, "C"],
    variance: Float[Tensor, "C"],
    eps: float,
) -> tuple[Float[Tensor, "C"], Float[Tensor, "C"]]:
    scale = weight * torch.rsqrt(variance + eps)
    return scale, bias - mean * scale


class GroupNorm(nn.GroupNorm):
    """Group norm with the paper's 32 groups, or the most that divide the channels and have two or more each."""

    def __init__(self, channels: int) -> None:
        most = max(1, min(32, channels // 2))
        super().__init__(next(groups for groups in range(most, 0, -1) if channels % groups == 0), channels)

    def forward(self, x: Float[Tensor, "B C H W"], relu: bool = False) -> Float[Tensor, "B C H W"]:
        return group_norm(x, self.weight, self.bias, groups=self.num_groups, eps=self.eps, relu=relu)


MATRICES = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
"""Layers whose weights autocast casts."""
NORMS = {
    "frozen_batch_norm": FrozenBatchNorm,
    "fixed_batch_norm": FixedBatchNorm,
    "batch_norm": BatchNorm,
    "sync_batch_norm": SyncBatchNorm,
    "group_norm": GroupNorm,
}


class Conv(nn.Conv2d):
    """Convolution, norm, residual and ReLU; padded so that stride alone decides the output's size.

    A batch norm with fixed statistics never runs as a layer of its own: it is folded into weights and bias, which saves
    a pass over the activations and leaves the gradient of the weights exact.

    same   padded as in TensorFlow, where stride 2 centres windows on the second of two pixels; otherwise on the first
    """

    widened = False
    """Whether it computes in float32, for a faster kernel, while activations have another dtype."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        groups: int = 1,
        norm: str | None = None,
        relu: bool = False,
        same: bool = False,
    ) -> None:
        padding = 0 if same else kernel_size // 2
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=norm is None)
        self.norm = NORMS[norm](out_channels) if norm else None
        self.relu, self.same = relu, same
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(
        self, x: Float[Tensor, "B Cin H W"], residual: Float[Tensor, "B Cout h w"] | None = None
    ) -> Float[Tensor, "B Cout h w"]:
        weight, bias, norm = self._resolved()
        if norm is None:
            return self._convolve(x, weight, bias, residual, relu=self.relu)
        y = self._convolve(x, weight, bias, None, relu=False)
        return norm(y, relu=self.relu) if residual is None else _sum(norm(y), residual, relu=self.relu)

    def _resolved(self) -> tuple[Tensor, Tensor | None, nn.Module | None]:
        """Weight and bias, and the norm that has to run behind them."""
        is_fixed = isinstance(self.norm, FrozenBatchNorm) or (
            isinstance(self.norm, BatchNorm) and not self.norm.is_live
        )
        return (*self.with_norm(), None) if is_fixed else (self.weight, self.bias, self.norm)

    def _convolve(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None, *, relu: bool
    ) -> Tensor:
        if not self.widened:
            return self._correlate(x, weight, bias, residual, relu=relu)
        with torch.autocast(x.device.type, enabled=False):
            return self._correlate(x.float(), weight, bias, residual, relu=relu).to(x.dtype)

    def _correlate(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None, *, relu: bool
    ) -> Tensor:
        stride = self.stride[0]
        x = self._padded(x) if self.same else x
        if weight.dtype == torch.bfloat16:
            x = x.to(weight.dtype)  # autocast would
            if fused.suits(x, weight, bias, residual, stride=stride, groups=self.groups):
                padding, groups = int(self.padding[0]), self.groups
                return fused.convolution(
                    x, weight, bias, residual, stride=stride, groups=groups, relu=relu, padding=padding
                )
        if self.groups == 1 and self.kernel_size == (1, 1):
            return conv1x1(x, weight, bias, residual, stride=stride, relu=relu)
        if self.groups == 1 and self.kernel_size == (3, 3) and not self.same:
            y = conv3x3(x, weight, bias, stride=stride, relu=relu and residual is None)
            return y if residual is None else _sum(y, residual, relu=relu)
        return _sum(F.conv2d(x, weight, bias, self.stride, self.padding, groups=self.groups), residual, relu=relu)

    def _padded(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C _ _"]:
        (top, bottom), (left, right) = (border(side, self.kernel_size[0], self.stride[0]) for side in x.shape[2:])
        return F.pad(x, (left, right, top, bottom))

    @property
    def multiplies_less(self) -> bool:
        """Whether float32 has a kernel with a quarter of the multiplications (Winograd)."""
        is_direct = self.groups > 1 or self.kernel_size != (3, 3) or self.stride != (1, 1) or self.same
        return not is_direct and min(self.weight.shape[:2]) >= MIN_CHANNELS and has_whole_vectors(self.weight)

    def with_norm(self) -> tuple[Float[Tensor, "Cout _ _ _"], Float[Tensor, " Cout"]]:
        """Return weight and bias with the batch norm's fixed statistics folded in."""
        assert isinstance(self.norm, FrozenBatchNorm | BatchNorm), "the norms that have statistics"
        scale, shift = self.norm.scale_and_shift()
        return self.weight * scale[:, None, None, None], shift


class Depthwise(Conv):
    """ReLU6, a convolution of each channel with weights of its own, norm, ReLU6; padded as in TensorFlow.

    The first ReLU6 is that of the layer before, whose result this one alone reads: here it costs no pass of its own.
    """

    ceiling = 6.0

    def __init__(self, channels: int, kernel_size: int, *, stride: int = 1, norm: str | None = None) -> None:
        super().__init__(
            channels, channels, kernel_size, stride=stride, groups=channels, norm=norm, relu=True, same=True
        )
        nn.init.normal_(self.weight, std=math.sqrt(2) / kernel_size)  # each output is fed by one channel

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C h w"]:  # type: ignore[override]
        weight, bias, norm = self._resolved()
        after, ceiling = norm is None, self.ceiling
        y = depthwise(x, weight, bias, stride=self.stride[0], before=True, after=after, ceiling=ceiling)
        return y if norm is None else F.hardtanh(norm(y), 0.0, ceiling, inplace=True)


class Doubling(nn.ConvTranspose2d):
    """A deconvolution with 2 x 2 weights and stride 2, then ReLU: a linear layer that makes four pixels of each."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 2, stride=2)
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        assert self.bias is not None, "asked for by default"
        nn.init.zeros_(self.bias)

    def forward(self, x: Float[Tensor, "B Cin H W"]) -> Float[Tensor, "B Cout H 4*W"]:  # type: ignore[override]
        """Leave each pixel's four side by side: 1 x 1 layers that follow can run before `arranged`."""
        assert self.bias is not None, "asked for by default"
        weight, bias = self.weight.permute(2, 3, 1, 0).flatten(0, 2)[:, :, None, None], self.bias.repeat(4)
        y = conv1x1(x, weight, bias, relu=True).permute(0, 2, 3, 1)
        return y.unflatten(3, (4, self.out_channels)).flatten(2, 3).permute(0, 3, 1, 2)

    @staticmethod
    def arranged(y: Float[Tensor, "*B H 4*W"]) -> Float[Tensor, "*B 2*H 2*W"]:
        """Move each pixel's four into two rows of two."""
        return y.unflatten(-1, (-1, 2, 2)).transpose(-3, -2).flatten(-4, -3).flatten(-2)


def _sum(x: Tensor, residual: Tensor | None, *, relu: bool) -> Tensor:
    x = x if residual is None else x + residual
    return F.relu(x, inplace=True) if relu else x


def folded(model: Model, dtype: torch.dtype = torch.float32, *, widened: bool = False) -> Model:
    """Return a folded copy; see `fold`."""
    model = copy.deepcopy(model)
    fold(model, dtype, widened=widened)
    return model


def fold(model: nn.Module, dtype: torch.dtype = torch.float32, *, widened: bool = False) -> None:
    """Fold batch norms into their convolutions and cast matrices to `dtype`, for prediction only.

    Casts once what autocast would cast at every call. Afterwards no weight has a gradient.

    widened   whether 3 x 3 convolutions with a faster kernel in float32 (`multiplies_less`) stay in float32
    Depthwise convolutions keep the float32 weights that their kernel computes with.
    """
    model.requires_grad_(False)
    for module in model.modules():
        if isinstance(module, Conv) and isinstance(module.norm, FrozenBatchNorm | BatchNorm):
            weight, shift = module.with_norm()
            module.weight, module.bias = nn.Parameter(weight, False), nn.Parameter(shift, False)
            module.norm = None
        if widened and isinstance(module, Conv) and module.multiplies_less:
            module.widened = True
        elif isinstance(module, MATRICES) and not isinstance(module, Depthwise):
            module.to(dtype)
