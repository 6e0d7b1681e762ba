"""`group_norm` on the processor: Numba kernels over channels-last memory, so that inner loops run along channels.

Each direction reads memory twice: first sums over blocks of pixels, then the result. Blocks do not depend on the
number of threads, nor does then the order of any sum. bf16 is read and written as its 16 bits.
"""

from collections.abc import Callable

import numpy as np
import torch
from numba import njit, types
from numba.extending import overload
from numpy import ndarray
from torch import Tensor

from maskrcnn.ops.threads import in_parts

DTYPES = (torch.float32, torch.bfloat16)
FLOOR = {False: np.float32(-np.inf), True: np.float32(0)}
"""Results are not below it; where they are at it, gradients stop."""
BLOCK = 32768
"""Numbers in a block of pixels: it lies in the nearer caches and takes about 10 microseconds."""


def forward(
    x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, relu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The result in channels-last memory, and mean and reciprocal standard deviation (B, groups)."""
    y = torch.empty_like(x, memory_format=torch.channels_last)
    pixels, out = _pixels(x), _pixels(y)
    moments = _in_groups(_sums(_moments, pixels), groups) / max(1, pixels[0].size // groups)
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
    averages = _in_groups(sums * gain, groups) / max(1, pixels[0].size // groups)
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


def _per_channel(mean: ndarray, rstd: ndarray, weight: ndarray) -> tuple[ndarray, ndarray]:
    """(B, C) that values are centred at, and then multiplied by."""
    size = len(weight) // max(1, mean.shape[1])
    return np.repeat(mean, size, axis=1), np.repeat(rstd, size, axis=1) * weight


def _in_groups(sums: ndarray, groups: int) -> ndarray:
    """(B, 2, C) to (B, 2, groups)."""
    return sums.reshape(*sums.shape[:2], groups, sums.shape[2] // groups).sum(3)


def _sums(kernel: Callable, pixels: ndarray, *others: object) -> ndarray:
    """(B, 2, C) float64: what `kernel` adds up for each channel."""
    num_images, num_pixels, channels = pixels.shape
    sums = np.zeros((num_images, _num_blocks(pixels), 2, channels))
    _over_blocks(kernel, pixels, *others, sums)
    return sums.sum(1)


def _num_blocks(pixels: ndarray) -> int:
    num_pixels, channels = pixels.shape[1:]
    return max(1, min(num_pixels, num_pixels * channels // BLOCK))


def _over_blocks(kernel: Callable, pixels: ndarray, *others: object) -> None:
    blocks = _num_blocks(pixels)
    in_parts(lambda first, last: kernel(pixels, *others, blocks, first, last), len(pixels) * blocks, smallest=2)


def _widen(value):  # type: ignore[no-untyped-def]
    """The float32 of a number in memory."""
    raise NotImplementedError("only for kernels")


@overload(_widen, inline="always")
def _(value):  # type: ignore[no-untyped-def]
    if value == types.uint16:
        return lambda value: np.uint32(np.uint32(value) << np.uint32(16)).view(np.float32)
    return lambda value: value


def _narrow(value, like):  # type: ignore[no-untyped-def]
    """The reverse of `_widen` into the type of `like`, rounded to nearest even; NaN stays NaN."""
    raise NotImplementedError("only for kernels")


@overload(_narrow, inline="always")
def _(value, like):  # type: ignore[no-untyped-def]
    if like == types.uint16:

        def round_to_bfloat16(value, like):  # type: ignore[no-untyped-def]
            bits = np.float32(value).view(np.uint32)
            even = np.uint32(np.uint32(bits >> np.uint32(16)) & np.uint32(1))
            rounded = np.uint32(bits + np.uint32(even + np.uint32(0x7FFF)))
            return np.uint16(rounded >> np.uint32(16)) if value == value else np.uint16(0x7FC0)

        return round_to_bfloat16
    return lambda value, like: value


@njit(nogil=True, cache=True)
def _place(pixels, blocks, item):  # type: ignore[no-untyped-def]
    """Image, block, first and last pixel of the item-th of all blocks."""
    image, block = item // blocks, item % blocks
    return image, block, pixels.shape[1] * block // blocks, pixels.shape[1] * (block + 1) // blocks


@njit(nogil=True, cache=True)
def _moments(pixels, sums, blocks, first, last):  # type: ignore[no-untyped-def]
    """Sums of values and of their squares. In a block, float32 sums of distances from its first pixel; float64 beyond."""
    channels = pixels.shape[2]
    total, squares, origin = np.empty((3, channels), np.float32)
    for item in range(first, last):
        image, block, start, stop = _place(pixels, blocks, item)
        total[:] = 0
        squares[:] = 0
        for c in range(channels):
            origin[c] = _widen(pixels[image, start, c])
        for p in range(start, stop):
            row = pixels[image, p]
            for c in range(channels):
                value = _widen(row[c]) - origin[c]
                total[c] += value
                squares[c] += value * value
        count = np.float64(stop - start)
        for c in range(channels):
            shift, moved = np.float64(origin[c]), np.float64(total[c])
            sums[image, block, 0, c] = moved + count * shift
            sums[image, block, 1, c] = squares[c] + shift * (2 * moved + count * shift)


@njit(nogil=True, cache=True)
def _normalise(pixels, centre, scale, bias, floor, out, blocks, first, last):  # type: ignore[no-untyped-def]
    for item in range(first, last):
        image, _, start, stop = _place(pixels, blocks, item)
        middle, factor = centre[image], scale[image]
        for p in range(start, stop):
            row, result = pixels[image, p], out[image, p]
            for c in range(len(row)):
                value = (_widen(row[c]) - middle[c]) * factor[c] + bias[c]
                result[c] = _narrow(floor if value < floor else value, result[c])


@njit(nogil=True, cache=True)
def _products(pixels, grads, centre, scale, bias, floor, sums, blocks, first, last):  # type: ignore[no-untyped-def]
    """Sums of gradients behind the ReLU, and of their products with the centred values; float32 within a block."""
    channels = pixels.shape[2]
    total, products, passed = np.empty((3, channels), np.float32)
    for item in range(first, last):
        image, block, start, stop = _place(pixels, blocks, item)
        middle, factor = centre[image], scale[image]
        total[:] = 0
        products[:] = 0
        for p in range(start, stop):
            row, grad = pixels[image, p], grads[image, p]
            for c in range(channels):
                g, value = _widen(grad[c]), (_widen(row[c]) - middle[c]) * factor[c] + bias[c]
                passed[c] = np.float32(0) if value <= floor else g
            for c in range(channels):  # a loop of its own: LLVM vectorises no loop over more arrays than it can tell apart
                total[c] += passed[c]
                products[c] += passed[c] * (_widen(row[c]) - middle[c])
        for c in range(channels):
            sums[image, block, 0, c], sums[image, block, 1, c] = total[c], products[c]


@njit(nogil=True, cache=True)
def _gradient(pixels, grads, centre, scale, bias, floor, offset, slope, out, blocks, first, last):  # type: ignore[no-untyped-def]
    for item in range(first, last):
        image, _, start, stop = _place(pixels, blocks, item)
        middle, factor, shift, tilt = centre[image], scale[image], offset[image], slope[image]
        for p in range(start, stop):
            row, grad, result = pixels[image, p], grads[image, p], out[image, p]
            for c in range(len(row)):
                g, value = _widen(grad[c]), _widen(row[c]) - middle[c]
                passed = np.float32(0) if value * factor[c] + bias[c] <= floor else g
                result[c] = _narrow(factor[c] * passed + tilt[c] * value + shift[c], result[c])
