"""`depthwise` on the processor: kernels over rows of channels-last memory, which are widened to float32 one at a time.

A thread keeps the rows of pixels under one row of weights, with zeros at their ends, in memory of its own. So borders
cost no branch, bf16 is read once and rounded once, and the gradient of an activation costs no pass.
"""

from collections.abc import Callable, Sequence
from typing import no_type_check

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from maskrcnn.ops.bfloat16 import narrow, widen
from maskrcnn.ops.depthwise.reference import border
from maskrcnn.ops.depthwise.rows import PIXELS, RESULT, SOURCE, WEIGHTS, add_row
from maskrcnn.ops.threads import in_parts
from maskrcnn.ops.vectors import FLOAT, jit

DTYPES = (torch.float32, torch.bfloat16)
NO_BOUNDS = (np.float32(np.nan), np.float32(np.nan))
"""No number is less or more than NaN."""
WORTH_A_THREAD = 2**20
"""Multiplications that take some 50 microseconds. Weights' gradients of as many are summed before they meet others."""


def bounds(relu: bool, ceiling: float) -> tuple[np.float32, np.float32]:
    """What results are at least and at most; where they are at it, gradients stop."""
    return (np.float32(0), np.float32(ceiling)) if relu else NO_BOUNDS


def forward(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, relu: bool, ceiling: float) -> Tensor:
    """The result in channels-last memory."""
    taps, size = weight.shape[2], [-(-side // stride) for side in x.shape[2:]]
    y, geometry = _empty(x, size), _geometry(x.shape, taps, stride)
    offset = np.zeros(len(weight), np.float32) if bias is None else bias.detach().contiguous().numpy()
    given = _rows(x), _by_tap(weight), offset, bounds(relu, ceiling), _rows(y)

    def work(first: int, stop: int) -> None:
        scratch = _source_rows(y.shape, taps, stride), _none(taps), _result_rows(y.shape, 1)[0]
        _forward(*given, *scratch, geometry, first, stop)

    in_parts(work, len(y) * size[0], _rows_worth_a_thread(y.shape, taps))
    return y


def input_gradient(
    grad: Tensor, y: Tensor | None, weight: Tensor, size: Sequence[int], stride: int, ceiling: float
) -> Tensor:
    """Of pixels of some height and width, in channels-last memory, from the gradient of the result.

    y   the result, where it ends in a ReLU
    """
    taps, x_grad = weight.shape[2], _empty(grad, size)
    geometry = _geometry(x_grad.shape, taps, stride)
    given = *_gated(grad, y, ceiling), _by_tap(weight), _rows(x_grad)

    def work(first: int, stop: int) -> None:
        scratch = _result_rows(grad.shape, taps), _none(taps), _source_rows(grad.shape, taps, stride)[0]
        _input_gradient(*given, *scratch, geometry, first, stop)

    in_parts(work, len(grad) * size[0], _rows_worth_a_thread(x_grad.shape, taps))
    return x_grad


def weight_gradient(grad: Tensor, y: Tensor | None, x: Tensor, taps: int, stride: int, ceiling: float) -> Tensor:
    """Of weights (C, 1, taps, taps), from the gradient of the result, the result if it ends in a ReLU, and the pixels."""
    geometry = _geometry(x.shape, taps, stride)
    rows, block = len(grad) * grad.shape[2], _rows_worth_a_thread(grad.shape, taps)
    sums = np.empty((-(-rows // block), taps, taps, x.shape[1]), np.float32)
    given = *_gated(grad, y, ceiling), _rows(x), sums, block

    def work(first: int, stop: int) -> None:
        scratch = _source_rows(grad.shape, taps, stride), _none(taps), _result_rows(grad.shape, 1), _none(1)
        _weight_gradient(*given, *scratch, geometry, first, stop)

    in_parts(work, len(sums))
    return torch.from_numpy(sums.sum(0)).permute(2, 0, 1)[:, None].contiguous()


def _geometry(shape: Sequence[int], taps: int, stride: int) -> tuple[int, int, int, int, int]:
    """Stride, zeros above and left of the pixels (B, C, H, W), and rows of the result and of the pixels."""
    (top, _), (left, _) = (border(side, taps, stride) for side in shape[2:])
    return stride, top, left * shape[1], -(-shape[2] // stride), shape[2]


def _empty(x: Tensor, size: Sequence[int]) -> Tensor:
    return torch.empty((*x.shape[:2], *size), dtype=x.dtype, memory_format=torch.channels_last)


def _rows(x: Tensor) -> ndarray:
    """(B * H, W * C), a view where memory is channels-last; bf16 as its bits."""
    x = x.detach().permute(0, 2, 3, 1).contiguous().flatten(2).flatten(0, 1)
    return (x.view(torch.uint16) if x.dtype == torch.bfloat16 else x).numpy()


def _by_tap(weight: Tensor) -> ndarray:
    """(C, 1, k, k) to (k, k, C)."""
    return weight.detach()[:, 0].permute(1, 2, 0).contiguous().numpy()


def _gated(grad: Tensor, y: Tensor | None, ceiling: float) -> tuple[ndarray, ndarray, tuple[np.float32, np.float32]]:
    """Gradients, and the results that let them pass within bounds."""
    grads = _rows(grad)
    return grads, grads if y is None else _rows(y), bounds(y is not None, ceiling)


def _source_rows(shape: Sequence[int], taps: int, stride: int) -> ndarray:
    """Zeros for what a row of a result (B, C, h, w) sees: (taps, pixels * C)."""
    return np.zeros((taps, (stride * (_reach(shape) - 1) + taps) * shape[1]), np.float32)


def _result_rows(shape: Sequence[int], rows: int) -> ndarray:
    """Zeros for rows of a result: (rows, pixels * C)."""
    return np.zeros((rows, _reach(shape) * shape[1]), np.float32)


def _reach(shape: Sequence[int]) -> int:
    return -(-shape[3] // PIXELS) * PIXELS


def _none(rows: int) -> ndarray:
    """Numbers of the rows that scratch memory holds."""
    return np.full(rows, -1)


def _rows_worth_a_thread(shape: Sequence[int], taps: int) -> int:
    return max(1, WORTH_A_THREAD // max(1, shape[1] * shape[3] * taps**2))


@jit
@no_type_check
def _forward(source, weights, offset, bounds, target, rows, held, sums, geometry, first, stop):
    """Rows first..stop of the results of all images."""
    taps, _, channels = weights.shape
    stride, top, left, height, source_height = geometry
    pixels = len(sums) // channels
    for number in range(first, stop):
        image, y = number // height, number % height
        for pixel in range(pixels):
            for channel in range(channels):
                sums[pixel * channels + channel] = offset[channel]
        for tap in range(taps):
            row = stride * y + tap - top
            if 0 <= row < source_height:
                seen = rows.ctypes.data + FLOAT * _bring(source, image * source_height + row, left, rows, held)
                factors = weights.ctypes.data + FLOAT * tap * taps * channels
                add_row(RESULT, sums.ctypes.data, factors, seen, pixels, channels, taps, stride)
        _finish(sums, 0, bounds, target[number])


@jit
@no_type_check
def _input_gradient(grads, results, bounds, weights, target, rows, held, sums, geometry, first, stop):
    """Rows first..stop of the gradients of all images."""
    taps, _, channels = weights.shape
    stride, top, left, height, source_height = geometry
    pixels = rows.shape[1] // channels
    for number in range(first, stop):
        image, y = number // source_height, number % source_height
        sums[:] = 0
        for tap in range(taps):
            row = (y + top - tap) // stride
            if row * stride == y + top - tap and 0 <= row < height:
                here = rows.ctypes.data + FLOAT * _bring_gated(grads, results, bounds, image * height + row, rows, held)
                factors = weights.ctypes.data + FLOAT * tap * taps * channels
                add_row(SOURCE, here, factors, sums.ctypes.data, pixels, channels, taps, stride)
        _finish(sums, left, NO_BOUNDS, target[number])


@jit
@no_type_check
def _weight_gradient(
    grads, results, bounds, source, sums, block, rows, held, row_of_grads, held_grad, geometry, first, stop
):
    """Sums of blocks first..stop of `block` rows of gradients."""
    taps, channels = sums.shape[2:]
    stride, top, left, height, source_height = geometry
    pixels = row_of_grads.shape[1] // channels
    for number in range(first * block, min(stop * block, len(grads))):
        image, y, place = number // height, number % height, number // block
        if number % block == 0:
            sums[place] = 0
        here = row_of_grads.ctypes.data + _bring_gated(grads, results, bounds, number, row_of_grads, held_grad)
        for tap in range(taps):
            row = stride * y + tap - top
            if 0 <= row < source_height:
                seen = rows.ctypes.data + FLOAT * _bring(source, image * source_height + row, left, rows, held)
                factors = sums.ctypes.data + FLOAT * (place * taps + tap) * taps * channels
                add_row(WEIGHTS, here, factors, seen, pixels, channels, taps, stride)


@jit
@no_type_check
def _bring(source, number, left, rows, held):
    """Have a row of pixels in scratch memory; where there, as an offset."""
    slot = number % len(rows)
    if held[slot] != number:
        held[slot] = number
        values, out = source[number], rows[slot, left:]
        for n in range(len(values)):
            out[n] = widen(values[n])
    return slot * rows.shape[1]


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
    return slot * rows.shape[1]


@jit
@no_type_check
def _finish(sums, left, bounds, out):
    """Sums from some number on, between bounds, as a row of a result."""
    floor, ceiling = bounds
    values = sums[left:]
    for n in range(len(out)):
        value = values[n]
        value = floor if value < floor else value
        out[n] = narrow(ceiling if value > ceiling else value, out[n])
