"""`match` on a GPU: a program for each block of candidates, then one for each object that makes its best ones positive.

The first kernel holds a block of candidates in registers. Anchors come row by row, so a block lies in a small
rectangle, and the kernel walks only the objects that touch it, however far their slots are padded. It writes both
results, 16 bytes a candidate, and of every real object the largest overlap in the block. The second kernel finds each
object's best blocks among these and looks at them again; it computes the same bits, since neither fuses a
multiplication with an addition.

Bound by memory: 16 bytes read, from L2 where the images share their anchors, and 16 written for each candidate.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from maskrcnn.ops.match.reference import CROWD_COVER, SMALLEST_UNION
from maskrcnn.structures import IGNORED, NEGATIVE, POSITIVE

BLOCK = 512  # candidates, four of each thread: enough to hide waits, few enough that most objects lie elsewhere


def match(
    candidates: Tensor,
    boxes: Tensor,
    real: Tensor,
    crowd: Tensor,
    positive_iou: float,
    negative_iou: float,
    keep_best: bool,
) -> tuple[Tensor, Tensor]:
    """See `maskrcnn.ops.match.match`; float32."""
    (num_images, num_objects), num_candidates = real.shape, candidates.shape[1]
    target = torch.empty(num_images, num_candidates, dtype=torch.int64, device=candidates.device)
    label = torch.empty_like(target)
    num_blocks = triton.cdiv(num_candidates, BLOCK)
    peaks = candidates.new_empty(num_images, num_objects, num_blocks)
    distinct = candidates if candidates.stride(0) else candidates[:1]  # anchors are the same in every image
    stride = num_candidates * 4 if candidates.stride(0) else 0
    given = tuple(tensor.contiguous() for tensor in (distinct, boxes, real, crowd))
    with torch.cuda.device_of(candidates):
        if target.numel():
            _assign[(num_blocks, num_images)](
                *given, target, label, peaks, stride, num_candidates, num_objects, positive_iou, negative_iou,
                CROWD_COVER, SMALLEST_UNION, POSITIVE, NEGATIVE, IGNORED, triton.next_power_of_2(num_objects), BLOCK,
                num_warps=4, enable_fp_fusion=False,
            )  # fmt: skip
        if target.numel() and keep_best:
            _rescue[(num_objects, num_images)](
                *given[:3], label, peaks, stride, num_candidates, num_objects, num_blocks,
                SMALLEST_UNION, POSITIVE, triton.next_power_of_2(num_blocks), BLOCK,
                num_warps=4, enable_fp_fusion=False,
            )  # fmt: skip
    return target, label


@triton.jit
def _assign(  # type: ignore[no-untyped-def]
    candidates, boxes, real, crowd, target, label, peaks, stride, num_candidates, num_objects,
    positive_iou, negative_iou,
    CROWD_COVER: tl.constexpr, SMALLEST_UNION: tl.constexpr,
    POSITIVE: tl.constexpr, NEGATIVE: tl.constexpr, IGNORED: tl.constexpr,
    SLOTS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write target and label of a block, and peaks (B, G, blocks) of its image's real objects."""
    block, image = tl.program_id(0), tl.program_id(1).to(tl.int64)
    index = block * BLOCK + tl.arange(0, BLOCK)
    inside = index < num_candidates
    x1, y1, x2, y2 = _load(candidates + image * stride, index, inside)
    size = _area(x1, y1, x2, y2)

    boxes, real, crowd = boxes + image * num_objects * 4, real + image * num_objects, crowd + image * num_objects
    peaks += image * num_objects * tl.num_programs(0) + block
    slot = tl.arange(0, SLOTS)
    is_real = tl.load(real + slot, mask=slot < num_objects, other=0).to(tl.int1)
    is_crowd = tl.load(crowd + slot, mask=slot < num_objects, other=0).to(tl.int1)
    near = (is_real | is_crowd) & _near(x1, y1, x2, y2, inside, boxes, slot, num_objects)
    tl.store(peaks + slot.to(tl.int64) * tl.num_programs(0), 0.0, mask=is_real & ~near)

    best, cover = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)
    which = tl.zeros([BLOCK], tl.int32)
    g = tl.min(tl.where(near, slot, SLOTS), 0)
    while g < SLOTS:
        u1, v1, u2, v2 = _load(boxes, g, True)
        shared, overlap = _overlap(x1, y1, x2, y2, size, u1, v1, u2, v2, SMALLEST_UNION)
        if tl.load(real + g).to(tl.int1):
            which = tl.where(overlap > best, g, which)
            best = tl.maximum(best, overlap)
            tl.store(peaks + g.to(tl.int64) * tl.num_programs(0), tl.max(overlap, 0))
        else:
            cover = tl.maximum(cover, shared)
        g = tl.min(tl.where(near & (slot > g), slot, SLOTS), 0)

    low = tl.where((cover >= CROWD_COVER * size) | (best >= negative_iou), IGNORED, NEGATIVE)
    row = image * num_candidates + index
    tl.store(target + row, which.to(tl.int64), mask=inside)
    tl.store(label + row, tl.where(best >= positive_iou, POSITIVE, low).to(tl.int64), mask=inside)


@triton.jit
def _rescue(  # type: ignore[no-untyped-def]
    candidates, boxes, real, label, peaks, stride, num_candidates, num_objects, num_blocks,
    SMALLEST_UNION: tl.constexpr, POSITIVE: tl.constexpr, BLOCKS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Make positive the best candidates of one object, if it overlaps any."""
    image = tl.program_id(1).to(tl.int64)
    item = image * num_objects + tl.program_id(0)
    if tl.load(real + item).to(tl.int1):
        u1, v1, u2, v2 = _load(boxes, item, True)
        block = tl.arange(0, BLOCKS)
        peak = tl.load(peaks + item * num_blocks + block, mask=block < num_blocks, other=0.0)
        highest = tl.max(peak, 0)
        wanted = (peak == highest) & (peak > 0)
        at = tl.min(tl.where(wanted, block, num_blocks), 0)
        while at < num_blocks:
            index = at * BLOCK + tl.arange(0, BLOCK)
            inside = index < num_candidates
            x1, y1, x2, y2 = _load(candidates + image * stride, index, inside)
            _, overlap = _overlap(x1, y1, x2, y2, _area(x1, y1, x2, y2), u1, v1, u2, v2, SMALLEST_UNION)
            tl.store(label + image * num_candidates + index, POSITIVE, mask=inside & (overlap == highest))
            at = tl.min(tl.where(wanted & (block > at), block, num_blocks), 0)


@triton.jit
def _near(x1, y1, x2, y2, inside, boxes, slot, num_objects):  # type: ignore[no-untyped-def]
    """Which objects reach into the rectangle around all candidates."""
    infinity = float("inf")
    left, top = tl.min(tl.where(inside, x1, infinity), 0), tl.min(tl.where(inside, y1, infinity), 0)
    right, bottom = tl.max(tl.where(inside, x2, -infinity), 0), tl.max(tl.where(inside, y2, -infinity), 0)
    u1, v1, u2, v2 = _load(boxes, slot, slot < num_objects)
    return (u2 > left) & (v2 > top) & (u1 < right) & (v1 < bottom)


@triton.jit
def _overlap(x1, y1, x2, y2, size, u1, v1, u2, v2, SMALLEST_UNION: tl.constexpr):  # type: ignore[no-untyped-def]
    """The area that each candidate shares with an object, and its share of their union; as in the reference."""
    width = tl.minimum(x2, u2) - tl.maximum(x1, u1)
    height = tl.minimum(y2, v2) - tl.maximum(y1, v1)
    shared = tl.maximum(width, 0.0) * tl.maximum(height, 0.0)
    union = _area(u1, v1, u2, v2) + size - shared
    return shared, tl.div_rn(shared, tl.maximum(union, SMALLEST_UNION))


@triton.jit
def _area(x1, y1, x2, y2):  # type: ignore[no-untyped-def]
    return tl.maximum(x2 - x1, 0.0) * tl.maximum(y2 - y1, 0.0)


@triton.jit
def _load(boxes, index, inside):  # type: ignore[no-untyped-def]
    """x1, y1, x2, y2 of boxes (n, 4), zeros where not inside."""
    corner = boxes + index * 4
    x1 = tl.load(corner, mask=inside, other=0.0)
    y1 = tl.load(corner + 1, mask=inside, other=0.0)
    x2 = tl.load(corner + 2, mask=inside, other=0.0)
    y2 = tl.load(corner + 3, mask=inside, other=0.0)
    return x1, y1, x2, y2
