"""`group_norm` on the CPU: Numba kernels over channels-last memory, so that inner loops run along channels.

Each direction reads memory twice: first sums over blocks of pixels, then the result. Blocks do not depend on the
number of threads, nor does then the order of any sum. bf16 is read and written as its 16 bits.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from maskrcnn.kernels import kernel
from maskrcnn.ops.bfloat16 import narrow, widen
from maskrcnn.ops.threads import parallel_for

DTYPES = (torch.float32, torch.bfloat16)
FLOOR = {False: np.float32(-np.inf), True: np.float32(0)}
"""Least result, without and with ReLU; where a result is at it, gradients stop."""
BLOCK = 256
"""Pixels whose sums are float32, before float64 takes over."""
TILE = 8
"""Pixels that `_products` gates before it adds them up: LLVM vectorises no loop over all the arrays this needs."""
SPACING = 32
"""Every so many pixels one counts for the origin of squares in a block: a single one far off must not decide alone."""
WORTH_A_THREAD = 2**18
"""Numbers that take about 100 microseconds: handing over parts costs half of that."""


def forward(
    x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, relu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The result in channels-last memory, and mean and reciprocal standard deviation (B, groups)."""
    y = torch.empty_like(x, memory_format=torch.channels_last)
    pixels, out = _pixels(x), _pixels(y)
    moments = _in_groups(_sums(_moments, pixels), groups) / _group_size(pixels, groups)
    mean, variance = moments[:, 0], (moments[:, 1] - moments[:, 0] ** 2).clip(0)
    mean, rstd = mean.astype(np.float32), (1 / np.sqrt(variance + eps)).astype(np.float32)
    centre, scale = _per_channel(mean, rstd, weight.numpy())
    _over_blocks(_normalise, pixels, centre, scale, bias.numpy(), FLOOR[relu], out)
    return y, torch.from_numpy(mean), torch.from_numpy(rstd)


def backward(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, rstd: Tensor, relu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, in channels-last memory, weight and bias.

    With g the gradient behind the ReLU and n = (x - mean) * rstd, that of x is
    rstd * (weight * g - average(weight * g) - n * average(weight * g * n)), averages over the group.
    """
    x_grad = torch.empty_like(x, memory_format=torch.channels_last)
    pixels, grads, out = _pixels(x), _pixels(grad), _pixels(x_grad)
    groups = mean.shape[1]
    gain, spread = weight.numpy(), rstd.numpy()
    centre, scale = _per_channel(mean.numpy(), spread, gain)
    gate = (centre, scale, bias.numpy(), FLOOR[relu])
    sums = _sums(_products, pixels, grads, *gate)
    averages = _in_groups(sums * gain, groups) / _group_size(pixels, groups)
    offset = -averages[:, 0] * spread
    slope = -averages[:, 1] * spread**3
    offset, slope = (np.repeat(each, len(gain) // groups, axis=1).astype(np.float32) for each in (offset, slope))
    _over_blocks(_gradient, pixels, grads, *gate, offset, slope, out)
    sums[:, 1] *= np.repeat(spread, len(gain) // groups, axis=1)
    bias_grad, weight_grad = sums.sum(0).astype(np.float32)
    return x_grad, torch.from_numpy(weight_grad), torch.from_numpy(bias_grad)


def _pixels(x: Tensor) -> ndarray:
    """(B, H * W, C), a view where memory is channels-last; bf16 as its bits."""
    x = x.permute(0, 2, 3, 1).contiguous().flatten(1, 2)
    return (x.view(torch.uint16) if x.dtype == torch.bfloat16 else x).numpy()


def _group_size(pixels: ndarray, groups: int) -> int:
    return max(1, pixels.shape[1] * pixels.shape[2] // groups)


def _per_channel(mean: ndarray, rstd: ndarray, weight: ndarray) -> tuple[ndarray, ndarray]:
    """What values are centred at and then multiplied by, both (B, C)."""
    size = len(weight) // max(1, mean.shape[1])
    return np.repeat(mean, size, axis=1), np.repeat(rstd, size, axis=1) * weight


def _in_groups(sums: ndarray, groups: int) -> ndarray:
    """(B, 2, C) to (B, 2, groups)."""
    return sums.reshape(*sums.shape[:2], groups, sums.shape[2] // groups).sum(3)


def _sums(kernel: Callable, pixels: ndarray, *others: object) -> ndarray:
    """(B, 2, C) float64: what `kernel` adds up for each channel."""
    num_images, num_pixels, channels = pixels.shape
    sums = np.zeros((num_images, -(-num_pixels // BLOCK), 2, channels))
    _over_blocks(kernel, pixels, *others, sums)
    return sums.sum(1)


def _over_blocks(kernel: Callable, pixels: ndarray, *others: object) -> None:
    num_images, num_pixels, channels = pixels.shape
    blocks = -(-num_pixels // BLOCK)
    smallest = max(1, WORTH_A_THREAD // (BLOCK * channels))
    parallel_for(lambda first, last: kernel(pixels, *others, blocks, first, last), num_images * blocks, smallest)


@kernel()
def _block_of(pixels, blocks, item):  # type: ignore[no-untyped-def]
    """Image, block, first and last pixel of the item-th of all blocks."""
    image, block = item // blocks, item % blocks
    return image, block, pixels.shape[1] * block // blocks, pixels.shape[1] * (block + 1) // blocks


@kernel()
def _moments(pixels, sums, blocks, first, last):  # type: ignore[no-untyped-def]
    """Sums of values and of their squares: float32 in a block, from an origin amid some of its pixels."""
    channels = pixels.shape[2]
    total, squares, origin = np.empty((3, channels), np.float32)
    for item in range(first, last):
        image, block, start, stop = _block_of(pixels, blocks, item)
        total[:], squares[:], origin[:] = 0, 0, 0
        share = np.float32(1) / np.float32(-(-(stop - start) // SPACING))
        for p in range(start, stop, SPACING):
            for c in range(channels):
                origin[c] += share * widen(pixels[image, p, c])
        for p in range(start, stop):
            row = pixels[image, p]
            for c in range(channels):
                value = widen(row[c]) - origin[c]
                total[c] += value
                squares[c] += value * value
        count = np.float64(stop - start)
        for c in range(channels):
            shift, moved = np.float64(origin[c]), np.float64(total[c])
            sums[image, block, 0, c] = moved + count * shift
            sums[image, block, 1, c] = squares[c] + shift * (2 * moved + count * shift)


@kernel()
def _normalise(pixels, centre, scale, bias, floor, out, blocks, first, last):  # type: ignore[no-untyped-def]
    for item in range(first, last):
        image, _, start, stop = _block_of(pixels, blocks, item)
        middle, factor = centre[image], scale[image]
        for p in range(start, stop):
            row, result = pixels[image, p], out[image, p]
            for c in range(len(row)):
                value = (widen(row[c]) - middle[c]) * factor[c] + bias[c]
                result[c] = narrow(floor if value < floor else value, result[c])


@kernel()
def _products(pixels, grads, centre, scale, bias, floor, sums, blocks, first, last):  # type: ignore[no-untyped-def]
    """Sums of gradients behind the ReLU, and of their products with the centred values; float32 within a block."""
    channels = pixels.shape[2]
    total, products = np.empty((2, channels), np.float32)
    passed = np.empty((TILE, channels), np.float32)
    for item in range(first, last):
        image, block, start, stop = _block_of(pixels, blocks, item)
        middle, factor = centre[image], scale[image]
        total[:], products[:] = 0, 0
        for tile in range(start, stop, TILE):
            for p in range(tile, min(tile + TILE, stop)):
                row, grad, part = pixels[image, p], grads[image, p], passed[p - tile]
                for c in range(channels):
                    g, value = widen(grad[c]), (widen(row[c]) - middle[c]) * factor[c] + bias[c]
                    part[c] = np.float32(0) if value <= floor else g
            for p in range(tile, min(tile + TILE, stop)):
                row, part = pixels[image, p], passed[p - tile]
                for c in range(channels):
                    total[c] += part[c]
                    products[c] += part[c] * (widen(row[c]) - middle[c])
        for c in range(channels):
            sums[image, block, 0, c], sums[image, block, 1, c] = total[c], products[c]


@kernel()
def _gradient(pixels, grads, centre, scale, bias, floor, offset, slope, out, blocks, first, last):  # type: ignore[no-untyped-def]
    for item in range(first, last):
        image, _, start, stop = _block_of(pixels, blocks, item)
        middle, factor, shift, tilt = centre[image], scale[image], offset[image], slope[image]
        for p in range(start, stop):
            row, grad, result = pixels[image, p], grads[image, p], out[image, p]
            for c in range(len(row)):
                g, value = widen(grad[c]), widen(row[c]) - middle[c]
                passed = np.float32(0) if value * factor[c] + bias[c] <= floor else g
                result[c] = narrow(factor[c] * passed + tilt[c] * value + shift[c], result[c])
