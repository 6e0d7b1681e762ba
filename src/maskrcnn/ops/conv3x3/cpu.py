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
from maskrcnn.ops.threads import in_parts
from maskrcnn.ops.vectors import COLUMNS, FLOAT, ROWS, jit, multiply

BLOCK = 48
"""Tiles that a thread takes at a time, a multiple of `ROWS`."""
FEW, CHANNELS_PER_TILE = 4, 4
"""Tiles that are worth a thread of their own, and channels for each tile from which on weights outweigh the tiles."""
SHIFT = 80
"""Numbers between the matrices of a block, lest all 36 rows of a tile fall into one set of the cache."""


def forward(x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
    """The result in channels-last memory."""
    return _convolved(x, weight.detach().numpy(), bias, relu)


def input_gradient(grad: Tensor, weight: Tensor) -> Tensor:
    """Of the input, from the gradient of the result, in channels-last memory."""
    return _convolved(grad, weight.detach().numpy().transpose(1, 0, 2, 3)[:, :, ::-1, ::-1], None, False)


def _convolved(x: Tensor, weight: ndarray, bias: Tensor | None, relu: bool) -> Tensor:
    outputs, channels = weight.shape[:2]
    y = empty_result(x, outputs)
    offset, floor = offset_and_floor(bias, outputs, relu)
    source, target, total = pixels(x), pixels(y), num_tiles(x.shape)
    if total * CHANNELS_PER_TILE <= channels:
        _convolve_few(source, weight, offset, floor, target, total)
        return y
    panels, weight = _numbers(POINTS, outputs * channels + SHIFT), _by_channel(weight)

    def transform_weights(first: int, stop: int) -> None:
        weights_to_points(weight, panels, 0, _gathered(), _numbers(WEIGHT_SCRATCH), first, stop)

    def convolve(first: int, stop: int) -> None:
        left, result = (_numbers(POINTS, BLOCK * c + SHIFT) for c in (channels, outputs))
        _convolve(source, panels, offset, floor, target, left, result, _numbers(SCRATCH), first, stop)

    in_parts(transform_weights, outputs // COLUMNS)
    in_parts(convolve, total, max(ROWS, min(BLOCK, total // torch.get_num_threads())))
    return y


def _numbers(*shape: int) -> ndarray:
    """Memory that is not filled. Kernels get all of theirs from here, so that it outlives the addresses in them."""
    return np.empty(shape, np.float32)


def _by_channel(weight: ndarray) -> ndarray:
    """(K, C, 3, 3) as (C, K, 3, 3): never without gaps, so that kernels are compiled for one kind of array."""
    return weight.transpose(1, 0, 2, 3)


def _gathered() -> ndarray:
    """Memory for some weights of a panel (GROUP, COLUMNS, 3, 3), outputs beside each other."""
    return _numbers(3, 3, GROUP, COLUMNS).transpose(2, 3, 0, 1)


def _convolve_few(
    source: ndarray, weight: ndarray, offset: ndarray, floor: np.float32, target: ndarray, total: int
) -> None:
    """All tiles of a result. Weights outweigh them: transformed, they do not go through memory."""
    outputs, channels = weight.shape[:2]
    rows = -(-total // ROWS) * ROWS
    left, result = (_numbers(POINTS * (rows * c + SHIFT)) for c in (channels, outputs))
    weight = _by_channel(weight)

    def transform_tiles(first: int, stop: int) -> None:
        _tiles_to_points(source, left, _numbers(SCRATCH), first, stop)

    def multiply_panels(first: int, stop: int) -> None:
        panel = _numbers(POINTS, channels * COLUMNS + SHIFT)
        _multiply_panels(left, weight, result, rows, panel, _gathered(), _numbers(WEIGHT_SCRATCH), first, stop)

    def transform_back(first: int, stop: int) -> None:
        _points_to_tiles(result, target, offset, floor, _numbers(SCRATCH), first, stop)

    in_parts(transform_tiles, total, FEW)
    in_parts(multiply_panels, outputs // COLUMNS)
    in_parts(transform_back, total, FEW)


def weight_gradient(grad: Tensor, x: Tensor) -> Tensor:
    """Of the weight (K, C, 3, 3), from the gradient of the result and the input, in channels-last memory."""
    outputs, channels = grad.shape[1], x.shape[1]
    weight = torch.empty((outputs, channels, 3, 3), memory_format=torch.channels_last)
    left, right = (_numbers(POINTS * (GRADIENT_BLOCK * c + SHIFT)) for c in (outputs, channels))
    gradients, inputs, result = pixels(grad), pixels(x), pixels(weight)
    total, groups = num_tiles(x.shape), outputs // OUTPUTS
    is_one_block = total <= GRADIENT_BLOCK
    sums = _numbers(0 if is_one_block else groups, POINTS, OUTPUTS, channels)
    for start in range(0, total, GRADIENT_BLOCK):
        count = min(GRADIENT_BLOCK, total - start)

        def transform_tiles(first: int, stop: int, start: int = start) -> None:
            _transform_tiles(gradients, inputs, left, right, start, _numbers(SCRATCH), first, stop)

        def add_up(first: int, stop: int, start: int = start, count: int = count) -> None:
            own = _numbers(POINTS, OUTPUTS if is_one_block else 0, channels)
            is_first, is_last = start == 0, start + count == total
            scratch = _numbers(WEIGHT_SCRATCH)
            _add_products(left, right, count, sums, result, is_first, is_last, own, scratch, first, stop)

        in_parts(transform_tiles, count, BLOCK)
        in_parts(add_up, groups)
    return weight


def num_tiles(shape: Sequence[int]) -> int:
    """Of pictures (B, C, H, W)."""
    batch, _, height, width = shape
    return batch * -(-height // TILE) * -(-width // TILE)


def num_multiplications(shape: Sequence[int], outputs: int) -> int:
    """Of the products of matrices for pictures (B, C, H, W)."""
    return num_tiles(shape) * POINTS * shape[1] * outputs


@jit
@no_type_check
def _convolve(source, panels, offset, floor, out, left, result, scratch, first, stop):
    """Compute tiles first..stop of a result.

    left, result   (POINTS, at least BLOCK * channels)
    """
    channels, outputs = source.shape[3], out.shape[3]
    left_step, result_step = left.shape[1], result.shape[1]
    left_values, result_values = left.reshape(-1), result.reshape(-1)
    num_blocks = (stop - first + BLOCK - 1) // BLOCK
    for block in range(num_blocks):
        start = first + (stop - first) * block // num_blocks
        count = first + (stop - first) * (block + 1) // num_blocks - start
        pixels_to_points(source, start, count, left_values, left_step, channels, channels, 0, scratch)
        for point in range(POINTS):
            for output in range(0, outputs, COLUMNS):
                tiles = left.ctypes.data + FLOAT * point * left_step
                right = panels.ctypes.data + FLOAT * (point * panels.shape[1] + output * channels)
                sums = result.ctypes.data + FLOAT * (point * result_step + output)
                _multiply_tiles(tiles, count, channels, right, sums, outputs)
        points_to_pixels(result_values, result_step, outputs, out, start, count, offset, floor, scratch)


@jit
@no_type_check
def _tiles_to_points(source, points, scratch, first, stop):
    """Transform tiles first..stop of all, channels beside each other."""
    channels, step = source.shape[3], len(points) // POINTS
    pixels_to_points(source, first, stop - first, points[first * channels :], step, channels, channels, 0, scratch)


@jit
@no_type_check
def _multiply_panels(left, weight, result, rows, panel, gathered, scratch, first, stop):
    """Multiply all tiles by panels first..stop of the weights.

    panel   (POINTS, at least channels * COLUMNS)
    """
    channels, outputs = weight.shape[:2]
    left_step, result_step = len(left) // POINTS, len(result) // POINTS
    for number in range(first, stop):
        weights_to_points(weight, panel, number, gathered, scratch, number, number + 1)
        for point in range(POINTS):
            tiles = left.ctypes.data + FLOAT * point * left_step
            right = panel.ctypes.data + FLOAT * point * panel.shape[1]
            sums = result.ctypes.data + FLOAT * (point * result_step + number * COLUMNS)
            _multiply_tiles(tiles, rows, channels, right, sums, outputs)


@jit
@no_type_check
def _multiply_tiles(tiles, count, channels, panel, sums, outputs):
    """Multiply tiles at one point, (count, channels), by one panel; all are addresses, with room for whole blocks."""
    for row in range(0, count, ROWS):
        at = FLOAT * row
        multiply(tiles + at * channels, channels, panel, sums + at * outputs, outputs, channels)


@jit
@no_type_check
def _points_to_tiles(points, target, offset, floor, scratch, first, stop):
    """Transform tiles first..stop of the result back."""
    outputs, step = target.shape[3], len(points) // POINTS
    points_to_pixels(points[first * outputs :], step, outputs, target, first, stop - first, offset, floor, scratch)


@jit
@no_type_check
def _transform_tiles(gradients, inputs, left, right, start, scratch, first, stop):
    """Transform tiles start + first..stop of both, `COLUMNS` channels of all tiles beside each other."""
    left_step, right_step, count = len(left) // POINTS, len(right) // POINTS, stop - first
    left_tiles, right_tiles = left[first * COLUMNS :], right[first * COLUMNS :]
    gradient_to_points(gradients, start + first, count, left_tiles, left_step, COLUMNS, COLUMNS, PANEL, scratch)
    pixels_to_points(inputs, start + first, count, right_tiles, right_step, COLUMNS, COLUMNS, PANEL, scratch)


@jit
@no_type_check
def _add_products(left, right, count, sums, weight, is_first, is_last, own, scratch, first, stop):
    """Add up gradients times inputs over tiles, for groups first..stop of outputs; the last turn makes weights.

    sums   (groups, POINTS, OUTPUTS, channels), or none where one block holds all tiles: then `own` is room for a group
    """
    for group in range(first, stop):
        held = sums[group] if len(sums) else own
        _add_group(left, right, count, group * OUTPUTS, held, is_first)
        if is_last:
            points_to_weights(held, weight[group * OUTPUTS : (group + 1) * OUTPUTS], scratch)


@jit
@no_type_check
def _add_group(left, right, count, first, sums, is_first):
    """Add up products for `OUTPUTS` outputs from `first` on, (POINTS, OUTPUTS, channels)."""
    channels = sums.shape[2]
    left_step, right_step = len(left) // POINTS, len(right) // POINTS
    if is_first:
        sums[:] = 0
    for point in range(POINTS):
        gradients = left.ctypes.data + FLOAT * point * left_step
        inputs = right.ctypes.data + FLOAT * point * right_step
        add_products(gradients, inputs, count, first, sums[point].ctypes.data, channels)
