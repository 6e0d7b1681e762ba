"""`rasterize` in Numba: each box walks the edges of its own object alone. Equal to the reference, cell by cell."""

from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from maskrcnn.kernels import kernel
from maskrcnn.ops.rasterize.reference import SMALLEST_SIDE

_HALF = np.float32(0.5)
_SMALLEST = np.float32(SMALLEST_SIDE)


def rasterize(
    edges: Float[Tensor, "B E 4"],
    first_edge: Int[Tensor, "B G_plus_1"],
    boxes: Float[Tensor, "R 4"],
    images: Int[Tensor, " R"],
    objects: Int[Tensor, " R"],
    size: int,
) -> Float[Tensor, "R {size} {size}"]:
    """See `maskrcnn.ops.rasterize.rasterize`."""
    _expect_within("images", images, edges.shape[0] - 1)
    _expect_within("objects", objects, first_edge.shape[1] - 2)
    _expect_within("first_edge", first_edge, edges.shape[1])
    masks = np.zeros((len(boxes), size, size), np.float32)
    arrays = (tensor.contiguous().numpy() for tensor in (edges, first_edge, boxes, images, objects))
    _rasterize(*arrays, masks)
    return torch.from_numpy(masks)


def _expect_within(name: str, index: Int[Tensor, "..."], last: int) -> None:
    if index.numel():
        low, high = (int(bound) for bound in index.aminmax())
        if low < 0 or high > last:
            raise ValueError(f"{name}: expected indices from 0 to {last}, received {low} to {high}")


@kernel()
@no_type_check
def _rasterize(edges, first_edge, boxes, images, objects, masks):
    size = masks.shape[1]
    cells = np.float32(size)
    winding = np.empty((size, size + 1), np.int32)
    for r in range(len(boxes)):
        left, top = boxes[r, 0], boxes[r, 1]
        width, height = boxes[r, 2] - left, boxes[r, 3] - top
        if not (width >= _SMALLEST and height >= _SMALLEST and np.isfinite(boxes[r]).all()):
            continue
        scale_x, scale_y = cells / width, cells / height
        winding[:] = 0
        image, item = images[r], objects[r]
        for e in range(first_edge[image, item], first_edge[image, item + 1]):
            x1, y1, x2, y2 = edges[image, e]
            v1, v2 = (y1 - top) * scale_y, (y2 - top) * scale_y
            first, last = _first_centre(min(v1, v2), cells), _first_centre(max(v1, v2), cells)
            if first < last:
                u1, u2 = (x1 - left) * scale_x, (x2 - left) * scale_x
                slope = (u2 - u1) / (v2 - v1)
                direction = 1 if v2 > v1 else -1
                for row in range(first, last):
                    crossing = u1 + (np.float32(row) + _HALF - v1) * slope
                    winding[row, _first_centre(crossing, cells)] += direction
        _fill(winding, masks[r])


@kernel()
@no_type_check
def _first_centre(position, cells):
    """The first cell whose centre is not left of (above) `position`; `cells` where there is none."""
    return np.int64(min(max(np.ceil(position - _HALF), np.float32(0)), cells))


@kernel()
@no_type_check
def _fill(winding, mask):
    for i in range(mask.shape[0]):
        total = 0
        for j in range(mask.shape[1]):
            total += winding[i, j]
            mask[i, j] = np.float32(total != 0)
