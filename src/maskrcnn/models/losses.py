"""Losses: logits and targets in, one number for each image out, averaged over the images.

Every image counts the same, and nothing is normalised across images: cutting an effective batch into
micro-batches or processes leaves its loss and gradient as they were.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor


def mean_over_images(
    values: Float[Tensor, "B n"], counts: Bool[Tensor, "B n"], total: Bool[Tensor, "B m"] | None = None
) -> Float[Tensor, ""]:
    """Sum the values that count, divide by their number (or that of `total`), average over images."""
    number = (counts if total is None else total).sum(dim=1).clamp(min=1)
    return (torch.where(counts, values, 0.0).sum(dim=1) / number).mean()


def objectness_loss(
    logits: Float[Tensor, "B S"], positive: Bool[Tensor, "B S"], valid: Bool[Tensor, "B S"]
) -> Float[Tensor, ""]:
    """Compute binary cross-entropy over the sampled anchors."""
    loss = F.binary_cross_entropy_with_logits(logits.float(), positive.float(), reduction="none")
    return mean_over_images(loss, valid)


def class_loss(
    logits: Float[Tensor, "B S K1"], labels: Int[Tensor, "B S"], valid: Bool[Tensor, "B S"]
) -> Float[Tensor, ""]:
    """Compute cross-entropy over the classes and background."""
    loss = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), reduction="none")
    return mean_over_images(loss.view_as(labels), valid)


def box_loss(
    deltas: Float[Tensor, "B S 4"],
    target_deltas: Float[Tensor, "B S 4"],
    positive: Bool[Tensor, "B S"],
    valid: Bool[Tensor, "B S"],
    beta: float = 0.0,
) -> Float[Tensor, ""]:
    """Compute the L1 distance of the positives, divided by the number of all samples (Girshick 2015).

    beta   differences below it count quadratically (smooth L1)
    Divided by all samples, a few positives do not dominate.
    """
    distance = F.smooth_l1_loss(deltas.float(), target_deltas, reduction="none", beta=beta)
    return mean_over_images(distance.sum(dim=-1), positive, total=valid)


def mask_loss(
    logits: Float[Tensor, "R M M"], targets: Float[Tensor, "R M M"], weights: Float[Tensor, "R"]
) -> Float[Tensor, ""]:
    """Compute binary cross-entropy, averaged in each box, then by `weights`, which sum to one over the batch."""
    loss = F.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none")
    return (loss.mean(dim=(1, 2)) * weights).sum()
