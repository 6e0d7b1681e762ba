"""`match` on the CPU: objects are compared with blocks of candidates that they touch, and no overlap is stored.

Anchors come row by row, so a block of neighbours lies in a small rectangle, and most objects lie elsewhere. What stays
is a stretch of arithmetic over one block that compilers turn into vector instructions. The largest overlap of every
object in every block tells afterwards in which blocks its best candidates are.
"""

import numpy as np
import torch
from torch import Tensor

from maskrcnn.kernels import kernel
from maskrcnn.ops.match.reference import CROWD_COVER, SMALLEST_UNION
from maskrcnn.ops.threads import parallel_for
from maskrcnn.structures import IGNORED, NEGATIVE, POSITIVE

BLOCK = 256  # candidates: their corners, areas and results fill a third of a first-level cache
WORTH_A_THREAD = 2**17  # candidates, of which objects touch few: one or two milliseconds


def match(
    candidates: Tensor,
    boxes: Tensor,
    real: Tensor,
    crowd: Tensor,
    positive_iou: float,
    negative_iou: float,
    keep_best: bool,
) -> tuple[Tensor, Tensor]:
    """See `maskrcnn.ops.match.match`."""
    num_images, num_candidates = candidates.shape[:2]
    target = torch.empty(num_images, num_candidates, dtype=torch.int64)
    label = torch.empty_like(target)
    num_blocks = -(-num_candidates // BLOCK)
    distinct = candidates if candidates.stride(0) else candidates[:1]  # anchors are the same in every image
    objects = boxes.contiguous().numpy(), real.contiguous().numpy(), crowd.contiguous().numpy()
    given = (distinct.contiguous().numpy(), *objects)
    number = given[0].dtype.type
    thresholds = number(positive_iou), number(negative_iou)
    peaks = np.zeros((*real.shape, num_blocks), number)

    def assign(first: int, last: int) -> None:
        _assign(*given, *thresholds, target.numpy(), label.numpy(), peaks, first, last)

    parallel_for(assign, num_images * num_blocks, -(-WORTH_A_THREAD // BLOCK))
    if keep_best:
        _rescue(*given, peaks, label.numpy())
    return target, label


@kernel(error_model="numpy")  # no fastmath: overlaps are those of the reference
def _assign(candidates, boxes, real, crowd, positive_iou, negative_iou, target, label, peaks, first, last):  # type: ignore[no-untyped-def]
    """Fill target and label (B, N) and peaks (B, G, blocks) for blocks[first:last], counted through all images."""
    number = candidates.dtype.type
    num_objects, num_blocks = peaks.shape[1:]
    corners = np.empty((5, BLOCK), candidates.dtype)
    shared, overlap = np.empty(BLOCK, candidates.dtype), np.empty(BLOCK, candidates.dtype)
    best, cover, which = np.empty_like(shared), np.empty_like(shared), np.empty(BLOCK, np.int32)
    for item in range(first, last):
        image, block = item // num_blocks, item % num_blocks
        start = block * BLOCK
        end = min(start + BLOCK, candidates.shape[1])
        left, top, right, bottom = _load(candidates[min(image, len(candidates) - 1), start:end], corners)
        best[:], cover[:], which[:] = 0, 0, 0
        for g in range(num_objects):
            box = boxes[image, g]
            apart = box[2] <= left or box[3] <= top or box[0] >= right or box[1] >= bottom
            if apart or not (real[image, g] or crowd[image, g]):
                continue
            _overlap(box, corners, shared, overlap)
            if crowd[image, g]:
                for k in range(BLOCK):
                    cover[k] = max(cover[k], shared[k])
            else:
                peaks[image, g, block] = _largest(overlap)
                for k in range(BLOCK):
                    which[k] = g if overlap[k] > best[k] else which[k]
                    best[k] = max(best[k], overlap[k])
        for k in range(end - start):
            in_crowd = cover[k] >= number(CROWD_COVER) * corners[4, k]
            low = IGNORED if in_crowd or best[k] >= negative_iou else NEGATIVE
            label[image, start + k] = POSITIVE if best[k] >= positive_iou else low
            target[image, start + k] = which[k]


@kernel(error_model="numpy")
def _rescue(candidates, boxes, real, crowd, peaks, label):  # type: ignore[no-untyped-def]
    """Make positive the best candidates of every object that overlaps one."""
    corners = np.empty((5, BLOCK), candidates.dtype)
    shared, overlap = np.empty(BLOCK, candidates.dtype), np.empty(BLOCK, candidates.dtype)
    for image in range(peaks.shape[0]):
        for g in range(peaks.shape[1]):
            peak = _largest(peaks[image, g])
            for block in range(peaks.shape[2]):
                if peak > 0 and peaks[image, g, block] == peak:
                    start = block * BLOCK
                    end = min(start + BLOCK, candidates.shape[1])
                    _load(candidates[min(image, len(candidates) - 1), start:end], corners)
                    _overlap(boxes[image, g], corners, shared, overlap)
                    for k in range(end - start):
                        if overlap[k] == peak:
                            label[image, start + k] = POSITIVE


@kernel()
def _load(candidates, corners):  # type: ignore[no-untyped-def]
    """Fill x1, y1, x2, y2 and area, (5, BLOCK), with zeros behind; returns the rectangle around all."""
    zero = candidates.dtype.type(0)
    corners[:, len(candidates) :] = 0
    for k in range(len(candidates)):
        x1, y1, x2, y2 = candidates[k]
        corners[0, k], corners[1, k], corners[2, k], corners[3, k] = x1, y1, x2, y2
        corners[4, k] = max(x2 - x1, zero) * max(y2 - y1, zero)
    inside = corners[:, : len(candidates)]
    return -_largest(-inside[0]), -_largest(-inside[1]), _largest(inside[2]), _largest(inside[3])


@kernel(error_model="numpy")
def _overlap(box, corners, shared, overlap):  # type: ignore[no-untyped-def]
    """Fill the area that each candidate shares with a box, and its share of their union."""
    zero, smallest = box.dtype.type(0), box.dtype.type(SMALLEST_UNION)
    x1, y1, x2, y2 = box
    size = max(x2 - x1, zero) * max(y2 - y1, zero)
    for k in range(BLOCK):
        width = max(min(x2, corners[2, k]) - max(x1, corners[0, k]), zero)
        height = max(min(y2, corners[3, k]) - max(y1, corners[1, k]), zero)
        shared[k] = width * height
        overlap[k] = shared[k] / max(size + corners[4, k] - shared[k], smallest)


@kernel(fastmath={"nnan", "nsz"})  # without order among equals it takes vector instructions
def _largest(values):  # type: ignore[no-untyped-def]
    largest = values[0]
    for value in values:
        largest = max(largest, value)
    return largest
