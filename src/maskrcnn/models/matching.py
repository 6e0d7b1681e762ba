"""Matching of boxes to annotations, and sampling of boxes for the loss. Shared by RPN and box head."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from maskrcnn.keys import uniform
from maskrcnn.ops.match import match as match_boxes
from maskrcnn.structures import NEGATIVE, POSITIVE, Targets


def match(
    candidates: Float[Tensor, "B N 4"],
    targets: Targets,
    *,
    positive_iou: float,
    negative_iou: float,
    keep_best: bool = False,
) -> tuple[Int[Tensor, "B N"], Int[Tensor, "B N"]]:
    """Match each candidate to the annotation it overlaps most, and label it; see `maskrcnn.ops.match.match`."""
    return match_boxes(
        candidates,
        targets.boxes,
        targets.valid & ~targets.crowd,
        targets.valid & targets.crowd,
        positive_iou=positive_iou,
        negative_iou=negative_iou,
        keep_best=keep_best,
    )


def sample(
    label: Int[Tensor, "B N"], keys: Int[Tensor, "B"], *, num: int, positive_fraction: float, stream: int
) -> tuple[Int[Tensor, "B S"], Bool[Tensor, "B S"]]:
    """Draw S = min(num, N) boxes per image: at most `positive_fraction` positives, first, then negatives.

    keys     one random number for each image
    stream   tells draws from the same key apart
    Slots without a box are not valid. Source: Ren et al. 2015, section 3.1.3.
    """
    num = min(num, label.shape[1])
    noise = uniform(keys, label.shape[1], stream=stream)
    positive = label == POSITIVE
    ranked = torch.where(positive, noise, -1.0)
    quota = max(1, int(num * positive_fraction))
    positive = positive & (ranked >= ranked.topk(quota, dim=1).values[:, -1:])
    priority = torch.where(positive, 1.0 + noise, torch.where(label == NEGATIVE, noise, -1.0))
    best, index = priority.topk(num, dim=1)
    return index, best >= 0
