"""The definition of `nms` in plain PyTorch: any device, exact, static shapes and a static number of steps."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from maskrcnn.boxes import area, intersection

BLOCK = 128  # boxes whose overlaps with all later ones are in memory at once


def nms(
    boxes: Float[Tensor, "B N 4"],
    groups: Int[Tensor, "B N"],
    valid: Bool[Tensor, "B N"],
    *,
    threshold: float,
    num_keep: int,
) -> tuple[Int[Tensor, "B num_keep"], Bool[Tensor, "B num_keep"]]:
    """See `maskrcnn.ops.nms.nms`."""
    alive = valid.clone()
    for first in range(0, boxes.shape[1], BLOCK):
        block, later = slice(first, first + BLOCK), slice(first + BLOCK, None)
        overlaps = suppresses(boxes[:, block], groups[:, block], boxes[:, first:], groups[:, first:], threshold)
        kept = alive[:, block]
        size = kept.shape[1]
        within = overlaps[:, :, :size].triu(1)  # only better boxes suppress
        for i in range(size):  # boxes before i are settled
            kept = kept & ~(kept[:, i, None] & within[:, i])
        alive[:, block] = kept
        alive[:, later] &= ~(kept[:, :, None] & overlaps[:, :, size:]).any(1)
    return first_kept(alive, num_keep)


def suppresses(
    boxes: Float[Tensor, "B n 4"],
    groups: Int[Tensor, "B n"],
    others: Float[Tensor, "B m 4"],
    other_groups: Int[Tensor, "B m"],
    threshold: float,
) -> Bool[Tensor, "B n m"]:
    """Pairs of one group whose intersection over union exceeds the threshold; without dividing, so 0 / 0 is no case."""
    shared = intersection(boxes, others)
    union = area(boxes)[:, :, None] + area(others)[:, None, :] - shared
    return (shared > threshold * union) & (groups[:, :, None] == other_groups[:, None, :])


def first_kept(
    keep: Bool[Tensor, "B N"], num_keep: int
) -> tuple[Int[Tensor, "B num_keep"], Bool[Tensor, "B num_keep"]]:
    """Positions of the first `num_keep` true entries of each row, in order; slots left over hold 0 and False."""
    rank = keep.cumsum(1) - 1
    slot = torch.where(keep & (rank < num_keep), rank, num_keep)  # the last slot takes what is not kept
    position = torch.arange(keep.shape[1], device=keep.device).expand_as(slot)
    index = slot.new_zeros(keep.shape[0], num_keep + 1).scatter(1, slot, position)
    kept = torch.arange(num_keep, device=keep.device) < keep.sum(1, keepdim=True)
    return index[:, :num_keep].contiguous(), kept
