"""`resize` in plain PyTorch: the definition, on any device, without a loop over images.

Resampling is separable, so an image's rows and columns are two matrices; mirroring reverses the rows of one of them,
and padding is their zero rows. Two batched matrix products do everything, for any mixture of views, at one shape.
"""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from torch import Tensor

from maskrcnn.view import View, axes


def resize(
    images: UInt8[Tensor, "B h w C"] | Float[Tensor, "B h w C"],
    raw_sizes: Int[Tensor, "B 2"],
    view: View,
    bucket: tuple[int, int],
    mean: Sequence[float],
    std: Sequence[float],
    antialias: bool,
    area: bool,
    whole_levels: bool,
    fixed_point: bool,
    black_padding: bool,
) -> Float[Tensor, "B C H W"]:
    """See `maskrcnn.ops.resize.resize`.

    Normalising comes first, since the weights of resampling sum to 0 in the padding, which so stays 0; but whole levels
    are levels of 0..255.
    """
    swapped, from_right, from_bottom = axes(view)
    windows = view.windows.unflatten(1, (2, 2)).transpose(1, 2)  # (x1, x2), (y1, y2)
    if view.turns is not None:
        images = torch.where(swapped[:, None, None, None], *_both_ways(images))
        raw_sizes = torch.where(swapped[:, None], raw_sizes.flip(1), raw_sizes)
        windows = torch.where(swapped[:, None, None], windows.flip(1), windows)
    rows, columns = (
        resampling_matrix(raw, window, wanted, backwards, num_in, num_out, antialias, area)
        for raw, window, wanted, backwards, num_in, num_out in zip(
            raw_sizes.unbind(1),
            windows.flip(1).unbind(1),
            view.sizes.unbind(1),
            (from_bottom, from_right),
            images.shape[1:3],
            bucket,
            strict=True,
        )
    )
    # a copy even of float32: it is normalised in place
    levels = images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format, copy=True)
    if whole_levels:
        pixels = normalise(resample(levels, rows, columns, whole_levels=True), mean, std)
    elif fixed_point:
        shrinks = (windows[:, :, 1] - windows[:, :, 0] > view.sizes.flip(1)).any(1) & antialias
        once, fixed = _to_nearest(resample(levels, rows, columns)), resample_fixed(levels, rows, columns)
        pixels = normalise(torch.where(shrinks[:, None, None, None], once, fixed), mean, std)
    else:
        pixels = resample(normalise(levels, mean, std), rows, columns)
    if not (whole_levels or fixed_point or black_padding):
        return pixels
    outside = ~(rows.any(dim=2)[:, :, None] & columns.any(dim=2)[:, None, :])
    for channel, value in zip(pixels.unbind(1), padding_values(mean, std, black_padding), strict=True):
        channel.masked_fill_(outside, value)
    return pixels


def padding_values(mean: Sequence[float], std: Sequence[float], black: bool) -> list[float]:
    """Return what padding is in each band after normalising: level 0 if it is black, otherwise the mean."""
    return [-centre / spread if black else 0.0 for centre, spread in zip(mean, std, strict=True)]


def _both_ways(images: Shaped[Tensor, "B h w C"]) -> tuple[Shaped[Tensor, "B s s C"], Shaped[Tensor, "B s s C"]]:
    """Images with rows and columns exchanged, and as they are, both in a square."""
    _, height, width, _ = images.shape
    square = F.pad(images, (0, 0, 0, max(height - width, 0), 0, max(width - height, 0)))
    return square.transpose(1, 2), square


def normalise(
    pixels: Float[Tensor, "B C h w"], mean: Sequence[float], std: Sequence[float]
) -> Float[Tensor, "B C h w"]:
    """(value - mean) / std of each band, in place."""
    for channel, centre, spread in zip(pixels.unbind(1), mean, std, strict=True):
        channel.sub_(centre).div_(spread)  # numbers, not tensors: those would be copied to the device, and waited for
    return pixels


def resample(
    pixels: Float[Tensor, "B C h w"],
    rows: Float[Tensor, "B H h"],
    columns: Float[Tensor, "B W w"],
    whole_levels: bool = False,
) -> Float[Tensor, "B C H W"]:
    """Multiply each image by the matrix of its rows and that of its columns."""
    settle = _to_nearest if whole_levels else _as_it_is
    batch, channels, height, width = pixels.shape
    kind = pixels.device.type
    exact = torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()
    with exact:  # half precision would blur 8-bit values
        wide = torch.bmm(pixels.reshape(batch, channels * height, width), columns.transpose(1, 2))
        wide = settle(wide.view(batch, channels, height, columns.shape[1]))
        resized = settle(torch.matmul(rows[:, None], wide))
    return resized.contiguous(memory_format=torch.channels_last)


def resample_fixed(
    levels: Float[Tensor, "B C h w"], rows: Float[Tensor, "B H h"], columns: Float[Tensor, "B W w"]
) -> Float[Tensor, "B C H W"]:
    """Multiply as `resample` does, for samples of two pixels a side, in the integers that OpenCV calculates with.

    All fit into float32 but the products of a row, whose last bits are cut off anyway.
    """
    near = torch.zeros_like(rows).scatter_(2, (rows > 0).to(torch.int8).argmax(2, keepdim=True), 1) * rows
    rows, columns = (torch.stack([near, rows - near]) * 2048).round_(), (columns * 2048).round_()
    wide = torch.matmul(levels, columns[:, None].transpose(2, 3)).div_(16).floor_()
    quarters = [torch.matmul(part[:, None], wide).div_(65536).floor_() for part in rows]
    mean = (quarters[0] + quarters[1]).add_(2).div_(4).floor_()
    return mean.contiguous(memory_format=torch.channels_last)


def _to_nearest(pixels: Tensor) -> Tensor:
    return pixels.add_(0.5).floor_()


def _as_it_is(pixels: Tensor) -> Tensor:
    return pixels


def resampling_matrix(
    raw: Int[Tensor, " B"],
    window: Float[Tensor, "B 2"],
    wanted: Int[Tensor, " B"],
    backwards: Bool[Tensor, " B"],
    num_in: int,
    num_out: int,
    antialias: bool,
    area: bool,
) -> Float[Tensor, "B num_out num_in"]:
    """Weights of `raw` samples for `wanted` ones that share a window, begin and end, by a triangle filter.

    backwards   the first of the wanted samples is the last of the window
    antialias   the filter is widened when shrinking
    area        it is a box then, as wide as the distance between samples
    Samples whose centre lies outside the image, and those from `wanted` on, are zero.
    """
    raw, wanted, backwards = (column[:, None, None] for column in (raw, wanted, backwards))
    begin, end = window[:, :, None, None].unbind(1)
    row = torch.arange(num_out, device=raw.device)[:, None]
    column = torch.arange(num_in, device=raw.device)
    scale = (end - begin) / wanted
    centre = (torch.where(backwards, wanted - 1 - row, row) + 0.5) * scale + begin
    reach = scale.clamp(min=1) if antialias else torch.ones_like(scale)
    weights = (1 - (column + 0.5 - centre).abs() / reach).clamp(min=0)
    if antialias and area:
        covered = torch.minimum(column + 1, centre + scale / 2) - torch.maximum(column, centre - scale / 2)
        weights = torch.where(scale > 1, covered.clamp(min=0), weights)
    weights = weights * ((row < wanted) & (centre >= 0) & (centre < raw) & (column < raw))
    return weights / weights.sum(dim=2, keepdim=True).clamp(min=1e-6)
