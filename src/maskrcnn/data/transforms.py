"""Resize, flip, normalise and pad a batch on its device, without a loop over images.

Resampling is separable, so a picture's rows and columns are two matrices; a flip mirrors one of them, and padding
is their zero rows. Two batched matrix products do everything, for any mixture of sizes, at one shape.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from maskrcnn.boxes import clip, not_empty
from maskrcnn.config import Data, Triple
from maskrcnn.structures import ImageBatch, Targets

SMALLEST_SIDE = 0.5
"""Pixels of the resized image. A thinner box shows nothing, and its log-size deltas would drown the loss."""


class RawBatch(NamedTuple):
    """Decoded pictures, before anything is resized."""

    images: UInt8[Tensor, "B h w 3"]
    """RGB, padded at the right and bottom to the batch's largest."""
    raw_sizes: Int[Tensor, "B 2"]
    """(height, width) as decoded: smaller than `original_sizes` where a huge picture was reduced."""
    sizes: Int[Tensor, "B 2"]
    """(height, width) to resize to."""
    original_sizes: Int[Tensor, "B 2"]
    """(height, width) that the annotations live in."""
    flip: Bool[Tensor, " B"]
    keys: Int[Tensor, " B"]
    indices: Int[Tensor, " B"]
    """Place of each picture in the data set."""
    image_ids: Int[Tensor, " B"]
    bucket: tuple[int, int]
    """(height, width) to pad to."""


def prepare(raw: RawBatch, device: torch.device, settings: Data) -> ImageBatch:
    """Bring pictures to the device and into the model's frame, as `to_pixels` does."""
    images, raw_sizes, sizes, flip = (
        tensor.to(device, non_blocking=True) for tensor in (raw.images, raw.raw_sizes, raw.sizes, raw.flip)
    )
    return ImageBatch(to_pixels(images, raw_sizes, sizes, flip, raw.bucket, settings), sizes.float())


def to_pixels(
    images: UInt8[Tensor, "B h w 3"],
    raw_sizes: Int[Tensor, "B 2"],
    sizes: Int[Tensor, "B 2"],
    flip: Bool[Tensor, " B"],
    bucket: tuple[int, int],
    settings: Data,
) -> Float[Tensor, "B 3 H W"]:
    """Resize, mirror, normalise and pad: float32, channels_last, exactly 0 outside each image.

    Normalising comes first, since the weights of resampling sum to 0 in the padding, which so stays 0; but whole levels
    are levels of 0..255.
    """
    levels = images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    if not settings.whole_levels:
        normalised = normalise(levels, settings.mean, settings.std)
        return resample(normalised, raw_sizes, sizes, flip, bucket, settings.antialias)
    levels = resample(levels, raw_sizes, sizes, flip, bucket, settings.antialias, whole_levels=True)
    rows, columns = (torch.arange(side, device=images.device) for side in bucket)
    inside = (rows < sizes[:, :1])[:, None, :, None] & (columns < sizes[:, 1:])[:, None, None, :]
    return normalise(levels, settings.mean, settings.std).masked_fill_(~inside, 0.0)


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
    """Resize the top left `raw_sizes` of each picture to `sizes`, mirror where told, pad with zeros to `bucket`.

    Equals `interpolate(mode="bilinear", antialias=antialias)` of each picture alone, to float32 rounding; with
    `whole_levels` it equals Pillow's, but for some values that lie between two levels and become the other one.
    """
    settle = _to_nearest if whole_levels else _as_it_is
    batch, channels, height, width = pixels.shape
    never = torch.zeros_like(flip)
    rows = resampling_matrix(raw_sizes[:, 0], sizes[:, 0], never, height, bucket[0], antialias)
    columns = resampling_matrix(raw_sizes[:, 1], sizes[:, 1], flip, width, bucket[1], antialias)
    with torch.autocast(pixels.device.type, enabled=False):  # half precision would blur 8-bit values
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


def resize_targets(
    targets: Targets, original_sizes: Float[Tensor, "B 2"], sizes: Float[Tensor, "B 2"], flip: Bool[Tensor, " B"]
) -> Targets:
    """Bring annotations from the original frame to the resized one, mirrored where the picture is.

    Boxes are cut to the image; those whose sides are then below `SMALLEST_SIDE` lose `valid`.
    """
    scale = (sizes / original_sizes).flip(1).repeat(1, 2)[:, None]
    boxes, edges = targets.boxes * scale, targets.edges * scale
    width = sizes[:, 1, None, None]
    mirrored_boxes = torch.cat([width - boxes[..., 2:3], boxes[..., 1:2], width - boxes[..., 0:1], boxes[..., 3:]], -1)
    mirrored_edges = torch.cat([width - edges[..., 0:1], edges[..., 1:2], width - edges[..., 2:3], edges[..., 3:]], -1)
    boxes = clip(torch.where(flip[:, None, None], mirrored_boxes, boxes), sizes)
    edges = torch.where(flip[:, None, None], mirrored_edges, edges)
    real = torch.arange(edges.shape[1], device=edges.device) < targets.first_edge[:, -1:]
    valid = targets.valid & not_empty(boxes, SMALLEST_SIDE)
    return targets._replace(boxes=boxes * valid[..., None], valid=valid, edges=edges * real[..., None])
