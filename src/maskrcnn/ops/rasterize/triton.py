"""`rasterize` on a GPU: one program for each box walks the edges of its own object. Equal to the reference everywhere.

An edge crosses few rows of cells, so there is little to add up: 1 or -1 at the first cell behind each crossing, by
atomic additions to the result itself, exact in float32 in whatever order they come. Summed from the left these steps
are the winding number. Each thread takes an edge, and all take their rows in turn until none has a row left.

A box reads its outline once, 16 bytes an edge, and its cells are written as zeros, read and written again, 12 bytes
each: 9.4 kB for 28 x 28, in the L2 cache. With so little for each of hundreds of boxes it is waiting for memory that
costs, and they wait side by side.
"""

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from maskrcnn.ops.rasterize.reference import SMALLEST_SIDE

EDGES = 128  # walked at once, one by each thread of 4 warps: most outlines fit, and of long ones many are under way
CELLS = 1024  # summed at once: a grid of up to 32 x 32, 8 cells a thread


def rasterize(
    edges: Float[Tensor, "B E 4"],
    first_edge: Int[Tensor, "B G_plus_1"],
    boxes: Float[Tensor, "R 4"],
    images: Int[Tensor, " R"],
    objects: Int[Tensor, " R"],
    size: int,
) -> Float[Tensor, "R {size} {size}"]:
    """See `maskrcnn.ops.rasterize.rasterize`."""
    masks = torch.zeros(len(boxes), size, size, device=boxes.device)
    if len(boxes):
        columns = triton.next_power_of_2(size)
        with torch.cuda.device_of(boxes):
            _rasterize[(len(boxes),)](
                *(tensor.contiguous() for tensor in (edges, first_edge, boxes, images, objects)),
                *(masks, edges.shape[1], first_edge.shape[1], SMALLEST_SIDE),
                SIZE=size,
                EDGES=EDGES,
                ROWS=max(CELLS // columns, 1),
                COLUMNS=columns,
                num_warps=4,
                enable_fp_fusion=False,  # crossings round as in the reference
            )
    return masks


@triton.jit
def _rasterize(  # type: ignore[no-untyped-def]
    edges, first_edge, boxes, images, objects, masks, num_edges, num_firsts, smallest_side,
    SIZE: tl.constexpr, EDGES: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    r = tl.program_id(0).to(tl.int64)
    left, top = tl.load(boxes + r * 4), tl.load(boxes + r * 4 + 1)
    right, bottom = tl.load(boxes + r * 4 + 2), tl.load(boxes + r * 4 + 3)
    width, height = right - left, bottom - top
    has_area = (width >= smallest_side) & (height >= smallest_side) & (width < float("inf")) & (height < float("inf"))
    cells = tl.full([], SIZE, tl.float32)
    scale_x, scale_y = tl.div_rn(cells, width), tl.div_rn(cells, height)

    image = tl.load(images + r).to(tl.int64)
    first_edge += image * num_firsts + tl.load(objects + r)
    edge, stop = tl.load(first_edge).to(tl.int32), tl.load(first_edge + 1).to(tl.int32)
    stop = tl.where(has_area, stop, edge)
    edges += image * num_edges * 4
    masks += r * SIZE * SIZE
    while edge < stop:
        x1, y1, x2, y2 = _load(edges, edge + tl.arange(0, EDGES), stop)
        u1, v1, u2, v2 = (x1 - left) * scale_x, (y1 - top) * scale_y, (x2 - left) * scale_x, (y2 - top) * scale_y
        _add_steps(masks, u1, v1, u2, v2, SIZE)
        edge += EDGES
    tl.debug_barrier()  # each thread sums what others have added
    _sum_steps(masks, SIZE, ROWS, COLUMNS)


@triton.jit
def _load(edges, edge, stop):  # type: ignore[no-untyped-def]
    """(x1, y1, x2, y2) of each edge, zeros from `stop` on."""
    offset = edge[:, None] * 4 + tl.arange(0, 4)[None, :]
    points = tl.load(edges + offset, mask=edge[:, None] < stop, other=0.0)
    x, y = tl.split(tl.reshape(points, [edge.shape[0], 2, 2]))
    x1, x2 = tl.split(x)
    y1, y2 = tl.split(y)
    return x1, y1, x2, y2


@triton.jit
def _add_steps(masks, u1, v1, u2, v2, SIZE: tl.constexpr):  # type: ignore[no-untyped-def]
    """Add 1 or -1 at the first cell behind each crossing of an edge and a row of centres; u, v in cells."""
    row, last = _first_centre(tl.minimum(v1, v2), SIZE), _first_centre(tl.maximum(v1, v2), SIZE)
    slope = tl.div_rn(u2 - u1, tl.where(v1 == v2, 1.0, v2 - v1))
    direction = tl.where(v2 > v1, 1.0, -1.0)
    most = tl.max(last - row, axis=0)
    while most > 0:
        crossing = u1 + (row.to(tl.float32) + 0.5 - v1) * slope
        column = _first_centre(crossing, SIZE)
        wanted = (row < last) & (column < SIZE)
        tl.atomic_add(masks + row * SIZE + column, direction, mask=wanted, sem="relaxed")
        row += 1
        most -= 1


@triton.jit
def _first_centre(position, SIZE: tl.constexpr):  # type: ignore[no-untyped-def]
    """The first cell whose centre is not left of (above) `position`; SIZE where there is none."""
    return tl.minimum(tl.maximum(tl.ceil(position - 0.5), 0.0), SIZE).to(tl.int32)


@triton.jit
def _sum_steps(masks, SIZE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Turn the steps of each row into 1 where their sum from the left is not zero, otherwise 0."""
    column = tl.arange(0, COLUMNS)[None, :]
    for first in range(0, SIZE, ROWS):
        row = first + tl.arange(0, ROWS)[:, None]
        inside = (row < SIZE) & (column < SIZE)
        # From L2, where the additions are: a neighbour's box may have left the line they share in L1.
        steps = tl.load(masks + row * SIZE + column, mask=inside, other=0.0, cache_modifier=".cg")
        winding = tl.cumsum(steps, axis=1)
        tl.store(masks + row * SIZE + column, (winding != 0).to(tl.float32), mask=inside)
