"""Which object each box answers for: `reference.py` defines it, `cpu.py` and `triton.py` never write the overlaps."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from maskrcnn.ops.gpu import uses_kernel
from maskrcnn.ops.match import cpu, reference
from maskrcnn.ops.operator import operator

__all__ = ["match"]


def match(
    candidates: Float[Tensor, "B N 4"],
    boxes: Float[Tensor, "B G 4"],
    real: Bool[Tensor, "B G"],
    crowd: Bool[Tensor, "B G"],
    *,
    positive_iou: float,
    negative_iou: float,
    keep_best: bool = False,
) -> tuple[Int[Tensor, "B N"], Int[Tensor, "B N"]]:
    """Index of the object that each candidate overlaps most, and its label: positive, negative or ignored.

    candidates  xyxy, continuous pixels, finite, at least one; those of a batch may share memory
    boxes       the objects, at least one slot; finite where real or crowd, anything elsewhere
    real        slots that hold an object to be found
    crowd       slots that hold a region of many objects, never matched; none is real too
    keep_best   the best candidates of every object are positive however little they overlap
                (Ren et al. 2015, section 3.1.2), so that no object goes without an anchor

    Candidates between the two thresholds, or with half their area in a crowd, are ignored. Without objects all are
    negative. The index is that of the first of the largest overlaps, 0 where nothing overlaps. (`torch.max`, which the
    definition uses, promises no order on other devices than the CPU.) Computed in float32, float64 if an input is;
    no gradient.
    """
    if not (candidates.shape[0] == boxes.shape[0] and boxes.shape[:2] == real.shape == crowd.shape):
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in (candidates, boxes, real, crowd))
        raise ValueError(f"match: expected candidates (B, N, 4), boxes (B, G, 4), real and crowd (B, G), got {shapes}")
    precision = torch.promote_types(torch.promote_types(candidates.dtype, boxes.dtype), torch.float32)
    candidates, boxes = candidates.detach().to(precision), boxes.detach().to(precision)
    return torch.ops.maskrcnn.match(candidates, boxes, real, crowd, positive_iou, negative_iou, keep_best)


@operator("match")
def _match(
    candidates: Tensor,
    boxes: Tensor,
    real: Tensor,
    crowd: Tensor,
    positive_iou: float,
    negative_iou: float,
    keep_best: bool,
) -> tuple[Tensor, Tensor]:
    return reference.match(candidates, boxes, real, crowd, positive_iou, negative_iou, keep_best)


_match.register_kernel("cpu")(cpu.match)


@_match.register_kernel("cuda")
def _(
    candidates: Tensor,
    boxes: Tensor,
    real: Tensor,
    crowd: Tensor,
    positive_iou: float,
    negative_iou: float,
    keep_best: bool,
) -> tuple[Tensor, Tensor]:
    if candidates.dtype != torch.float32 or not uses_kernel("match"):
        return reference.match(candidates, boxes, real, crowd, positive_iou, negative_iou, keep_best)
    from maskrcnn.ops.match import triton

    return triton.match(candidates, boxes, real, crowd, positive_iou, negative_iou, keep_best)


@_match.register_fake
def _(candidates, boxes, real, crowd, positive_iou, negative_iou, keep_best):  # type: ignore[no-untyped-def]
    shape = candidates.shape[:2]
    return candidates.new_empty(shape, dtype=torch.int64), candidates.new_empty(shape, dtype=torch.int64)
