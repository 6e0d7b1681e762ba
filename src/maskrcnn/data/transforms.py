"""A decoded batch and its annotations in the model's frame, on the device."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from maskrcnn.boxes import clip, not_empty
from maskrcnn.config import Data
from maskrcnn.data.augment.visible import visible_boxes
from maskrcnn.ops.resize import resize
from maskrcnn.runtime.devices import copies_in_order
from maskrcnn.structures import ImageBatch, Targets
from maskrcnn.view import View, matrix, move_boxes, move_segments, surround_boxes

SMALLEST_SIDE = 0.5
"""Pixels of the resized image. A thinner box shows nothing, and its log-size deltas would drown the loss."""


class RawBatch(NamedTuple):
    """Decoded images, before anything is resized."""

    images: UInt8[Tensor, "B h w C"] | Float[Tensor, "B h w C"]
    """Levels of 0..255, padded at the right and bottom to the batch's largest."""
    raw_sizes: Int[Tensor, "B 2"]
    """(height, width) as decoded: smaller than `original_sizes` where a huge image was reduced."""
    original_sizes: Int[Tensor, "B 2"]
    """(height, width) of the frame that the annotations and windows live in."""
    view: View
    """What the network sees of each image."""
    keys: Int[Tensor, " B"]
    indices: Int[Tensor, " B"]
    """Index of each image in the data set."""
    image_ids: Int[Tensor, " B"]
    bucket: tuple[int, int]
    """(height, width) to pad to."""
    unread: tuple[tuple[str, str], ...] = ()
    """Name of each image that could not be read, and the sentence why; such an image is black, its index one past the
    last image of the data set, which has no objects."""


def prepare(raw: RawBatch, device: torch.device, settings: Data) -> ImageBatch:
    """Bring images to the device and into the model's frame, as `to_pixels` does."""
    beside = copies_in_order(device)
    images, raw_sizes = (tensor.to(device, non_blocking=beside) for tensor in (raw.images, raw.raw_sizes))
    view = raw.view.rescaled(raw.original_sizes, raw.raw_sizes).to(device, non_blocking=beside)
    return ImageBatch(to_pixels(images, raw_sizes, view, raw.bucket, settings), view.sizes.float())


def to_pixels(
    images: UInt8[Tensor, "B h w C"] | Float[Tensor, "B h w C"],
    raw_sizes: Int[Tensor, "B 2"],
    view: View,
    bucket: tuple[int, int],
    settings: Data,
) -> Float[Tensor, "B C H W"]:
    """Resize, turn, mirror, normalise and pad as a recipe says: float32, channels_last.

    view   in pixels of the decoded images
    """
    return resize(
        images,
        raw_sizes,
        view,
        bucket=bucket,
        mean=settings.mean,
        std=settings.std,
        antialias=settings.antialias,
        area=settings.averaging == "area",
        whole_levels=settings.whole_levels,
        fixed_point=settings.fixed_point,
        black_padding=settings.padding == "black",
    )


def resize_targets(targets: Targets, view: View, cut: Bool[Tensor, " B"] | None = None) -> Targets:
    """Bring annotations from the frame of the original images to that of their views.

    cut   which views leave out parts of their image or turn it by an angle (`cuts`); None: none does
    Boxes are cut to the view; in views that cut, those that reach beyond it, and in views at an angle all, become the
    boxes of what is seen of their outlines. Those whose sides are then below `SMALLEST_SIDE` lose `valid`. Outlines
    reach beyond the view.
    """
    to_view, sizes = matrix(view), view.sizes.float()
    edges = move_segments(to_view, targets.edges)
    if cut is None:
        boxes = clip(move_boxes(to_view, targets.boxes), sizes)
    else:
        boxes = _cut_boxes(surround_boxes(to_view, targets.boxes), edges, targets.first_edge, view, cut)
    real = torch.arange(edges.shape[1], device=edges.device) < targets.first_edge[:, -1:]
    valid = targets.valid & not_empty(boxes, SMALLEST_SIDE)
    return targets._replace(boxes=boxes * valid[..., None], valid=valid, edges=edges * real[..., None])


def _cut_boxes(
    boxes: Float[Tensor, "B G 4"],
    edges: Float[Tensor, "B E 4"],
    first_edge: Int[Tensor, "B G_plus_1"],
    view: View,
    cut: Bool[Tensor, " B"],
) -> Float[Tensor, "B G 4"]:
    """Boxes within views. Crowd regions have no outlines: the part of their box that is seen is theirs."""
    sizes = view.sizes.float()
    inside = clip(boxes, sizes)
    changed = (inside != boxes).any(2)
    if view.angles is not None:
        changed = changed | (view.angles != 0)[:, None]
    changed = changed & cut[:, None] & (first_edge.diff(dim=1) > 0)
    return torch.where(changed[..., None], visible_boxes(edges, first_edge, sizes), inside)
