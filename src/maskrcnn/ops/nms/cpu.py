"""`nms` on the CPU: one greedy sweep per image that ends with its last wanted survivor."""

import numpy as np
import torch
from torch import Tensor

from maskrcnn.kernels import kernel
from maskrcnn.ops.threads import parallel_for

LOOK = 64  # survivors compared in one vectorised stretch before asking whether one of them suppresses


def nms(boxes: Tensor, groups: Tensor, valid: Tensor, threshold: float, num_keep: int) -> tuple[Tensor, Tensor]:
    """See `maskrcnn.ops.nms.nms`."""
    index = torch.zeros(len(boxes), num_keep, dtype=torch.int64)
    kept = torch.zeros(len(boxes), num_keep, dtype=torch.bool)
    candidates = (boxes.contiguous().numpy(), groups.contiguous().numpy(), valid.contiguous().numpy())

    def sweep(first: int, last: int) -> None:
        _sweep(*candidates, np.float32(threshold), index.numpy(), kept.numpy(), first, last)

    parallel_for(sweep, len(boxes), smallest=4)
    return index, kept


@kernel()  # no fastmath: ties at the threshold fall as in the reference
def _sweep(boxes, groups, valid, threshold, index, kept, first, last):  # type: ignore[no-untyped-def]
    """Fill index[first:last] and kept[first:last], both (B, num_keep)."""
    num_boxes, num_keep = boxes.shape[1], index.shape[1]
    survivors = np.empty((5, min(num_boxes, num_keep)), np.float32)  # x1, y1, x2, y2, area
    survivor_groups = np.empty(min(num_boxes, num_keep), np.int64)
    for image in range(first, last):
        count = np.int64(0)  # a number of the program would be a type of its own, compiled apart
        for i in range(num_boxes):
            if count == num_keep:
                break
            box, group = boxes[image, i], groups[image, i]
            if not valid[image, i] or _suppressed(box, group, survivors, survivor_groups, count, threshold):
                continue
            for side in range(4):
                survivors[side, count] = box[side]
            survivors[4, count] = max(box[2] - box[0], np.float32(0)) * max(box[3] - box[1], np.float32(0))
            survivor_groups[count] = group
            index[image, count], kept[image, count] = i, True
            count += 1


@kernel()
def _suppressed(box, group, survivors, survivor_groups, count, threshold):  # type: ignore[no-untyped-def]
    """Whether one of the first `count` survivors overlaps the box too much."""
    zero = np.float32(0)
    x1, y1, x2, y2 = box[0], box[1], box[2], box[3]
    area = max(x2 - x1, zero) * max(y2 - y1, zero)
    for start in range(0, count, LOOK):
        hits = 0
        for k in range(start, min(start + LOOK, count)):
            width = max(min(x2, survivors[2, k]) - max(x1, survivors[0, k]), zero)
            height = max(min(y2, survivors[3, k]) - max(y1, survivors[1, k]), zero)
            shared = width * height
            hits += (shared > threshold * (survivors[4, k] + area - shared)) & (survivor_groups[k] == group)
        if hits:
            return True
    return False
