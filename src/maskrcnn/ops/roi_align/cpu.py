"""`roi_align` on the CPU: Numba kernels over channels-last memory, so that inner loops run along channels.

Forward shares RoIs among threads, backward shares channels: every sum has one owner and one order, whatever the
number of threads. bf16 is read and written as its 16 bits and computed in float32: copying a pyramid to float32
costs more than the pooling.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from maskrcnn.kernels import kernel
from maskrcnn.ops.bfloat16 import narrow, widen
from maskrcnn.ops.roi_align.reference import place, roi_levels
from maskrcnn.ops.threads import parallel_for

KERNEL_TYPES = (torch.float32, torch.float64, torch.bfloat16)
LINE = 16  # floats in a cache line: threads that share channels never write the same line
WORTH_A_THREAD = 2**20  # samples times channels: about half a millisecond


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
    num_images, channels = pyramid[0].shape[:2]
    _check_images(images, num_images)
    shape, dtype = (len(boxes), channels, output_size, output_size), pyramid[0].dtype
    own_type = dtype if dtype in KERNEL_TYPES else boxes.dtype
    pooled = torch.empty(shape, dtype=own_type, memory_format=torch.channels_last)
    features = [_nhwc(level) for level in pyramid]
    levels = roi_levels(boxes, strides, canonical_size, canonical_level)
    sizes = [(level.shape[2], level.shape[3]) for level in pyramid]
    placed = place(boxes, levels, sizes, strides, output_size=output_size, samples=samples, half_pixel=half_pixel)
    start, sides, counts = (part.numpy() for part in placed)
    rois = (start, sides, counts, images.contiguous().numpy(), levels.numpy())

    def pool(first: int, last: int) -> None:
        for level, values in enumerate(features):
            _pool(values, *rois, level, _nhwc(pooled), first, last)

    work = output_size**2 * _mean_samples(placed.counts) * channels
    parallel_for(pool, len(boxes), -(-WORTH_A_THREAD // work))
    return pooled.to(dtype)


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
    """Gradient of each level from the gradient of the pooled RoIs; `sizes` is height, width of each level in turn."""
    channels, output_size = grad.shape[1:3]
    cells = list(zip(sizes[::2], sizes[1::2], strict=True))
    gradients = [torch.zeros(num_images, *size, channels, dtype=boxes.dtype).permute(0, 3, 1, 2) for size in cells]
    targets = [_nhwc(gradient) for gradient in gradients]
    source = _nhwc(grad)
    levels = roi_levels(boxes, strides, canonical_size, canonical_level)
    placed = place(boxes, levels, cells, strides, output_size=output_size, samples=samples, half_pixel=half_pixel)
    start, sides, counts = (part.numpy() for part in placed)
    rois = (start, sides, counts, images.contiguous().numpy(), levels.numpy())

    def spread(first: int, last: int) -> None:
        for level, values in enumerate(targets):
            _spread(values, *rois, level, source, first * LINE, min(last * LINE, channels))

    work = len(boxes) * output_size**2 * _mean_samples(placed.counts) * LINE
    parallel_for(spread, -(-channels // LINE), -(-WORTH_A_THREAD // max(1, work)))
    return [gradient.to(grad.dtype) for gradient in gradients]


def _mean_samples(counts: Tensor) -> int:
    return max(1, int(counts.prod(dim=1).float().mean().nan_to_num(nan=1.0)))


def _check_images(images: Tensor, num_images: int) -> None:
    if len(images) and not 0 <= int(images.min()) <= int(images.max()) < num_images:
        found = f"{int(images.min())}..{int(images.max())}"
        raise ValueError(f"roi_align: images must index a batch of {num_images}, received {found}; padded slots take 0")


def _nhwc(tensor: Tensor) -> np.ndarray:
    """A level as (B, h, w, C), copied only where memory is not channels-last; bf16 as uint16 bits, fp16 as float32."""
    tensor = tensor if tensor.dtype in KERNEL_TYPES else tensor.float()
    tensor = tensor.detach().permute(0, 2, 3, 1).contiguous()
    return tensor.view(torch.uint16).numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()


@kernel()  # no fastmath: it may drop the comparison that keeps NaN out of the indices
def _taps(start, sides, size, count):  # type: ignore[no-untyped-def]
    """Cells beside each of `count` even samples along one axis, and their weights; as `reference._taps`.

    start, sides   arrays of one number, whose type the weights take
    """
    low, high = np.empty(count, np.int64), np.empty(count, np.int64)
    low_weight, high_weight = np.empty(count, start.dtype), np.empty(count, start.dtype)
    for k in range(count):
        position = start[0] + (k + 0.5) * (sides[0] / count)
        inside = position >= -1.0 and position <= size
        position = min(max(position, 0.0), size - 1.0) if inside else 0.0
        low[k] = int(position)
        high[k] = min(low[k] + 1, size - 1)
        high_weight[k] = position - low[k] if inside else 0.0
        low_weight[k] = 1.0 - (position - low[k]) if inside else 0.0
    return low, high, low_weight, high_weight


@kernel(fastmath={"contract"})
def _pool(features, start, sides, counts, images, levels, level, pooled, first, last):  # type: ignore[no-untyped-def]
    """Fill pooled[first:last], (R, S, S, C), for the boxes of one level."""
    height, width, channels = features.shape[1:]
    output_size = pooled.shape[1]
    total = np.empty(channels, start.dtype)
    for r in range(first, last):
        if levels[r] != level:
            continue
        num_rows, num_columns = counts[r]
        num_samples = num_rows * num_columns
        rows, columns = num_rows * output_size, num_columns * output_size
        top_cell, bottom_cell, top_weight, bottom_weight = _taps(start[r, :1], sides[r, :1], height, rows)
        left_cell, right_cell, left_weight, right_weight = _taps(start[r, 1:], sides[r, 1:], width, columns)
        image = features[images[r]]
        for i in range(output_size):
            for j in range(output_size):
                total[:] = 0
                for ky in range(i * num_rows, (i + 1) * num_rows):
                    top, bottom = image[top_cell[ky]], image[bottom_cell[ky]]
                    above, below = top_weight[ky] / num_samples, bottom_weight[ky] / num_samples
                    for kx in range(j * num_columns, (j + 1) * num_columns):
                        left, right = left_cell[kx], right_cell[kx]
                        a, b = above * left_weight[kx], above * right_weight[kx]
                        c, d = below * left_weight[kx], below * right_weight[kx]
                        p, q, u, v = top[left], top[right], bottom[left], bottom[right]
                        for k in range(channels):
                            total[k] += a * widen(p[k]) + b * widen(q[k]) + c * widen(u[k]) + d * widen(v[k])
                for k in range(channels):
                    pooled[r, i, j, k] = narrow(total[k], pooled[r, i, j, k])


@kernel(fastmath={"contract"})
def _spread(gradient, start, sides, counts, images, levels, level, grad, first, last):  # type: ignore[no-untyped-def]
    """Add the gradient of the boxes of one level to gradient[..., first:last], (B, h, w, C)."""
    height, width = gradient.shape[1:3]
    output_size = grad.shape[1]
    for r in range(len(start)):
        if levels[r] != level:
            continue
        num_rows, num_columns = counts[r]
        num_samples = num_rows * num_columns
        rows, columns = num_rows * output_size, num_columns * output_size
        top_cell, bottom_cell, top_weight, bottom_weight = _taps(start[r, :1], sides[r, :1], height, rows)
        left_cell, right_cell, left_weight, right_weight = _taps(start[r, 1:], sides[r, 1:], width, columns)
        row_cells, row_weights = (top_cell, bottom_cell), (top_weight, bottom_weight)
        column_cells, column_weights = (left_cell, right_cell), (left_weight, right_weight)
        image = gradient[images[r]]
        for i in range(output_size):
            for j in range(output_size):
                source = grad[r, i, j, first:last]
                for ky in range(i * num_rows, (i + 1) * num_rows):
                    for kx in range(j * num_columns, (j + 1) * num_columns):
                        for side_y in range(2):
                            for side_x in range(2):
                                share = row_weights[side_y][ky] * column_weights[side_x][kx] / num_samples
                                target = image[row_cells[side_y][ky], column_cells[side_x][kx], first:last]
                                for k in range(last - first):
                                    target[k] += share * widen(source[k])
