"""`resize` in plain PyTorch: the definition, on any device, without a loop over images.

Resampling is separable, so an image's rows and columns are two matrices; a flip mirrors one of them, and padding
is their zero rows. Two batched matrix products do everything, for any mixture of sizes, at one shape.
"""

from contextlib import nullcontext

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from maskrcnn.config import Triple


def resize(
    images: UInt8[Tensor, "B h w 3"],
    raw_sizes: Int[Tensor, "B 2"],
    sizes: Int[Tensor, "B 2"],
    flip: Bool[Tensor, " B"],
    bucket: tuple[int, int],
    mean: Triple,
    std: Triple,
    antialias: bool,
    whole_levels: bool,
) -> Float[Tensor, "B 3 H W"]:
    """See `maskrcnn.ops.resize.resize`.

    Normalising comes first, since the weights of resampling sum to 0 in the padding, which so stays 0; but whole levels
    are levels of 0..255.
    """
    levels = images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    if not whole_levels:
        return resample(normalise(levels, mean, std), raw_sizes, sizes, flip, bucket, antialias)
    levels = resample(levels, raw_sizes, sizes, flip, bucket, antialias, whole_levels=True)
    rows, columns = (torch.arange(side, device=images.device) for side in bucket)
    inside = (rows < sizes[:, :1])[:, None, :, None] & (columns < sizes[:, 1:])[:, None, None, :]
    return normalise(levels, mean, std).masked_fill_(~inside, 0.0)


def normalise(pixels: Float[Tensor, "B 3 h w"], mean: Triple, std: Triple) -> Float[Tensor, "B 3 h w"]:
    """(value - mean) / std, in place. RGB, 0..255."""
    for channel, centre, spread in zip(pixels.unbind(1), mean, std, strict=True):
        channel.sub_(centre).div_(spread)  # numbers, not tensors: those would be copied to the device, and waited for
    return pixels


def resample(
    pixels: Float[Tensor, "B C h w"],
    raw_sizes: Int[Tensor, "B 2"],
    sizes: Int[Tensor, "B 2"],
    flip: Bool[Tensor, " B"],
    bucket: tuple[int, int],
    antialias: bool = True,
    whole_levels: bool = False,
) -> Float[Tensor, "B C H W"]:
    """Resize the top left `raw_sizes` of each image to `sizes`, mirror where told, pad with zeros to `bucket`."""
    settle = _to_nearest if whole_levels else _as_it_is
    batch, channels, height, width = pixels.shape
    never = torch.zeros_like(flip)
    rows = resampling_matrix(raw_sizes[:, 0], sizes[:, 0], never, height, bucket[0], antialias)
    columns = resampling_matrix(raw_sizes[:, 1], sizes[:, 1], flip, width, bucket[1], antialias)
    kind = pixels.device.type
    exact = torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()
    with exact:  # half precision would blur 8-bit values
        wide = torch.bmm(pixels.reshape(batch, channels * height, width), columns.transpose(1, 2))
        wide = settle(wide.view(batch, channels, height, bucket[1]))
        resized = settle(torch.matmul(rows[:, None], wide))
    return resized.contiguous(memory_format=torch.channels_last)


def _to_nearest(pixels: Tensor) -> Tensor:
    return pixels.add_(0.5).floor_()


def _as_it_is(pixels: Tensor) -> Tensor:
    return pixels


def resampling_matrix(
    raw: Int[Tensor, " B"],
    wanted: Int[Tensor, " B"],
    flip: Bool[Tensor, " B"],
    num_in: int,
    num_out: int,
    antialias: bool,
) -> Float[Tensor, "B num_out num_in"]:
    """Weights that bring `raw` samples to `wanted` with a triangle filter, widened when shrinking if `antialias`.

    Rows from `wanted` and columns from `raw` on are zero; `flip` mirrors the rows before it.
    """
    raw, wanted = raw[:, None, None], wanted[:, None, None]
    row = torch.arange(num_out, device=raw.device)[:, None]
    column = torch.arange(num_in, device=raw.device)
    scale = raw / wanted
    centre = (torch.where(flip[:, None, None], wanted - 1 - row, row) + 0.5) * scale
    reach = scale.clamp(min=1) if antialias else torch.ones_like(scale)
    weights = (1 - (column + 0.5 - centre).abs() / reach).clamp(min=0)
    weights = weights * ((row < wanted) & (column < raw))
    return weights / weights.sum(dim=2, keepdim=True).clamp(min=1e-6)
