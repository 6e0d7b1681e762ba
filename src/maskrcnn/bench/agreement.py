"""How far two ways to compute the same thing lie apart."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from maskrcnn.bench.results import Row
from maskrcnn.boxes import area, intersection
from maskrcnn.structures import Detections

SAME_IOU = 0.9
"""Two boxes of one class that overlap this much are one detection."""


def losses_apart(
    names: Sequence[str], reference: Float[Tensor, " n"], other: Float[Tensor, " n"], way: str
) -> list[Row]:
    """Each loss line by line and another way, and how far apart they are as a share of the first, unless that is 0."""
    pairs = zip(names, reference.tolist(), other.tolist(), strict=True)
    return [
        {"loss": name, "eager": first, way: second, "relative difference": abs(second - first) / (abs(first) or 1.0)}
        for name, first, second in pairs
    ]


def detections_apart(reference: Detections, other: Detections, way: str) -> Row:
    """How many of the detections line by line another way finds too, and the largest differences among those."""
    pairs = [pair for image in range(len(reference.valid)) for pair in matched(reference, other, image)]
    images, ours, theirs = (torch.tensor(column) for column in zip(*pairs, strict=True)) if pairs else _none()
    parts = zip(reference, other, strict=True)
    boxes, _, scores, _, masks = ((b[images, theirs].float() - a[images, ours].float()).abs() for a, b in parts)
    found = int(reference.valid.sum())
    return {
        "eager": found,
        way: int(other.valid.sum()),
        "found by both": len(pairs) / max(found, 1),
        "box, px": _largest(boxes),
        "score": _largest(scores),
        "mask": _largest(masks),
    }


def matched(reference: Detections, other: Detections, image: int) -> list[tuple[int, int, int]]:
    """(image, its detection, the other's) of pairs of one class that overlap most, best detections first."""
    boxes, others = reference.boxes[image].float(), other.boxes[image].float()
    shared = intersection(boxes, others)
    overlap = shared / (area(boxes)[:, None] + area(others) - shared).clamp(min=1e-9)
    same = (reference.labels[image][:, None] == other.labels[image]) & other.valid[image]
    overlap = torch.where(same, overlap, 0.0)
    pairs = []
    for index in torch.nonzero(reference.valid[image]).flatten().tolist():
        best = int(overlap[index].argmax())
        if overlap[index, best] >= SAME_IOU:
            pairs.append((image, index, best))
            overlap[:, best] = 0.0
    return pairs


def _none() -> tuple[Tensor, Tensor, Tensor]:
    nothing = torch.zeros(0, dtype=torch.int64)
    return nothing, nothing, nothing


def _largest(differences: Tensor) -> float | None:
    return float(differences.max()) if differences.numel() else None
