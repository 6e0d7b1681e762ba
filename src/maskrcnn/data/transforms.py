"""A decoded batch and its annotations in the model's frame, on the device."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from maskrcnn.boxes import clip, not_empty
from maskrcnn.config import Data
from maskrcnn.ops.resize import resize
from maskrcnn.runtime.devices import copies_in_order
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
        tensor.to(device, non_blocking=copies_in_order(device))
        for tensor in (raw.images, raw.raw_sizes, raw.sizes, raw.flip)
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
    """Resize, mirror, normalise and pad as a recipe says: float32, channels_last, exactly 0 outside each image."""
    return resize(
        images,
        raw_sizes,
        sizes,
        flip,
        bucket=bucket,
        mean=settings.mean,
        std=settings.std,
        antialias=settings.antialias,
        whole_levels=settings.whole_levels,
    )


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
