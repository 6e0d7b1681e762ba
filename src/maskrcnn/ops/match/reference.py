"""The definition of `match` in plain PyTorch: every overlap at once, (B, G, N) of them."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from maskrcnn.boxes import area, intersection
from maskrcnn.structures import IGNORED, NEGATIVE, POSITIVE

CROWD_COVER = 0.5
"""Share of a box inside a crowd region from which on it is nobody's background."""
SMALLEST_UNION = 1e-9
"""Least area of a union, which keeps the overlap of two empty boxes at 0."""


def match(
    candidates: Float[Tensor, "B N 4"],
    boxes: Float[Tensor, "B G 4"],
    real: Bool[Tensor, "B G"],
    crowd: Bool[Tensor, "B G"],
    positive_iou: float,
    negative_iou: float,
    keep_best: bool,
) -> tuple[Int[Tensor, "B N"], Int[Tensor, "B N"]]:
    """See `maskrcnn.ops.match.match`."""
    shared = intersection(boxes, candidates)  # (B, G, N): reductions over G stay contiguous in N
    size = area(candidates)
    union = area(boxes)[:, :, None] + size[:, None, :] - shared
    overlap = torch.where(real[:, :, None], shared / union.clamp(min=SMALLEST_UNION), 0.0)

    best, target = overlap.max(dim=1)
    label = torch.where(best >= positive_iou, POSITIVE, torch.where(best < negative_iou, NEGATIVE, IGNORED))
    if keep_best:
        rescued = (overlap == overlap.amax(dim=2, keepdim=True)) & (overlap > 0)
        label = torch.where(rescued.any(dim=1), POSITIVE, label)
    in_crowd = torch.where(crowd[:, :, None], shared, 0.0).amax(dim=1) >= CROWD_COVER * size
    return target, torch.where(in_crowd & (label == NEGATIVE), IGNORED, label)
