"""`depthwise` on the processor: kernels over rows of channels-last memory, which are widened to float32 one at a time.

A thread keeps the rows that meet the weights in memory of its own, with zeros around them. So borders cost no branch,
bf16 is read once and rounded once, and the gradient of an activation costs no pass.
"""

from collections.abc import Sequence
from typing import no_type_check

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from maskrcnn.ops.bfloat16 import narrow, widen
from maskrcnn.ops.depthwise.reference import border
from maskrcnn.ops.depthwise.rows import PIXELS, add_to_result, add_to_source, add_to_weights
from maskrcnn.ops.threads import in_parts
from maskrcnn.ops.vectors import FLOAT, jit

DTYPES = (torch.float32, torch.bfloat16)
NO_BOUNDS = (np.float32(np.nan), np.float32(np.nan))
"""No number is less or more than NaN."""
WORTH_A_THREAD = 2**20
"""Multiplications that take some 50 microseconds; weights' gradients are summed over rows with as many."""


def forward(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, relu: bool, ceiling: float) -> Tensor:
    """The result in channels-last memory."""
    (batch, channels, height, width), taps = x.shape, weight.shape[2]
    y = _empty(x, [-(-side // stride) for side in (height, width)])
    offset = np.zeros(channels, np.float32) if bias is None else bias.detach().contiguous().numpy()
    geometry, reach = _geometry(x, taps, stride), _reach(y)
    start = np.broadcast_to(offset, (reach, channels)).ravel()
    given = _rows(x), _by_tap(weight), start, _bounds(relu, ceiling), _rows(y)

    def work(first: int, stop: int) -> None:
        scratch = _ring(taps, stride * (reach - 1) + taps, channels), _numbers(reach * channels)
        _forward(*given, *scratch, geometry, first, stop)

    in_parts(work, batch * y.shape[2], _rows_of_work(channels, y.shape[3], taps))
    return y


def backward(
    grad: Tensor, y: Tensor | None, x: Tensor, weight: Tensor, stride: int, ceiling: float, needs: tuple[bool, bool]
) -> tuple[Tensor, Tensor]:
    """Gradients of pixels, in channels-last memory, and of weights, from that of the result; empty if not needed.

    y   the result, where it ends in a ReLU
    """
    (batch, channels, height, width), taps = x.shape, weight.shape[2]
    x_grad, block = _empty(x, (height, width) if needs[0] else (0, 0)), _rows_of_work(channels, width, taps)
    blocks = -(-batch * height // block)
    sums = np.zeros((blocks, taps, taps, channels) if needs[1] else (0, 0, 0, 0), np.float32)
    grads = _rows(grad)
    passing = (grads if y is None else _rows(y)), _bounds(y is not None, ceiling)
    given = grads, *passing, _rows(x), _by_tap(weight), _rows(x_grad), sums
    geometry, reach = _geometry(x, taps, stride), _reach(grad)

    def work(first: int, stop: int) -> None:
        rings, seen = (_ring(taps, reach, channels), _ring(taps, pixels, channels)), _numbers(pixels * channels)
        _backward(*given, *rings, seen, geometry, block, first, stop)

    pixels = stride * (reach - 1) + taps
    in_parts(work, blocks)
    return x_grad, torch.from_numpy(sums.sum(0)).permute(2, 0, 1)[:, None].contiguous()


def _geometry(x: Tensor, taps: int, stride: int) -> tuple[int, int, int, int, int]:
    """Stride, rows of zeros above an image and numbers before a row, rows of the result and of the pixels."""
    (top, _), (left, _) = (border(side, taps, stride) for side in x.shape[2:])
    return stride, top, left * x.shape[1], -(-x.shape[2] // stride), x.shape[2]


def _empty(x: Tensor, size: Sequence[int]) -> Tensor:
    """Of another height and width, in channels-last memory."""
    return torch.empty((*x.shape[:2], *size), dtype=x.dtype, memory_format=torch.channels_last)


def _bounds(relu: bool, ceiling: float) -> tuple[np.float32, np.float32]:
    """What results are at least and at most; where they are at it, gradients stop."""
    return (np.float32(0), np.float32(ceiling)) if relu else NO_BOUNDS


def _rows(x: Tensor) -> ndarray:
    """(B * H, W * C), a view where memory is channels-last; bf16 as its bits."""
    x = x.detach().permute(0, 2, 3, 1).contiguous().flatten(2).flatten(0, 1)
    return (x.view(torch.uint16) if x.dtype == torch.bfloat16 else x).numpy()


def _by_tap(weight: Tensor) -> ndarray:
    """(C, 1, k, k) to (k, k, C)."""
    return weight.detach()[:, 0].permute(1, 2, 0).contiguous().numpy()


def _reach(y: Tensor) -> int:
    """Pixels that are computed of a row of a result."""
    return -(-y.shape[3] // PIXELS) * PIXELS


def _ring(rows: int, pixels: int, channels: int) -> tuple[ndarray, ndarray]:
    """Zeros for some rows (rows, pixels * C), and which they are: none yet."""
    return np.zeros((rows, pixels * channels), np.float32), np.full(rows, -1)


def _numbers(count: int) -> ndarray:
    return np.zeros(count, np.float32)


def _rows_of_work(channels: int, width: int, taps: int) -> int:
    return max(1, WORTH_A_THREAD // max(1, channels * width * taps**2))


@jit
@no_type_check
def _forward(source, weights, start, bounds, target, ring, sums, geometry, first, stop):
    """Rows first..stop of the results of all images."""
    (stride, top, left, height, source_height), (rows, held) = geometry, ring
    taps = len(rows)
    for number in range(first, stop):
        image, y = number // height, number % height
        for n in range(len(sums)):
            sums[n] = start[n]
        for tap in range(taps):
            row = stride * y + tap - top
            if 0 <= row < source_height:
                slot = _bring(source, image * source_height + row, left, rows, held)
                _correlate(sums, weights, tap, rows, slot, stride)
        _finish(sums, 0, bounds, target[number])


@jit
@no_type_check
def _backward(
    grads, results, bounds, source, weights, target, sums, ring, source_ring, row_sums, geometry, block, first, stop
):
    """Blocks first..stop of rows of the pixels' gradients in all images, and of sums for the weights' gradients."""
    (stride, top, left, height, source_height), (rows, held), (source_rows, source_held) = geometry, ring, source_ring
    taps = len(rows)
    for number in range(first * block, min(stop * block, len(source))):
        image, y = number // source_height, number % source_height
        if len(target):
            row_sums[:] = 0
            for tap in range(taps):
                row = (y + top - tap) // stride
                if row * stride == y + top - tap and 0 <= row < height:
                    slot = _bring_gated(grads, results, bounds, image * height + row, rows, held)
                    _spread(rows, slot, weights, tap, row_sums, stride)
            _finish(row_sums, left, NO_BOUNDS, target[number])
        if len(sums) and y % stride == 0 and y // stride < height:
            slot = _bring_gated(grads, results, bounds, image * height + y // stride, rows, held)
            for tap in range(taps):
                row = y + tap - top
                if 0 <= row < source_height:
                    other = _bring(source, image * source_height + row, left, source_rows, source_held)
                    _add_to_weights(rows, slot, sums, number // block, tap, source_rows, other, stride)


@jit
@no_type_check
def _bring(source, number, left, rows, held):
    """Have a row of pixels in a ring, with `left` numbers before it; its place there."""
    slot = number % len(rows)
    if held[slot] != number:
        held[slot] = number
        values, out = source[number], rows[slot, left:]
        for n in range(len(values)):
            out[n] = widen(values[n])
    return slot


@jit
@no_type_check
def _bring_gated(grads, results, bounds, number, rows, held):
    """As `_bring`, of gradients where the results are within bounds, and zeros elsewhere."""
    slot, (floor, ceiling) = number % len(rows), bounds
    if held[slot] != number:
        held[slot] = number
        values, passing, out = grads[number], results[number], rows[slot]
        for n in range(len(values)):
            result = widen(passing[n])
            out[n] = np.float32(0) if result <= floor or result >= ceiling else widen(values[n])
    return slot


@jit
@no_type_check
def _correlate(sums, weights, tap, source, slot, stride):
    """Add to a row of a result what a row of pixels gives through a row of weights."""
    taps, _, channels = weights.shape
    factors = weights.ctypes.data + FLOAT * tap * taps * channels
    seen = source.ctypes.data + FLOAT * slot * source.shape[1]
    add_to_result(sums.ctypes.data, factors, seen, len(sums) // channels, channels, taps, stride)


@jit
@no_type_check
def _spread(grads, slot, weights, tap, sums, stride):
    """Add to a row of the pixels' gradient what a row of the result's gives through a row of weights."""
    taps, _, channels = weights.shape
    here = grads.ctypes.data + FLOAT * slot * grads.shape[1]
    factors = weights.ctypes.data + FLOAT * tap * taps * channels
    add_to_source(here, factors, sums.ctypes.data, grads.shape[1] // channels, channels, taps, stride)


@jit
@no_type_check
def _add_to_weights(grads, slot, sums, block, tap, source, other, stride):
    """Add to a row of a block of sums (blocks, k, k, C) what rows of the result's gradient and of pixels give."""
    taps, channels = sums.shape[2:]
    here = grads.ctypes.data + FLOAT * slot * grads.shape[1]
    factors = sums.ctypes.data + FLOAT * (block * taps + tap) * taps * channels
    seen = source.ctypes.data + FLOAT * other * source.shape[1]
    add_to_weights(here, factors, seen, grads.shape[1] // channels, channels, taps, stride)


@jit
@no_type_check
def _finish(sums, left, bounds, out):
    """A row of sums from some number on, between bounds, as one of a result."""
    floor, ceiling = bounds
    values = sums[left:]
    for n in range(len(out)):
        value = values[n]
        value = floor if value < floor else value
        out[n] = narrow(ceiling if value > ceiling else value, out[n])
