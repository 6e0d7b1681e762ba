"""`paste` on a GPU. Every step rounds as in the reference, so that all pixels agree.

Bitmaps: the device fills all masks with zeros at the speed of its memory, then one program for each tile of each mask
draws what its box reaches; tiles beyond return at once. D x height x width bytes are what it costs, and once more the
tiles under boxes, mostly still in the L2 cache.

Run lengths: no mask is held. Of 32 rows at a time each column is the bits of one integer, and a change is a bit that
differs from the one before it, which at the top of the image is that of the last pixel of the previous column. One pass
counts the changes of each column, sums tell where they belong, a second pass writes where they lie. Grids are read from
the caches, and 4 bytes a column and 8 a change are written: arithmetic is what it costs, twice that of the pixels near.
"""

import torch
import triton
import triton.language as tl
from jaxtyping import Bool, Float, Int
from torch import Tensor

TILE = 32, 64  # rows and columns drawn at once: 16 pixels for each thread of 4 warps
COLUMNS = 32  # walked by one program: narrow, so that few boxes too keep all multiprocessors busy


def paste(
    probabilities: Float[Tensor, "D M M"], boxes: Float[Tensor, "D 4"], height: int, width: int, threshold: float
) -> Bool[Tensor, "D {height} {width}"]:
    """See `maskrcnn.ops.paste.paste`."""
    rows, columns = TILE
    masks = torch.zeros(len(boxes), height, width, dtype=torch.bool, device=boxes.device)
    if len(boxes):
        with torch.cuda.device_of(boxes):
            _paste[len(boxes), triton.cdiv(height, rows), triton.cdiv(width, columns)](
                *(probabilities.contiguous(), boxes.contiguous(), masks, height, width, threshold),
                CELLS=probabilities.shape[2],
                ROWS=rows,
                COLUMNS=columns,
                num_warps=4,
                enable_fp_fusion=False,
            )
    return masks


def paste_runs(
    probabilities: Float[Tensor, "D M M"], boxes: Float[Tensor, "D 4"], height: int, width: int, threshold: float
) -> tuple[Int[Tensor, " N"], Int[Tensor, " D"]]:
    """COCO's run lengths of all masks, one mask behind the other, and where each mask's stop, the latter on the CPU.

    Waits for the device once, since how many runs there are depends on values: for results, never within a step.
    """
    changes = torch.empty(len(boxes), width, dtype=torch.int32, device=boxes.device)
    if not len(boxes):
        return changes.flatten(), torch.zeros(0, dtype=torch.int64)
    inputs = probabilities.contiguous(), boxes.contiguous()
    _walk(*inputs, changes, changes, changes, height, width, threshold, write=False)
    mask = torch.arange(1, len(boxes) + 1, device=boxes.device)
    ends = changes.flatten().cumsum(0).view_as(changes) + mask[:, None]  # a mask's last run ends without a change
    stops = ends[:, -1].cpu()
    # All masks are one long strip of pixels, on which every run ends where the next one starts.
    offsets = torch.empty(int(stops[-1]), dtype=torch.int64, device=boxes.device)
    offsets[ends[:, -1] - 1] = mask * (height * width)
    _walk(*inputs, changes, ends - changes - 1, offsets, height, width, threshold, write=True)
    return torch.diff(offsets, prepend=offsets.new_zeros(1)), stops


def _walk(
    probabilities: Float[Tensor, "D M M"],
    boxes: Float[Tensor, "D 4"],
    changes: Int[Tensor, "D W"],
    slots: Int[Tensor, "D W"],
    offsets: Int[Tensor, "..."],
    height: int,
    width: int,
    threshold: float,
    *,
    write: bool,
) -> None:
    """Fill `changes` with the number in each column, or `offsets`, from each column's slot on, with where they lie."""
    with torch.cuda.device_of(boxes):
        _changes[len(boxes), triton.cdiv(width, COLUMNS)](
            *(probabilities, boxes, changes, slots, offsets, height, width, threshold),
            CELLS=probabilities.shape[2],
            COLUMNS=COLUMNS,
            WRITE=write,
            num_warps=4,
            enable_fp_fusion=False,
        )


@triton.jit
def _paste(  # type: ignore[no-untyped-def]
    probabilities, boxes, masks, height, width, threshold,
    CELLS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    d = tl.program_id(0).to(tl.int64)
    top, left = tl.program_id(1) * ROWS, tl.program_id(2) * COLUMNS
    low_x, low_y, scale_x, scale_y = _frame(boxes + d * 4, CELLS)
    if _meets(top, top + ROWS - 1, low_y, scale_y, CELLS) & _meets(left, left + COLUMNS - 1, low_x, scale_x, CELLS):
        y, x = top + tl.arange(0, ROWS)[:, None], left + tl.arange(0, COLUMNS)[None, :]
        v, u = _position(y, low_y, scale_y), _position(x, low_x, scale_x)
        inside = _inside(probabilities + d * CELLS * CELLS, v, u, threshold, CELLS)
        tl.store(masks + d * height * width + (y * width + x), inside, mask=(y < height) & (x < width))


@triton.jit
def _changes(  # type: ignore[no-untyped-def]
    probabilities, boxes, changes, slots, offsets, height, width, threshold,
    CELLS: tl.constexpr, COLUMNS: tl.constexpr, WRITE: tl.constexpr,
):  # fmt: skip
    """Count the changes of some columns of a mask, or write where on the strip of all masks they lie."""
    d = tl.program_id(0).to(tl.int64)
    left = tl.program_id(1) * COLUMNS
    x, bit = left + tl.arange(0, COLUMNS), tl.arange(0, 32)[:, None]
    low_x, low_y, scale_x, scale_y = _frame(boxes + d * 4, CELLS)
    probabilities += d * CELLS * CELLS
    u = _position(x, low_x, scale_x)
    last_v = _position(tl.full([COLUMNS], height - 1, tl.int32), low_y, scale_y)
    previous = _inside(probabilities, last_v, _position(x - 1, low_x, scale_x), threshold, CELLS) & (x > 0)
    before = previous.to(tl.int32)
    slot = tl.load(slots + d * width + x, mask=x < width, other=0)
    count = tl.zeros([COLUMNS], tl.int32)
    # The column behind a box too may change, back to background, at its top: the row and the pixel below likewise.
    stop = tl.where(_meets(left - 1, left + COLUMNS - 1, low_x, scale_x, CELLS), height, 0)
    top = 0
    while top < stop:
        if (top == 0) | _meets(top - 1, top + 31, low_y, scale_y, CELLS):
            y = top + bit
            inside = _inside(probabilities, _position(y, low_y, scale_y), u[None, :], threshold, CELLS) & (y < height)
            column = tl.sum(inside.to(tl.int32) << bit, axis=0)
            differs = column ^ ((column << 1) | before)
            change = ((differs[None, :] >> bit) & 1) * (y < height)
            if WRITE:
                offset = (d * width + x[None, :]) * height + y
                rank = slot[None, :] + count[None, :] + tl.cumsum(change, axis=0) - 1
                tl.store(offsets + rank, offset, mask=(change == 1) & (x < width)[None, :])
            count += tl.sum(change, axis=0)
            before = (column >> 31) & 1
        top += 32
    if not WRITE:
        tl.store(changes + d * width + x, count, mask=x < width)


@triton.jit
def _frame(box, CELLS: tl.constexpr):  # type: ignore[no-untyped-def]
    """(left, top, cells per pixel across, and down); the latter NaN without area, so that no pixel is near."""
    left, top, right, bottom = tl.load(box), tl.load(box + 1), tl.load(box + 2), tl.load(box + 3)
    return left, top, _scale(right - left, CELLS), _scale(bottom - top, CELLS)


@triton.jit
def _scale(side, CELLS: tl.constexpr):  # type: ignore[no-untyped-def]
    cells = tl.full([], CELLS, tl.float32)
    has_extent = (side > 0) & (side < float("inf"))
    return tl.where(has_extent, tl.div_rn(cells, tl.where(has_extent, side, 1.0)), float("nan"))


@triton.jit
def _position(pixel, low, scale):  # type: ignore[no-untyped-def]
    """Position of a pixel's centre in the grid, in cells; never less for a later pixel."""
    return (pixel + 0.5 - low) * scale - 0.5


@triton.jit
def _meets(first, last, low, scale, CELLS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Whether any of the pixels `first` to `last` can lie near the grid."""
    return (_position(last, low, scale) > -1) & (_position(first, low, scale) < CELLS)


@triton.jit
def _inside(grid, v, u, threshold, CELLS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Whether the grid at row v and column u, in cells, reaches the threshold."""
    near_v, i, down = _tap(v, CELLS)
    near_u, j, across = _tap(u, CELLS)
    near = near_v & near_u
    above, below = _between(grid, i, j, across, near, CELLS), _between(grid, i + 1, j, across, near, CELLS)
    return near & (above + down * (below - above) >= threshold)


@triton.jit
def _tap(position, CELLS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Whether the grid is near, the cell before the position, and how far behind it."""
    near = (position > -1) & (position < CELLS)
    position = tl.where(near, position, 0.0)
    cell = tl.floor(position)
    return near, cell.to(tl.int32), position - cell


@triton.jit
def _between(grid, i, j, fraction, near, CELLS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Value between column j of row i and the next; zeros lie around the grid."""
    near &= (i >= 0) & (i < CELLS)
    before = tl.load(grid + i * CELLS + j, mask=near & (j >= 0), other=0.0)
    after = tl.load(grid + i * CELLS + j + 1, mask=near & (j + 1 < CELLS), other=0.0)
    return before + fraction * (after - before)
