"""`roi_align` on a GPU: Triton kernels over channels-last memory, each one launch for all levels and images.

`_pool` gives a program one row of bins of one RoI: it works out positions once for all channels, which neighbouring
threads read and write 16 bytes at a time. Memory carries the cells that boxes touch, once if L2 holds them until the
next box comes, and the bins. What bounds it is reading from L2: for each box about the cells that lie in it, 248 kB for
22 x 22 of 256 channels in bf16.

Two kernels make the gradient. `_scatter` mirrors `_pool`: with 2 x 2 samples every bin adds 16 times to cells, in
float32 and by atomic operations; the buffer is cleared before and rounded after, 10 bytes of memory for each number in
bf16 besides the additions. `_gather` turns it round: a program owns a tile of cells and adds up what the boxes that
touch it give, in their order. It needs no atomic operation, and writes each number once, in its type.

A box lies on the level that `reference.roi_levels` says and where `reference.place` says, to the last bit: nothing is
fused with an addition but by `tl.fma`. Levels' sizes are floats, as Triton compiles anew for an integer 1 or 16 n.
Loops whose ends are known only as the program runs are `while`: the interpreter cannot count a `range` of them.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 4  # cells by cells of a gathering program, whose sums in 256 channels take 128 registers of each thread
NEARBY = 32  # boxes that a gathering program tests at once: one a thread


def forward(
    pyramid: Sequence[Tensor],
    boxes: Tensor,
    images: Tensor,
    strides: Sequence[int],
    output_size: int,
    samples: int,
    half_pixel: bool,
    canonical_size: int,
    canonical_level: int,
) -> Tensor:
    """Pooled RoIs (R, C, S, S) in channels-last memory."""
    shape = (len(boxes), pyramid[0].shape[1], output_size, output_size)
    pooled = torch.empty(shape, dtype=pyramid[0].dtype, device=boxes.device, memory_format=torch.channels_last)
    features = tuple(_nhwc(level) for level in pyramid)
    sizes = [side for level in pyramid for side in level.shape[2:]]
    rois = (boxes.contiguous(), images.contiguous())
    rule = _level_rule(strides, canonical_size, canonical_level)
    _by_rows(_pool, pooled, features, rois, sizes, rule, samples, half_pixel)
    return pooled


def backward(
    grad: Tensor,
    boxes: Tensor,
    images: Tensor,
    num_images: int,
    sizes: Sequence[int],
    strides: Sequence[int],
    samples: int,
    half_pixel: bool,
    canonical_size: int,
    canonical_level: int,
) -> list[Tensor]:
    """Gradient of each level from the gradient of the pooled RoIs; `sizes` is height, width of each level in turn.

    Atomic additions happen in any order, and round in it: the last bits differ from run to run.
    """
    shapes = [(num_images, *size, grad.shape[1]) for size in _pairs(sizes)]
    gradients = tuple(torch.zeros(shape, dtype=torch.float32, device=grad.device) for shape in shapes)
    source = _nhwc(grad).permute(0, 3, 1, 2)
    rois = (boxes.contiguous(), images.contiguous())
    rule = _level_rule(strides, canonical_size, canonical_level)
    _by_rows(_scatter, source, gradients, rois, sizes, rule, samples, half_pixel)
    return [gradient.permute(0, 3, 1, 2).to(grad.dtype) for gradient in gradients]


def backward_deterministic(
    grad: Tensor,
    boxes: Tensor,
    images: Tensor,
    num_images: int,
    sizes: Sequence[int],
    strides: Sequence[int],
    samples: int,
    half_pixel: bool,
    canonical_size: int,
    canonical_level: int,
) -> list[Tensor]:
    """`backward` with the same bits in every run: boxes are sorted by image and level and keep their order there.

    What it costs, counted: n x n cells under a box lie in about (n / 4 + 1)**2 tiles; with bins of b cells, each tile
    multiplies (4 / b + 1)**2 bins by 4 weights and the 4 / b + 1 rows that result by 16. For 7 x 7 bins on 22 x 22
    cells that is 42 x (5.2 x 4 + 2.3 x 16) = 2,400 multiplications a channel, where `backward` makes 49 x 16 = 784
    atomic additions; for each cell it writes 2 bytes a channel in bf16, where `backward` moves 10. Many boxes over one
    tile are one program's work, one after the other. `maskrcnn bench ops` measures both.
    """
    channels, output_size = grad.shape[1:3]
    shapes = [(num_images, *size, channels) for size in _pairs(sizes)]
    gradients = tuple(torch.empty(shape, dtype=grad.dtype, device=grad.device) for shape in shapes)
    source = _nhwc(grad)
    scale, limit = _level_rule(strides, canonical_size, canonical_level)
    block = min(256, triton.next_power_of_2(channels))
    num_tiles = num_images * sum(-(-height // TILE) * -(-width // TILE) for height, width in _pairs(sizes))
    with torch.cuda.device_of(grad):
        rois = _sort(source, boxes.contiguous(), images.contiguous(), num_images, len(shapes), limit)
        _gather[(num_tiles, triton.cdiv(channels, block))](
            gradients, source, *rois, *_sides(sizes), num_images, channels, scale, output_size, samples, half_pixel,
            block, TILE, NEARBY, num_warps=1, enable_fp_fusion=False,
        )  # fmt: skip
    return [gradient.permute(0, 3, 1, 2) for gradient in gradients]


def _sort(
    grad: Tensor, boxes: Tensor, images: Tensor, num_images: int, num_levels: int, limit: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes by image and level, their numbers before, and where each image and level begins, with the end of the last.

    Behind that end lie boxes without gradient.
    """
    group = torch.empty(len(boxes), dtype=torch.int32, device=boxes.device)
    num_values = grad.shape[1:].numel()
    _group[(len(boxes),)](group, grad, boxes, images, num_images, num_values, limit, num_levels, 1024, num_warps=4)
    group, order = torch.sort(group, stable=True)
    numbers = torch.arange(num_images * num_levels + 1, dtype=torch.int32, device=boxes.device)
    return boxes[order], order, torch.searchsorted(group, numbers, out_int32=True)


def _by_rows(kernel, pooled, levels, rois, sizes, rule, samples, half_pixel):  # type: ignore[no-untyped-def]
    """Launch a program for each row of bins and each 256 channels; its threads hold 16 numbers each."""
    channels, output_size = pooled.shape[1:3]
    bins = triton.next_power_of_2(output_size)
    block = min(256, triton.next_power_of_2(channels))
    warps = min(8, max(1, bins * block // 512))
    with torch.cuda.device_of(pooled):
        kernel[(len(pooled) * output_size, triton.cdiv(channels, block))](
            pooled, levels, *rois, *_sides(sizes), channels, *rule, output_size, samples, half_pixel, bins, block,
            num_warps=warps, enable_fp_fusion=False,
        )  # fmt: skip


def _level_rule(strides: Sequence[int], canonical_size: int, canonical_level: int) -> tuple[float, float]:
    """Cells per pixel on the finest level, and the area in square pixels from which boxes leave it.

    Each further level is left at four times the area. The same rule as `reference.roi_levels`, with its 1e-6, but free
    of the logarithm's rounding: they differ for some sides that fall short of an edge by 7e-7 to 9e-7 of it.
    """
    side = canonical_size * 2.0 ** (strides[0].bit_length() - canonical_level - 1e-6)
    return 1.0 / strides[0], side**2


def _pairs(sizes: Sequence[int]) -> list[tuple[int, int]]:
    return list(zip(sizes[::2], sizes[1::2], strict=True))


def _sides(sizes: Sequence[int]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Heights, and widths, of all levels."""
    return tuple(map(float, sizes[::2])), tuple(map(float, sizes[1::2]))


def _nhwc(tensor: Tensor) -> Tensor:
    """A level as (B, h, w, C), copied only where memory is not channels-last."""
    return tensor.permute(0, 2, 3, 1).contiguous()


@triton.jit
def _pool(  # type: ignore[no-untyped-def]
    pooled, features, boxes, images, heights, widths, channels, scale, limit,
    S: tl.constexpr, SAMPLES: tl.constexpr, HALF_PIXEL: tl.constexpr, BINS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Fill one row of bins of one RoI, S of BINS, in BLOCK channels."""
    roi, i, j = tl.program_id(0) // S, tl.program_id(0) % S, tl.arange(0, BINS)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = (j < S)[:, None] & (channel < channels)[None, :]
    # The level that suits the RoI's size (Lin et al. 2017, eq. 1), and where its samples lie among that level's cells.
    level, scale = _level(boxes, roi, scale, limit, len(heights))
    height, width = _size(heights, level), _size(widths, level)
    cells = _image(_pick(features, level), images, roi, height, width, channels)
    start_y, step_y, rows = _place(boxes + 1, roi, scale, height, S, SAMPLES, HALF_PIXEL)
    start_x, step_x, columns = _place(boxes, roi, scale, width, S, SAMPLES, HALF_PIXEL)
    # The sum of bilinear samples, numbered row by row (He et al. 2017, section 3). A fixed number is unrolled, so that
    # reads of one sample are under way while those before are added; as many as cells are counted as the program runs.
    total = tl.zeros([BINS, BLOCK], tl.float32)
    if SAMPLES:
        for k in tl.static_range(SAMPLES * SAMPLES):
            y = _position(start_y, step_y, i, rows, k // columns)
            x = _position(start_x, step_x, j, columns, k % columns)
            total = _read(total, cells, y, x, height, width, channels, channel, mask)
    else:
        k = 0
        while k < rows * columns:
            y = _position(start_y, step_y, i, rows, k // columns)
            x = _position(start_x, step_x, j, columns, k % columns)
            total = _read(total, cells, y, x, height, width, channels, channel, mask)
            k += 1
    # Their mean.
    target = pooled + tl.program_id(0).to(tl.int64) * S * channels + (j * channels)[:, None] + channel[None, :]
    tl.store(target, (total * (1.0 / (rows * columns))).to(pooled.dtype.element_ty), mask)


@triton.jit
def _scatter(  # type: ignore[no-untyped-def]
    grad, gradients, boxes, images, heights, widths, channels, scale, limit,
    S: tl.constexpr, SAMPLES: tl.constexpr, HALF_PIXEL: tl.constexpr, BINS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Add the gradient of one row of bins of one RoI to the cells that `_pool` reads for it."""
    roi, i, j = tl.program_id(0) // S, tl.program_id(0) % S, tl.arange(0, BINS)
    # Threads read by fours, as they add: by eights, numbers would have to change threads in between.
    channel = tl.program_id(1) * BLOCK + tl.max_contiguous(tl.arange(0, BLOCK), 4)
    mask = (j < S)[:, None] & (channel < channels)[None, :]
    source = grad + tl.program_id(0).to(tl.int64) * S * channels + (j * channels)[:, None] + channel[None, :]
    share = tl.load(source, mask, 0.0).to(tl.float32)
    # Slots out of use repeat others' boxes: their zeros would queue for the same cells.
    if tl.max((share != 0.0).to(tl.int32)) > 0:
        level, scale = _level(boxes, roi, scale, limit, len(heights))
        height, width = _size(heights, level), _size(widths, level)
        cells = _image(_pick(gradients, level), images, roi, height, width, channels)
        start_y, step_y, rows = _place(boxes + 1, roi, scale, height, S, SAMPLES, HALF_PIXEL)
        start_x, step_x, columns = _place(boxes, roi, scale, width, S, SAMPLES, HALF_PIXEL)
        # The gradient of the mean: every sample of a bin has the same share, and gives it to its four cells.
        share *= 1.0 / (rows * columns)
        k = 0
        while k < rows * columns:
            y = _position(start_y, step_y, i, rows, k // columns)
            x = _position(start_x, step_x, j, columns, k % columns)
            _write(share, cells, y, x, height, width, channels, channel, mask)
            k += 1


@triton.jit
def _group(  # type: ignore[no-untyped-def]
    group, grad, boxes, images, num_images, size, limit, NUM_LEVELS: tl.constexpr, BLOCK: tl.constexpr
):
    """Number the image and level of one RoI; one whose `size` numbers of gradient are zero gets a number that none has.

    They can be many: slots out of use repeat the boxes of others, whose tiles would take them one after the other.
    """
    roi, number = tl.program_id(0), tl.arange(0, BLOCK)
    source = grad + roi.to(tl.int64) * size
    # Whether any number of its gradient is not zero; of a slot in use the first block nearly always tells.
    some, is_used = 0, 0
    while (some < size) & (is_used == 0):
        is_used = tl.max((tl.load(source + some + number, some + number < size, 0.0) != 0.0).to(tl.int32))
        some += BLOCK
    # Image by image and level by level; what is not used sorts behind all of them.
    level, _ = _level(boxes, roi, 1.0, limit, NUM_LEVELS)
    image = tl.where(is_used > 0, tl.load(images + roi).to(tl.int32), num_images)
    tl.store(group + roi, image * NUM_LEVELS + tl.where(is_used > 0, level, 0))


@triton.jit
def _gather(  # type: ignore[no-untyped-def]
    gradients, grad, boxes, order, first, heights, widths, num_images, channels, scale,
    S: tl.constexpr, SAMPLES: tl.constexpr, HALF_PIXEL: tl.constexpr, BLOCK: tl.constexpr, TILE: tl.constexpr,
    NEARBY: tl.constexpr,
):  # fmt: skip
    """Fill one tile of cells in BLOCK channels from the boxes of its image and level.

    boxes    sorted by image and level; `order` holds their numbers before, `first` where each image and level begins
    Coarse levels come first: fewer tiles share their boxes, so theirs are the programs that take longest.
    """
    number = tl.num_programs(0) - 1 - tl.program_id(0)
    image, level, scale, top, left = _tile(number, heights, widths, num_images, scale, TILE)
    height, width = _size(heights, level), _size(widths, level)
    # Axes: cell row, cell column, channel. All tensors have them, so that no number changes threads on its way.
    y, x = top + tl.arange(0, TILE)[:, None, None], left + tl.arange(0, TILE)[None, :, None]
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, None, :]
    # The boxes of this image and level, `NEARBY` at a time: each thread tests one, and those that touch the tile are
    # added in their order, which is what makes every run round alike.
    total = tl.zeros([TILE, TILE, BLOCK], tl.float32)
    group = image * len(heights) + level
    some, end = tl.load(first + group), tl.load(first + group + 1)
    while some < end:
        near = some + tl.arange(0, NEARBY)
        touches = near < end
        near = tl.where(touches, near, some)
        touches &= _touches(boxes + 1, near, scale, top, TILE, HALF_PIXEL)
        touches &= _touches(boxes, near, scale, left, TILE, HALF_PIXEL)
        box = tl.min(tl.where(touches, near, end))
        while box < end:
            start_y, step_y, rows = _place(boxes + 1, box, scale, height, S, SAMPLES, HALF_PIXEL)
            start_x, step_x, columns = _place(boxes, box, scale, width, S, SAMPLES, HALF_PIXEL)
            # What a cell weighs in a bin is a factor of its row times one of its column (`_weights`). So the bins of a
            # row are added up by columns first, and their sum counts once for all rows of the tile.
            source = grad + tl.load(order + box) * S * S * channels + channel
            upper, lower = _bins(start_y, step_y * rows, top, S, TILE)
            before, after = _bins(start_x, step_x * columns, left, S, TILE)
            while upper < lower:
                row, j = tl.zeros([1, TILE, BLOCK], tl.float32), before
                while j < after:
                    value = tl.load(source + (upper * S + j) * channels, channel < channels, 0.0).to(tl.float32)
                    row = tl.fma(_weights(start_x, step_x, j, columns, x, width, SAMPLES), value, row)
                    j += 1
                weight = _weights(start_y, step_y, upper, rows, y, height, SAMPLES) * (1.0 / (rows * columns))
                total = tl.fma(weight, row, total)
                upper += 1
            box = tl.min(tl.where(touches & (near > box), near, end))
        some += NEARBY
    # Each cell belongs to one tile: it is written once, zero where no box touches it.
    cell = (image.to(tl.int64) * height.to(tl.int32) + y) * width.to(tl.int32) + x
    target = _pick(gradients, level) + cell * channels + channel
    mask = (y < height) & (x < width) & (channel < channels)
    tl.store(target, total.to(grad.dtype.element_ty), mask)


@triton.jit
def _tile(number, heights, widths, num_images, scale, TILE: tl.constexpr):  # type: ignore[no-untyped-def]
    """Image, level, the level's cells per pixel, and the first row and column of a tile.

    Tiles are numbered from the finest level on, image by image in each, and row by row in each image.
    """
    # A level's tiles are subtracted until what is left is a number among those of its own.
    level = 0
    for finer in tl.static_range(len(heights) - 1):
        num_tiles = num_images * _num_tiles(heights[finer], TILE) * _num_tiles(widths[finer], TILE)
        is_beyond = (level == finer) & (number >= num_tiles)
        number, level = tl.where(is_beyond, number - num_tiles, number), tl.where(is_beyond, level + 1, level)
        scale = tl.where(is_beyond, scale * 0.5, scale)
    across, down = _num_tiles(_size(widths, level), TILE), _num_tiles(_size(heights, level), TILE)
    image, number = number // (across * down), number % (across * down)
    return image, level, scale, (number // across) * TILE, (number % across) * TILE


@triton.jit
def _pick(values, index):  # type: ignore[no-untyped-def]
    """values[index], where `index` is known only as the program runs."""
    picked = values[0]
    for number in tl.static_range(1, len(values)):
        picked = tl.where(index == number, values[number], picked)
    return picked


@triton.jit
def _size(sizes, level):  # type: ignore[no-untyped-def]
    return tl.cast(_pick(sizes, level), tl.float32)  # of a single level the interpreter has no tensor yet


@triton.jit
def _level(boxes, roi, scale, limit, NUM_LEVELS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Level of a RoI, 0 for NaN, and its cells per pixel; see `_level_rule`."""
    width = tl.load(boxes + roi * 4 + 2) - tl.load(boxes + roi * 4)
    height = tl.load(boxes + roi * 4 + 3) - tl.load(boxes + roi * 4 + 1)
    area = tl.maximum(width, 0.0) * tl.maximum(height, 0.0)
    # Sides that double quadruple the area: level by level a box is either below the limit or goes on to the next.
    level = roi * 0
    for _ in tl.static_range(1, NUM_LEVELS):
        scale = tl.where(area >= limit, scale * 0.5, scale)
        level += (area >= limit).to(tl.int32)
        limit *= 4.0
    return level, scale


@triton.jit
def _image(cells, images, roi, height, width, channels):  # type: ignore[no-untyped-def]
    """Address of the image of a RoI on its level."""
    return cells + tl.load(images + roi).to(tl.int64) * height.to(tl.int32) * width.to(tl.int32) * channels


@triton.jit
def _span(boxes, roi, scale, HALF_PIXEL: tl.constexpr):  # type: ignore[no-untyped-def]
    """Start and side of a RoI in cells along one axis, whose first coordinate is boxes[0]; as `reference.place`."""
    shift = 0.5 if HALF_PIXEL else 0.0
    start = tl.load(boxes + roi * 4) * scale - shift
    side = tl.load(boxes + roi * 4 + 2) * scale - shift - start
    if not HALF_PIXEL:
        side = tl.where(side < 1.0, 1.0, side)  # keeps NaN
    return start, side


@triton.jit
def _place(  # type: ignore[no-untyped-def]
    boxes, roi, scale, size, S: tl.constexpr, SAMPLES: tl.constexpr, HALF_PIXEL: tl.constexpr
):
    """Where a RoI starts along one axis, the distance between its samples in cells, and the samples of each bin."""
    start, side = _span(boxes, roi, scale, HALF_PIXEL)
    if SAMPLES:
        return start, tl.div_rn(side, SAMPLES * S * 1.0), SAMPLES
    # As many as the bin has cells, rounded up, but no more than a bin that takes the whole level has.
    count = tl.ceil(tl.div_rn(side, S * 1.0))
    most = tl.ceil(tl.div_rn(size, S * 1.0))
    count = tl.where(count > 1.0, count, 1.0)  # also of NaN
    count = tl.where(count < most, count, most).to(tl.int32)
    return start, tl.div_rn(side, (count * S).to(tl.float32)), count


@triton.jit
def _position(start, step, index, count, number):  # type: ignore[no-untyped-def]
    """Where one sample of a bin lies along one axis."""
    return start + (index * count + number + 0.5) * step


@triton.jit
def _taps(position, size):  # type: ignore[no-untyped-def]
    """The two cells beside samples along one axis, and their weights; as `reference._taps`."""
    # Samples more than a cell outside weigh nothing; nearer ones take the border cell.
    is_inside = (position >= -1.0) & (position <= size)
    position = tl.minimum(tl.where(is_inside & (position > 0.0), position, 0.0), size - 1.0)
    low = position.to(tl.int32)
    share = position - low
    high = tl.minimum(low + 1, size.to(tl.int32) - 1)
    return low, high, tl.where(is_inside, 1.0 - share, 0.0), tl.where(is_inside, share, 0.0)


@triton.jit
def _read(total, cells, y, x, height, width, channels, channel, mask):  # type: ignore[no-untyped-def]
    """Add the values between cells at y and x of each bin of a row to `total`."""
    top, bottom, above, below = _taps(y, height)
    left, right, before, after = _taps(x, width)
    for tap in tl.static_range(4):
        row, row_weight = (top, above) if tap < 2 else (bottom, below)
        column, column_weight = (left, before) if tap % 2 == 0 else (right, after)
        cell = (row * width.to(tl.int32) + column) * channels
        value = tl.load(cells + cell[:, None] + channel[None, :], mask, 0.0).to(tl.float32)
        total = tl.fma(value, (row_weight * column_weight)[:, None], total)
    return total


@triton.jit
def _write(share, cells, y, x, height, width, channels, channel, mask):  # type: ignore[no-untyped-def]
    """Add `share` to the cells that `_read` reads, by the same weights."""
    top, bottom, above, below = _taps(y, height)
    left, right, before, after = _taps(x, width)
    for tap in tl.static_range(4):
        row, row_weight = (top, above) if tap < 2 else (bottom, below)
        column, column_weight = (left, before) if tap % 2 == 0 else (right, after)
        cell = (row * width.to(tl.int32) + column) * channels
        value = share * (row_weight * column_weight)[:, None]
        tl.atomic_add(cells + cell[:, None] + channel[None, :], value, mask, sem="relaxed")


@triton.jit
def _num_tiles(size, TILE: tl.constexpr):  # type: ignore[no-untyped-def]
    return tl.cast(size + (TILE - 1), tl.int32) // TILE


@triton.jit
def _touches(boxes, roi, scale, first, TILE: tl.constexpr, HALF_PIXEL: tl.constexpr):  # type: ignore[no-untyped-def]
    """Whether samples of RoIs may lie within one cell of a tile along one axis: 0.01 covers rounding."""
    start, side = _span(boxes, roi, scale, HALF_PIXEL)
    return (tl.minimum(start, start + side) < first + TILE + 0.01) & (tl.maximum(start, start + side) > first - 1.01)


@triton.jit
def _bins(start, length, first, S: tl.constexpr, TILE: tl.constexpr):  # type: ignore[no-untyped-def]
    """First and behind the last of the bins that may touch a tile along one axis; all where bins are short or NaN."""
    # Bin b has its samples in start + [b, b + 1] * length, and they touch cells less than one away: those of the tile
    # where they lie in [first - 1, first + TILE]. Solved for b; 0.01 covers rounding.
    is_long = tl.abs(length) > 0.25
    near, far = (first - 1.0 - start) / length, (first + TILE - start) / length
    low, high = tl.minimum(near, far) - 0.01, tl.maximum(near, far) + 1.01
    low = tl.where(is_long & (low > 0.0), tl.minimum(low, S), 0.0)
    high = tl.where(is_long & (high < S), tl.maximum(high, 0.0), S)
    return low.to(tl.int32), high.to(tl.int32)


@triton.jit
def _weights(start, step, index, count, cells, size, SAMPLES: tl.constexpr):  # type: ignore[no-untyped-def]
    """What cells along one axis weigh in the samples of one bin, added up: 1 less their distance from each sample."""
    total = cells * 0.0
    if SAMPLES:
        for k in tl.static_range(SAMPLES):
            total += _weight(_position(start, step, index, count, k), cells, size)
    else:
        k = 0
        while k < count:
            total += _weight(_position(start, step, index, count, k), cells, size)
            k += 1
    return total


@triton.jit
def _weight(position, cells, size):  # type: ignore[no-untyped-def]
    is_inside = (position >= -1.0) & (position <= size)
    position = tl.minimum(tl.where(is_inside & (position > 0.0), position, 0.0), size - 1.0)
    return tl.where(is_inside, tl.maximum(1.0 - tl.abs(cells - position), 0.0), 0.0)
