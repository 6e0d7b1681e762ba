"""`roi_align` on the processor: Numba kernels over channels-last memory, so that inner loops run along channels.

Forward shares RoIs among threads, backward shares channels: every sum has one owner and one order, whatever the
number of threads. bf16 is read and written as its 16 bits and computed in float32: copying a pyramid to float32
costs more than the pooling.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numba import njit
from torch import Tensor

from maskrcnn.ops.bfloat16 import narrow, widen
from maskrcnn.ops.roi_align.reference import roi_levels
from maskrcnn.ops.threads import in_parts

KERNEL_TYPES = (torch.float32, torch.float64, torch.bfloat16)
LINE = 16  # floats in a cache line: threads that share channels never write the same line
WORTH_A_THREAD = 2**22  # samples times channels: about 2 ms, below which waking a thread can only lose


def forward(
    pyramid: Sequence[Tensor],
    boxes: Tensor,
    images: Tensor,
    strides: Sequence[int],
    output_size: int,
    samples: int,
    canonical_size: int,
    canonical_level: int,
) -> Tensor:
    """(R, C, S, S) in channels-last memory."""
    num_images, channels = pyramid[0].shape[:2]
    _check_images(images, num_images)
    shape, dtype = (len(boxes), channels, output_size, output_size), pyramid[0].dtype
    own_type = dtype if dtype in KERNEL_TYPES else boxes.dtype
    pooled = torch.empty(shape, dtype=own_type, memory_format=torch.channels_last)
    features = [_nhwc(level) for level in pyramid]
    levels = roi_levels(boxes, strides, canonical_size, canonical_level).numpy()
    rois = (boxes.contiguous().numpy(), images.contiguous().numpy(), levels)

    def pool(first: int, last: int) -> None:
        for index, stride in enumerate(strides):
            _pool(features[index], *rois, index, 1.0 / stride, samples, _nhwc(pooled), first, last)

    in_parts(pool, len(boxes), -(-WORTH_A_THREAD // ((output_size * samples) ** 2 * channels)))
    return pooled.to(dtype)


def backward(
    grad: Tensor,
    boxes: Tensor,
    images: Tensor,
    num_images: int,
    sizes: Sequence[int],
    strides: Sequence[int],
    samples: int,
    canonical_size: int,
    canonical_level: int,
) -> list[Tensor]:
    """Gradient of each level from the gradient of the pooled RoIs; `sizes` is height, width of each level in turn."""
    channels = grad.shape[1]
    shapes = [(num_images, height, width, channels) for height, width in zip(sizes[::2], sizes[1::2], strict=True)]
    gradients = [torch.zeros(shape, dtype=boxes.dtype).permute(0, 3, 1, 2) for shape in shapes]
    targets = [_nhwc(gradient) for gradient in gradients]
    source = _nhwc(grad)
    levels = roi_levels(boxes, strides, canonical_size, canonical_level).numpy()
    rois = (boxes.contiguous().numpy(), images.contiguous().numpy(), levels)

    def spread(first: int, last: int) -> None:
        for index, stride in enumerate(strides):
            part = (first * LINE, min(last * LINE, channels))
            _spread(targets[index], *rois, index, 1.0 / stride, samples, source, *part)

    num_samples = len(boxes) * (grad.shape[2] * samples) ** 2
    in_parts(spread, -(-channels // LINE), -(-WORTH_A_THREAD // max(1, num_samples * LINE)))
    return [gradient.to(grad.dtype) for gradient in gradients]


def _check_images(images: Tensor, num_images: int) -> None:
    if len(images) and not 0 <= int(images.min()) <= int(images.max()) < num_images:
        found = f"{int(images.min())}..{int(images.max())}"
        raise ValueError(f"roi_align: images must index a batch of {num_images}, received {found}; padded slots take 0")


def _nhwc(tensor: Tensor) -> np.ndarray:
    """(B, h, w, C) view, copied only where memory is not channels-last; bf16 as uint16 bits, fp16 as float32."""
    tensor = tensor if tensor.dtype in KERNEL_TYPES else tensor.float()
    tensor = tensor.detach().permute(0, 2, 3, 1).contiguous()
    return tensor.view(torch.uint16).numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()


@njit(nogil=True, cache=True)  # no fastmath: it may drop the comparison that keeps NaN out of the indices
def _taps(start, length, size, low, high, low_weight, high_weight):  # type: ignore[no-untyped-def]
    """Cells beside each even sample along one axis, and their weights; as `reference._taps`."""
    for k in range(len(low)):
        position = start + (k + 0.5) * (length / len(low))
        inside = position >= -1.0 and position <= size
        position = min(max(position, 0.0), size - 1.0) if inside else 0.0
        low[k] = int(position)
        high[k] = min(low[k] + 1, size - 1)
        high_weight[k] = position - low[k] if inside else 0.0
        low_weight[k] = 1.0 - (position - low[k]) if inside else 0.0


@njit(nogil=True, cache=True, fastmath={"contract"})
def _pool(features, boxes, images, levels, level, scale, samples, pooled, first, last):  # type: ignore[no-untyped-def]
    """Fill pooled[first:last], (R, S, S, C), for the boxes of one level."""
    height, width, channels = features.shape[1:]
    output_size = pooled.shape[1]
    cells = np.empty((4, output_size * samples), np.int64)
    weights = np.empty((4, output_size * samples), boxes.dtype)
    total = np.empty(channels, boxes.dtype)
    for r in range(first, last):
        if levels[r] != level:
            continue
        x1, y1, x2, y2 = boxes[r, 0] * scale, boxes[r, 1] * scale, boxes[r, 2] * scale, boxes[r, 3] * scale
        _taps(y1 - 0.5, y2 - y1, height, cells[0], cells[1], weights[0], weights[1])
        _taps(x1 - 0.5, x2 - x1, width, cells[2], cells[3], weights[2], weights[3])
        image = features[images[r]]
        for i in range(output_size):
            for j in range(output_size):
                total[:] = 0
                for ky in range(i * samples, (i + 1) * samples):
                    top, bottom = image[cells[0, ky]], image[cells[1, ky]]
                    above, below = weights[0, ky] / samples**2, weights[1, ky] / samples**2
                    for kx in range(j * samples, (j + 1) * samples):
                        left, right = cells[2, kx], cells[3, kx]
                        a, b = above * weights[2, kx], above * weights[3, kx]
                        c, d = below * weights[2, kx], below * weights[3, kx]
                        p, q, u, v = top[left], top[right], bottom[left], bottom[right]
                        for k in range(channels):
                            total[k] += a * widen(p[k]) + b * widen(q[k]) + c * widen(u[k]) + d * widen(v[k])
                for k in range(channels):
                    pooled[r, i, j, k] = narrow(total[k], pooled[r, i, j, k])


@njit(nogil=True, cache=True, fastmath={"contract"})
def _spread(gradient, boxes, images, levels, level, scale, samples, grad, first, last):  # type: ignore[no-untyped-def]
    """Add the gradient of the boxes of one level to gradient[..., first:last], (B, h, w, C)."""
    height, width = gradient.shape[1:3]
    output_size = grad.shape[1]
    cells = np.empty((4, output_size * samples), np.int64)
    weights = np.empty((4, output_size * samples), boxes.dtype)
    for r in range(len(boxes)):
        if levels[r] != level:
            continue
        x1, y1, x2, y2 = boxes[r, 0] * scale, boxes[r, 1] * scale, boxes[r, 2] * scale, boxes[r, 3] * scale
        _taps(y1 - 0.5, y2 - y1, height, cells[0], cells[1], weights[0], weights[1])
        _taps(x1 - 0.5, x2 - x1, width, cells[2], cells[3], weights[2], weights[3])
        image = gradient[images[r]]
        for i in range(output_size):
            for j in range(output_size):
                source = grad[r, i, j, first:last]
                for ky in range(i * samples, (i + 1) * samples):
                    for kx in range(j * samples, (j + 1) * samples):
                        for side_y in range(2):
                            for side_x in range(2):
                                share = weights[side_y, ky] * weights[2 + side_x, kx] / samples**2
                                target = image[cells[side_y, ky], cells[2 + side_x, kx], first:last]
                                for k in range(last - first):
                                    target[k] += share * widen(source[k])
