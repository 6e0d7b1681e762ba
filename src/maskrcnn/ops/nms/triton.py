"""`nms` on a GPU: one program per image sweeps its boxes in blocks and stops with its last wanted survivor.

A block of boxes is compared with the survivors so far, in tiles, then with itself. Who survives within the block is the
fixed point of "nobody better that survives suppresses it", reached in as many steps as its longest chain of
suppressions has links. Written are the survivors alone, 24 bytes each, so that the next comparisons read them in one
stretch. No table of all pairs: for 12 images of 8,819 boxes it would take 118 MB and 0.5 billion comparisons, most of
them with boxes that are never looked at. What limits it is arithmetic on one multiprocessor for each image, 24
instructions for each pair of a box and a survivor, and some 2 microseconds of waiting for each block.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 64  # boxes judged at once; their bits fill one int64
TILE = 32  # boxes that they are compared with at once: a warp, whose bits or maximum one instruction combines


def nms(boxes: Tensor, groups: Tensor, valid: Tensor, threshold: float, num_keep: int) -> tuple[Tensor, Tensor]:
    """See `maskrcnn.ops.nms.nms`."""
    num_images, num_boxes = groups.shape
    index = groups.new_empty(num_images, num_keep, dtype=torch.int64)
    kept = valid.new_empty(num_images, num_keep)
    corners = boxes.new_empty(num_images, 4, num_keep)
    labels = groups.new_empty(num_images, num_keep)
    with torch.cuda.device_of(boxes):
        if index.numel():
            _sweep[(num_images,)](
                *(tensor.contiguous() for tensor in (boxes, groups, valid)),
                *(index, kept, corners, labels, num_boxes, num_keep, threshold, BLOCK, TILE),
                num_warps=8,
                enable_fp_fusion=False,  # ties at the threshold fall as in the reference
            )
    return index, kept


@triton.jit
def _sweep(  # type: ignore[no-untyped-def]
    boxes, groups, valid, index, kept, corners, labels, num_boxes, num_keep, threshold,
    BLOCK: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Fill index and kept of one image; `corners` (4, num_keep) and `labels` are those of the survivors."""
    image = tl.program_id(0).to(tl.int64)
    boxes, groups, valid = boxes + image * num_boxes * 4, groups + image * num_boxes, valid + image * num_boxes
    index, kept, labels = index + image * num_keep, kept + image * num_keep, labels + image * num_keep
    corners += image * num_keep * 4
    lane = tl.arange(0, BLOCK)
    first, count = 0, 0
    while (first < num_boxes) & (count < num_keep):
        box = first + lane
        inside = box < num_boxes
        x1, y1, x2, y2, group = _load(boxes + box * 4, 1, groups + box, inside)
        free = tl.load(valid + box, mask=inside, other=0).to(tl.int1)
        free &= ~_suppressed(x1, y1, x2, y2, group, corners, num_keep, labels, count, threshold, BLOCK, TILE)
        suppressors = _suppressors(x1, y1, x2, y2, group, boxes, groups, first, num_boxes, threshold, BLOCK, TILE)
        survives = _settle(free, suppressors, BLOCK).to(tl.int32)

        slot = count + tl.cumsum(survives, 0) - survives
        wanted = (survives == 1) & (slot < num_keep)
        tl.store(index + slot, box.to(tl.int64), mask=wanted)
        tl.store(labels + slot, group, mask=wanted)
        tl.store(corners + slot, x1, mask=wanted)
        tl.store(corners + slot + num_keep, y1, mask=wanted)
        tl.store(corners + slot + num_keep * 2, x2, mask=wanted)
        tl.store(corners + slot + num_keep * 3, y2, mask=wanted)
        tl.debug_barrier()  # the next block reads what other threads have written here
        count += tl.sum(survives, 0)
        first += BLOCK

    first = 0
    while first < num_keep:
        slot = first + lane
        tl.store(kept + slot, slot < count, mask=slot < num_keep)
        tl.store(index + slot, tl.zeros([BLOCK], tl.int64), mask=(slot >= count) & (slot < num_keep))
        first += BLOCK


@triton.jit
def _suppressed(  # type: ignore[no-untyped-def]
    x1, y1, x2, y2, group, corners, num_keep, labels, count, threshold, BLOCK: tl.constexpr, TILE: tl.constexpr
):
    """Whether one of the first `count` survivors suppresses each box."""
    hit = tl.zeros([BLOCK, TILE], tl.int1)
    start = 0
    while start < count:
        other = start + tl.arange(0, TILE)
        u1, v1, u2, v2, label = _load(corners + other, num_keep, labels + other, other < count)
        found = _suppresses(u1, v1, u2, v2, label, x1, y1, x2, y2, group, threshold)
        hit |= found & (other < count)[None, :]
        start += TILE
    return tl.max(hit.to(tl.int32), 1) > 0


@triton.jit
def _suppressors(  # type: ignore[no-untyped-def]
    x1, y1, x2, y2, group, boxes, groups, first, num_boxes, threshold, BLOCK: tl.constexpr, TILE: tl.constexpr
):
    """For each box of a block, the bits of the better ones of the same block that suppress it."""
    words = tl.zeros([BLOCK], tl.int64)
    lane, column = tl.arange(0, BLOCK), tl.arange(0, TILE)
    bit = tl.full([TILE], 1, tl.uint32) << column.to(tl.uint32)
    for start in tl.static_range(0, BLOCK, TILE):
        other = first + start + column
        u1, v1, u2, v2, label = _load(boxes + other * 4, 1, groups + other, other < num_boxes)
        hit = _suppresses(u1, v1, u2, v2, label, x1, y1, x2, y2, group, threshold)
        hit &= (start + column)[None, :] < lane[:, None]
        words |= tl.sum(tl.where(hit, bit[None, :], 0), 1).to(tl.int64) << start
    return words


@triton.jit
def _settle(free, suppressors, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Which boxes of a block survive, of those that no earlier survivor suppresses."""
    bit = tl.full([BLOCK], 1, tl.int64) << tl.arange(0, BLOCK)
    survives = free
    alive = tl.sum(tl.where(free, bit, 0), 0)
    before = ~alive
    while alive != before:
        before = alive
        survives = free & ((suppressors & before) == 0)
        alive = tl.sum(tl.where(survives, bit, 0), 0)
    return survives


@triton.jit
def _load(corners, stride, labels, there):  # type: ignore[no-untyped-def]
    """x1, y1, x2, y2, each `stride` numbers after the one before, and the group."""
    x1 = tl.load(corners, mask=there, other=0.0)
    y1 = tl.load(corners + stride, mask=there, other=0.0)
    x2 = tl.load(corners + stride * 2, mask=there, other=0.0)
    y2 = tl.load(corners + stride * 3, mask=there, other=0.0)
    return x1, y1, x2, y2, tl.load(labels, mask=there, other=0)


@triton.jit
def _suppresses(u1, v1, u2, v2, label, x1, y1, x2, y2, group, threshold):  # type: ignore[no-untyped-def]
    """(boxes, others): whether each other one, in columns, overlaps the box too much; as `reference.suppresses`."""
    width = _least(x2[:, None], u2[None, :]) - _most(x1[:, None], u1[None, :])
    height = _least(y2[:, None], v2[None, :]) - _most(y1[:, None], v1[None, :])
    shared = _most(width, 0.0) * _most(height, 0.0)
    union = _area(u1, v1, u2, v2)[None, :] + _area(x1, y1, x2, y2)[:, None] - shared
    return (shared > threshold * union) & (label[None, :] == group[:, None])


@triton.jit
def _area(x1, y1, x2, y2):  # type: ignore[no-untyped-def]
    return _most(x2 - x1, 0.0) * _most(y2 - y1, 0.0)


@triton.jit
def _least(a, b):  # type: ignore[no-untyped-def]
    return tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)  # as in torch: broken boxes suppress nothing


@triton.jit
def _most(a, b):  # type: ignore[no-untyped-def]
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)
