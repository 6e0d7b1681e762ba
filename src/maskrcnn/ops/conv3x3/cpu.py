"""3 x 3 convolutions with a quarter of the multiplications (Lavin and Gray 2016).

A tile of 6 x 6 inputs gives 4 x 4 outputs. Transformed, its convolution is 36 products of numbers rather than 144, and
over tiles and channels these are 36 products of matrices. The result is off by up to 1.5e-5 of its largest entry, where
a direct convolution is off by 3e-6 (512 channels, a normal distribution).

A thread takes a few tiles at a time all the way from pixels to pixels, within its cache. A library's product over all
tiles would go through memory, and start threads of its own that have to wait for each other.
"""

from collections.abc import Sequence
from typing import no_type_check

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from maskrcnn.ops.channels_last import empty_result, offset_and_floor, pixels
from maskrcnn.ops.conv3x3.panels import BLOCK as GRADIENT_BLOCK
from maskrcnn.ops.conv3x3.panels import OUTPUTS, PANEL, add_products
from maskrcnn.ops.conv3x3.winograd import (
    GROUP,
    POINTS,
    SCRATCH,
    TILE,
    WEIGHT_SCRATCH,
    gradient_to_points,
    pixels_to_points,
    points_to_pixels,
    points_to_weights,
    weights_to_points,
)
from maskrcnn.ops.threads import parallel_for
from maskrcnn.ops.vectors import COLUMNS, FLOAT, PRODUCTS_WORTH_A_THREAD, ROWS, jit, multiply

BLOCK = 48
"""Tiles that a thread takes at a time, a multiple of `ROWS`."""
CHANNELS_PER_TILE = 4
"""Channels for each tile from which on weights outweigh the tiles."""
WORTH_A_THREAD = 2**13
"""Channels of tiles whose transforms are worth a thread."""
WEIGHTS_WORTH_A_THREAD = 2**17
"""Weights whose transforms are worth a thread."""
SHIFT = 80
"""Numbers between the matrices of a block, lest all 36 rows of a tile fall into one set of the cache."""


def forward(x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
    """The result in channels-last memory."""
    return _convolved(x, weight.detach().numpy(), bias, relu)


def input_gradient(grad: Tensor, weight: Tensor) -> Tensor:
    """Gradient of the input from that of the result, in channels-last memory."""
    return _convolved(grad, weight.detach().numpy().transpose(1, 0, 2, 3)[:, :, ::-1, ::-1], None, False)


def _convolved(x: Tensor, weight: ndarray, bias: Tensor | None, relu: bool) -> Tensor:
    outputs, channels = weight.shape[:2]
    y = empty_result(x, outputs)
    offset, floor = offset_and_floor(bias, outputs, relu)
    source, target, total = pixels(x), pixels(y), num_tiles(x.shape)
    by_channel = weight.transpose(1, 0, 2, 3)  # never without gaps, so that kernels are compiled for one kind of array
    if total * CHANNELS_PER_TILE <= channels:
        _convolve_few(source, by_channel, offset, floor, target, total)
    else:
        _convolve_many(source, by_channel, offset, floor, target, total)
    return y


def _convolve_many(
    source: ndarray, weight: ndarray, offset: ndarray, floor: np.float32, target: ndarray, total: int
) -> None:
    """Compute all tiles of a result, a block at a time from pixels to pixels; weights are (C, K, 3, 3)."""
    channels, outputs = weight.shape[:2]
    num_panels = outputs // COLUMNS
    panels = _numbers(POINTS, outputs * channels + SHIFT)

    def transform_weights(first: int, stop: int) -> None:
        weights_to_points(weight, panels, 0, _gathered(), _numbers(WEIGHT_SCRATCH), first, stop)

    def convolve(first: int, stop: int) -> None:
        left, result = (_numbers(POINTS, BLOCK * c + SHIFT) for c in (channels, outputs))
        _convolve_tiles(source, panels, left, result, target, offset, floor, _numbers(SCRATCH), first, stop)

    parallel_for(transform_weights, num_panels, _parts(WEIGHTS_WORTH_A_THREAD, 9 * channels * COLUMNS))
    parallel_for(convolve, total, max(ROWS, _parts(PRODUCTS_WORTH_A_THREAD, POINTS * channels * outputs)))


def _convolve_few(
    source: ndarray, weight: ndarray, offset: ndarray, floor: np.float32, target: ndarray, total: int
) -> None:
    """Compute all tiles of a result. Weights outweigh them: transformed, they do not go through memory."""
    channels, outputs = weight.shape[:2]
    rows = -(-total // ROWS) * ROWS
    left, result = (_numbers(POINTS, rows * c + SHIFT) for c in (channels, outputs))

    def transform_tiles(first: int, stop: int) -> None:
        values = left.reshape(-1)[first * channels :]
        _to_points(source, first, stop - first, values, left.shape[1], _numbers(SCRATCH))

    def multiply_panels(first: int, stop: int) -> None:
        panel, gathered, scratch = _numbers(POINTS, channels * COLUMNS + SHIFT), _gathered(), _numbers(WEIGHT_SCRATCH)
        for number in range(first, stop):
            weights_to_points(weight, panel, number, gathered, scratch, number, number + 1)
            _multiply(left, panel, result, rows, channels, outputs, number, number, number + 1)

    def transform_back(first: int, stop: int) -> None:
        values, scratch = result.reshape(-1)[first * outputs :], _numbers(SCRATCH)
        points_to_pixels(values, result.shape[1], outputs, target, first, stop - first, offset, floor, scratch)

    parallel_for(transform_tiles, total, _parts(WORTH_A_THREAD, channels))
    parallel_for(multiply_panels, outputs // COLUMNS, _parts(WEIGHTS_WORTH_A_THREAD, 9 * channels * COLUMNS))
    parallel_for(transform_back, total, _parts(WORTH_A_THREAD, outputs))


def _to_points(source: ndarray, first: int, count: int, values: ndarray, step: int, scratch: ndarray) -> None:
    """Transform some tiles of the input, the channels of each beside each other."""
    channels = source.shape[3]
    pixels_to_points(source, first, count, values, step, channels, channels, 0, scratch)


def _parts(worth: int, each: int) -> int:
    """Items that are worth a thread together, when one does `each` of what is worth one."""
    return -(-worth // max(1, each))


def _numbers(*shape: int) -> ndarray:
    """Memory that is not filled. Kernels get all of theirs from here, so that it outlives the addresses in them."""
    return np.empty(shape, np.float32)


def _gathered() -> ndarray:
    """Memory for some weights of a panel (GROUP, COLUMNS, 3, 3), outputs beside each other."""
    return _numbers(3, 3, GROUP, COLUMNS).transpose(2, 3, 0, 1)


def weight_gradient(grad: Tensor, x: Tensor) -> Tensor:
    """Gradient of the weight (K, C, 3, 3) from that of the result and the input, in channels-last memory."""
    outputs, channels = grad.shape[1], x.shape[1]
    weight = torch.empty((outputs, channels, 3, 3), memory_format=torch.channels_last)
    left, right = (_numbers(POINTS, GRADIENT_BLOCK * c + SHIFT) for c in (outputs, channels))
    gradients, inputs, result = pixels(grad), pixels(x), pixels(weight)
    total, groups = num_tiles(x.shape), outputs // OUTPUTS
    is_one_block = total <= GRADIENT_BLOCK  # then no sums are kept from one to the next
    sums = _numbers(0 if is_one_block else groups, POINTS, OUTPUTS, channels)
    for start in range(0, total, GRADIENT_BLOCK):
        count = min(GRADIENT_BLOCK, total - start)

        def transform_tiles(first: int, stop: int, start: int = start) -> None:
            scratch = _numbers(SCRATCH)
            for transform, source, target in (
                (gradient_to_points, gradients, left),
                (pixels_to_points, inputs, right),
            ):
                values, step = target.reshape(-1)[first * COLUMNS :], target.shape[1]
                transform(source, start + first, stop - first, values, step, COLUMNS, COLUMNS, PANEL, scratch)

        def add_up(first: int, stop: int, start: int = start, count: int = count) -> None:
            scratch, own = _numbers(WEIGHT_SCRATCH), _numbers(POINTS, OUTPUTS, channels)
            for group in range(first, stop):
                held = own if is_one_block else sums[group]
                if start == 0:
                    held[:] = 0
                _add_products(left, right, count, group * OUTPUTS, held)
                if start + count == total:
                    points_to_weights(held, result[group * OUTPUTS : (group + 1) * OUTPUTS], scratch)

        parallel_for(transform_tiles, count, _parts(WORTH_A_THREAD, outputs + channels))
        parallel_for(add_up, groups, _parts(PRODUCTS_WORTH_A_THREAD, POINTS * OUTPUTS * channels * count))
    return weight


def num_tiles(shape: Sequence[int]) -> int:
    """Tiles of images (B, C, H, W)."""
    batch, _, height, width = shape
    return batch * -(-height // TILE) * -(-width // TILE)


def num_multiplications(shape: Sequence[int], outputs: int) -> int:
    """Multiplications of the products of matrices for images (B, C, H, W)."""
    return num_tiles(shape) * POINTS * shape[1] * outputs


@jit
@no_type_check
def _convolve_tiles(source, panels, left, result, target, offset, floor, scratch, first, stop):
    """Compute tiles first..stop from pixels to pixels, in blocks of nearly the same size, at most `BLOCK` tiles.

    left, result   (POINTS, numbers of a block), for the tiles of a block before and after the products
    """
    channels, outputs, number = source.shape[3], target.shape[3], -(-(stop - first) // BLOCK)
    values, sums = left.reshape(-1), result.reshape(-1)
    for block in range(number):
        start = first + (stop - first) * block // number
        count = first + (stop - first) * (block + 1) // number - start
        pixels_to_points(source, start, count, values, left.shape[1], channels, channels, 0, scratch)
        _multiply(left, panels, result, count, channels, outputs, 0, 0, outputs // COLUMNS)
        points_to_pixels(sums, result.shape[1], outputs, target, start, count, offset, floor, scratch)


@jit
@no_type_check
def _multiply(left, panels, result, count, channels, outputs, origin, first, stop):
    """Multiply tiles at each point, (POINTS, count * channels), by panels first..stop of weights.

    panels   (POINTS, channels * COLUMNS for each panel), of which `origin` lies first
    result   (POINTS, count * outputs), with room, as in `left`, for whole blocks of `ROWS` tiles
    """
    for point in range(POINTS):
        for number in range(first, stop):
            tiles = left.ctypes.data + FLOAT * point * left.shape[1]
            panel = panels.ctypes.data + FLOAT * (point * panels.shape[1] + (number - origin) * channels * COLUMNS)
            sums = result.ctypes.data + FLOAT * (point * result.shape[1] + number * COLUMNS)
            for row in range(0, count, ROWS):
                at = FLOAT * row
                multiply(tiles + at * channels, channels, panel, sums + at * outputs, outputs, channels)


@jit
@no_type_check
def _add_products(left, right, count, first, sums):
    """Add gradients times inputs of some tiles, to (POINTS, OUTPUTS, channels) of the outputs from `first` on."""
    channels = sums.shape[2]
    for point in range(POINTS):
        gradients = left.ctypes.data + FLOAT * point * left.shape[1]
        inputs = right.ctypes.data + FLOAT * point * right.shape[1]
        target = sums.ctypes.data + FLOAT * point * OUTPUTS * channels
        add_products(gradients, inputs, count, first, target, channels)
