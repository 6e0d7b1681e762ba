"""`depthwise` on the CPU: kernels over rows of channels-last memory.

A thread keeps the rows that meet the weights in memory of its own: in float32, between the bounds of a ReLU, with zeros
before and behind them. So borders cost no branch, bf16 is read once and rounded once, and neither a ReLU nor its
gradient costs a pass. Both gradients come from one reading of what they are made of.
"""

from typing import no_type_check

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from maskrcnn.ops.bfloat16 import narrow, widen
from maskrcnn.ops.channels_last import empty_result
from maskrcnn.ops.depthwise.reference import border
from maskrcnn.ops.depthwise.rows import PIXELS, add_to_result, add_to_source, add_to_weights
from maskrcnn.ops.threads import parallel_for
from maskrcnn.ops.vectors import FLOAT, jit

DTYPES = (torch.float32, torch.bfloat16)
Bounds = tuple[np.float32, np.float32]
"""What numbers are at least and at most; where they are at it, gradients stop."""
NO_BOUNDS = (np.float32(np.nan), np.float32(np.nan))
"""No number is less or more than NaN."""
WORTH_A_THREAD = 2**20
"""Multiplications that take about a tenth of a millisecond."""


def bounds(is_there: bool, ceiling: float) -> Bounds:
    """Bounds (lower, upper) of a ReLU that lets pass at most `ceiling`; NaN where there is none."""
    return (np.float32(0), np.float32(ceiling)) if is_there else NO_BOUNDS


def forward(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, before: Bounds, after: Bounds) -> Tensor:
    """The result in channels-last memory.

    before, after   bounds of pixels and of results
    """
    y, taps, channels = empty_result(x, len(weight), stride), weight.shape[2], len(weight)
    offset = np.zeros(channels, np.float32) if bias is None else bias.detach().contiguous().numpy()
    pixels, seen = _lengths(y, taps, stride)
    start = np.broadcast_to(offset, (pixels, channels)).ravel()
    given = (_rows(x), before), _by_tap(weight), start, _rows(y), after
    geometry = _geometry(x, taps, stride)

    def work(first: int, stop: int) -> None:
        _forward(*given, _ring(taps, seen * channels), _zeros(pixels * channels), geometry, first, stop)

    parallel_for(work, len(y) * y.shape[2], _rows_of_work(y, taps))
    return y


def backward(
    grad: Tensor,
    y: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: int,
    before: Bounds,
    after: Bounds,
    needs: tuple[bool, bool],
) -> tuple[Tensor, Tensor]:
    """Gradients of pixels, in channels-last memory, and of weights, from that of the result y; empty if not needed.

    Weights' gradients are summed over blocks of rows first, which do not depend on the number of threads.
    """
    x_grad, taps, channels = empty_result(x if needs[0] else x[..., :0, :0], len(weight)), weight.shape[2], len(weight)
    rows, block = len(x) * x.shape[2], _rows_of_work(x, taps)
    sums = _zeros(-(-rows // block) if needs[1] else 0, taps, taps, channels)
    given = (_rows(grad), _rows(y), after), (_rows(x), before), _by_tap(weight), _rows(x_grad), sums
    geometry, (pixels, seen) = _geometry(x, taps, stride), _lengths(grad, taps, stride)

    def work(first: int, stop: int) -> None:
        rings = _ring(taps, pixels * channels), _ring(taps, seen * channels)
        _backward(*given, *rings, _zeros(seen * channels), geometry, block, first, stop)

    parallel_for(work, -(-rows // block))
    return x_grad, torch.from_numpy(sums.sum(0)).permute(2, 0, 1)[:, None].contiguous()


def _geometry(x: Tensor, taps: int, stride: int) -> tuple[int, int, int, int, int]:
    """Stride, rows of zeros above an image and numbers before a row, rows of the result and of the pixels."""
    (top, _), (left, _) = (border(side, taps, stride) for side in x.shape[2:])
    return stride, top, left * x.shape[1], -(-x.shape[2] // stride), x.shape[2]


def _rows(x: Tensor) -> ndarray:
    """(B * H, W * C), a view where memory is channels-last; bf16 as its bits."""
    x = x.detach().permute(0, 2, 3, 1).contiguous().flatten(2).flatten(0, 1)
    return (x.view(torch.uint16) if x.dtype == torch.bfloat16 else x).numpy()


def _by_tap(weight: Tensor) -> ndarray:
    """(C, 1, k, k) to (k, k, C)."""
    return weight.detach()[:, 0].permute(1, 2, 0).contiguous().numpy()


def _lengths(y: Tensor, taps: int, stride: int) -> tuple[int, int]:
    """Pixels that are computed of a row of a result, and pixels that they see."""
    pixels = -(-y.shape[3] // PIXELS) * PIXELS
    return pixels, stride * (pixels - 1) + taps


def _ring(rows: int, length: int) -> tuple[ndarray, ndarray]:
    """Zeros for some rows, and which they are: none yet."""
    return _zeros(rows, length), np.full(rows, -1)


def _zeros(*shape: int) -> ndarray:
    """Memory for kernels, which get all of theirs from here, so that it outlives the addresses in them."""
    numbers = np.empty(shape, np.float32)
    numbers[:] = 0
    return numbers


def _rows_of_work(y: Tensor, taps: int) -> int:
    """Rows that are worth a thread."""
    return max(1, WORTH_A_THREAD // max(1, y.shape[1] * y.shape[3] * taps**2))


@jit
@no_type_check
def _forward(source, weights, start, target, after, ring, sums, geometry, first, stop):
    """Rows first..stop of the results of all images."""
    stride, top, left, height, source_height = geometry
    for number in range(first, stop):
        image, y = number // height, number % height
        for n in range(len(sums)):
            sums[n] = start[n]
        for tap in range(len(weights)):
            row = stride * y + tap - top
            if 0 <= row < source_height:
                slot = _bring(source, image * source_height + row, left, ring)
                _correlate(sums, weights, tap, ring[0], slot, stride)
        _finish(sums, after, target[number])


@jit
@no_type_check
def _backward(result, source, weights, target, sums, ring, source_ring, row_sums, geometry, block, first, stop):
    """Blocks first..stop of rows of the pixels' gradients in all images, and of sums for the weights' gradients."""
    stride, top, left, height, source_height = geometry
    pixels, before = source
    for number in range(first * block, min(stop * block, len(pixels))):
        image, y = number // source_height, number % source_height
        if len(target):
            row_sums[:] = 0
            for tap in range(len(weights)):
                row = (y + top - tap) // stride
                if row * stride == y + top - tap and 0 <= row < height:
                    slot = _bring_gated(result, image * height + row, ring)
                    _spread(ring[0], slot, weights, tap, row_sums, stride)
            _finish_gated(row_sums, left, pixels[number], before, target[number])
        if len(sums) and y % stride == 0:
            slot = _bring_gated(result, image * height + y // stride, ring)
            for tap in range(len(weights)):
                row = y + tap - top
                if 0 <= row < source_height:
                    other = _bring(source, image * source_height + row, left, source_ring)
                    _add_to_weights(ring[0], slot, sums, number // block, tap, source_ring[0], other, stride)


@jit
@no_type_check
def _bring(source, number, left, ring):
    """Have a row of pixels in a ring, between bounds, with `left` numbers before it; its place there."""
    (pixels, bounds), (rows, held) = source, ring
    slot = number % len(rows)
    if held[slot] != number:
        held[slot] = number
        values, out = pixels[number], rows[slot, left:]
        for n in range(len(values)):
            out[n] = _between(widen(values[n]), bounds)
    return slot


@jit
@no_type_check
def _bring_gated(result, number, ring):
    """Bring the result's gradients as `_bring` does, with zeros where the result is out of bounds."""
    (grads, results, bounds), (rows, held) = result, ring
    slot = number % len(rows)
    if held[slot] != number:
        held[slot] = number
        values, passing, out = grads[number], results[number], rows[slot]
        for n in range(len(values)):
            out[n] = _gated(widen(values[n]), widen(passing[n]), bounds)
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
def _finish(sums, bounds, out):
    """A row of sums, between bounds, as one of the result."""
    for n in range(len(out)):
        out[n] = narrow(_between(sums[n], bounds), out[n])


@jit
@no_type_check
def _finish_gated(sums, left, pixels, bounds, out):
    """A row of sums from some number on as a gradient of pixels, where those are within bounds."""
    values = sums[left:]
    for n in range(len(out)):
        out[n] = narrow(_gated(values[n], widen(pixels[n]), bounds), out[n])


@jit
@no_type_check
def _between(value, bounds):
    """NaN stays so."""
    floor, ceiling = bounds
    value = floor if value < floor else value
    return ceiling if value > ceiling else value


@jit
@no_type_check
def _gated(grad, value, bounds):
    """The gradient that passes where a value was between bounds."""
    floor, ceiling = bounds
    return np.float32(0) if value <= floor or value >= ceiling else grad
