"""Non-maximum suppression in batches: `reference.py` defines it, `cpu.py` and `triton.py` are fast."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from maskrcnn.ops.gpu import uses_kernel
from maskrcnn.ops.nms import cpu, reference
from maskrcnn.ops.operator import operator

__all__ = ["nms"]


def nms(
    boxes: Float[Tensor, "B N 4"],
    groups: Int[Tensor, "B N"],
    valid: Bool[Tensor, "B N"],
    *,
    threshold: float,
    num_keep: int,
) -> tuple[Int[Tensor, "B num_keep"], Bool[Tensor, "B num_keep"]]:
    """Walk each image's boxes from best to worst and drop those that overlap a kept one of their group too much.

    boxes      xyxy, continuous pixels, best first
    groups     boxes of different groups (classes, levels) never suppress each other
    valid      boxes that take part
    threshold  a box is dropped when its intersection over union with a kept one is greater
    num_keep   slots of the result; may exceed N

    Returns the positions of the first num_keep survivors in order, and which slots are filled; empty slots hold
    position 0. Exact; computed in float32; no gradient. Empty boxes neither suppress nor are suppressed.
    """
    if not boxes.shape[:2] == groups.shape == valid.shape:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in (boxes, groups, valid))
        raise ValueError(f"nms: expected boxes (B, N, 4), groups (B, N) and valid (B, N), received {shapes}")
    return torch.ops.maskrcnn.nms(boxes.detach().float(), groups, valid, threshold, num_keep)


@operator("nms")
def _nms(boxes: Tensor, groups: Tensor, valid: Tensor, threshold: float, num_keep: int) -> tuple[Tensor, Tensor]:
    return reference.nms(boxes, groups, valid, threshold=threshold, num_keep=num_keep)


_nms.register_kernel("cpu")(cpu.nms)


@_nms.register_kernel("cuda")
def _(boxes: Tensor, groups: Tensor, valid: Tensor, threshold: float, num_keep: int) -> tuple[Tensor, Tensor]:
    if not uses_kernel("nms"):
        return reference.nms(boxes, groups, valid, threshold=threshold, num_keep=num_keep)
    from maskrcnn.ops.nms import triton

    return triton.nms(boxes, groups, valid, threshold, num_keep)


@_nms.register_fake
def _(boxes, groups, valid, threshold, num_keep):  # type: ignore[no-untyped-def]
    shape = (boxes.shape[0], num_keep)
    return groups.new_empty(shape), valid.new_empty(shape)
