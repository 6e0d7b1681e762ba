"""3 x 3 convolutions with a quarter of the multiplications (Lavin and Gray 2016).

A tile of 6 x 6 inputs gives 4 x 4 outputs. Transformed, its convolution is 36 products of numbers rather than 144, and
over tiles and channels these are 36 products of matrices. The result is off by up to 1.5e-5 of its largest entry, where
a direct convolution is off by 3e-6 (512 channels, a normal distribution).

A thread takes a few tiles at a time all the way from pixels to pixels, within its cache. A library's product over all
tiles would go through memory, and start threads of its own that have to wait for each other.
"""

from collections.abc import Sequence
from functools import partial
from typing import no_type_check

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from maskrcnn.ops.channels_last import empty_result, offset_and_floor, pixels
from maskrcnn.ops.conv3x3.panels import BLOCK as GRADIENT_BLOCK
from maskrcnn.ops.conv3x3.panels import OUTPUTS, PANEL, add_products
from maskrcnn.ops.conv3x3.winograd import (
    POINTS,
    TILE,
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
    panels = np.empty((POINTS, outputs * channels + SHIFT), np.float32)
    in_parts(partial(weights_to_points, weight, panels, COLUMNS), outputs // COLUMNS)
    part = max(ROWS, min(BLOCK, total // torch.get_num_threads()))
    in_parts(partial(_convolve, source, panels, offset, floor, target), total, part)
    return y


def _convolve_few(
    source: ndarray, weight: ndarray, offset: ndarray, floor: np.float32, target: ndarray, total: int
) -> None:
    """All tiles of a result. Weights outweigh them: transformed, they do not go through memory."""
    outputs, channels = weight.shape[:2]
    rows = -(-total // ROWS) * ROWS
    left, result = (np.empty(POINTS * (rows * c + SHIFT), np.float32) for c in (channels, outputs))
    in_parts(partial(_tiles_to_points, source, left), total, FEW)
    in_parts(partial(_multiply_panels, left, weight, result, rows), outputs // COLUMNS)
    in_parts(partial(_points_to_tiles, result, target, offset, floor), total, FEW)


def weight_gradient(grad: Tensor, x: Tensor) -> Tensor:
    """Of the weight (K, C, 3, 3), from the gradient of the result and the input, in channels-last memory."""
    outputs, channels = grad.shape[1], x.shape[1]
    weight = torch.empty((outputs, channels, 3, 3), memory_format=torch.channels_last)
    left, right = (np.empty(POINTS * (GRADIENT_BLOCK * c + SHIFT), np.float32) for c in (outputs, channels))
    gradients, inputs, result = pixels(grad), pixels(x), pixels(weight)
    total, groups = num_tiles(x.shape), outputs // OUTPUTS
    sums = np.empty((groups if total > GRADIENT_BLOCK else 0, POINTS, OUTPUTS, channels), np.float32)
    for first in range(0, total, GRADIENT_BLOCK):
        count = min(GRADIENT_BLOCK, total - first)
        is_first, is_last = first == 0, first + count == total
        in_parts(partial(_transform_tiles, gradients, inputs, left, right, first), count, BLOCK)
        in_parts(partial(_add_products, left, right, count, sums, result, is_first, is_last), groups)
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
def _convolve(source, panels, offset, floor, out, first, stop):
    """Tiles first..stop of a result."""
    channels, outputs = source.shape[3], out.shape[3]
    left_step, result_step = BLOCK * channels + SHIFT, BLOCK * outputs + SHIFT
    left, result = np.empty(POINTS * left_step, np.float32), np.empty(POINTS * result_step, np.float32)
    num_blocks = (stop - first + BLOCK - 1) // BLOCK
    for block in range(num_blocks):
        start = first + (stop - first) * block // num_blocks
        count = first + (stop - first) * (block + 1) // num_blocks - start
        pixels_to_points(source, start, count, left, left_step, channels, channels, 0)
        for point in range(POINTS):
            for output in range(0, outputs, COLUMNS):
                tiles = left.ctypes.data + FLOAT * point * left_step
                right = panels.ctypes.data + FLOAT * (point * panels.shape[1] + output * channels)
                sums = result.ctypes.data + FLOAT * (point * result_step + output)
                _multiply_tiles(tiles, count, channels, right, sums, outputs)
        points_to_pixels(result, result_step, outputs, out, start, count, offset, floor)


@jit
@no_type_check
def _tiles_to_points(source, points, first, stop):
    """Tiles first..stop of all, channels beside each other."""
    channels = source.shape[3]
    pixels_to_points(
        source, first, stop - first, points[first * channels :], len(points) // POINTS, channels, channels, 0
    )


@jit
@no_type_check
def _multiply_panels(left, weight, result, rows, first, stop):
    """All tiles by panels first..stop of the weights."""
    outputs, channels = weight.shape[:2]
    left_step, result_step = len(left) // POINTS, len(result) // POINTS
    panel = np.empty((POINTS, channels * COLUMNS + SHIFT), np.float32)
    for output in range(first * COLUMNS, stop * COLUMNS, COLUMNS):
        weights_to_points(weight[output : output + COLUMNS], panel, COLUMNS, 0, 1)
        for point in range(POINTS):
            tiles = left.ctypes.data + FLOAT * point * left_step
            sums = result.ctypes.data + FLOAT * (point * result_step + output)
            _multiply_tiles(tiles, rows, channels, panel[point].ctypes.data, sums, outputs)


@jit
@no_type_check
def _multiply_tiles(tiles, count, channels, panel, sums, outputs):
    """Tiles at one point, (count, channels), by one panel; all at addresses, with room for whole blocks of rows."""
    for row in range(0, count, ROWS):
        at = FLOAT * row
        multiply(tiles + at * channels, channels, panel, sums + at * outputs, outputs, channels)


@jit
@no_type_check
def _points_to_tiles(points, target, offset, floor, first, stop):
    """Tiles first..stop of the result."""
    outputs = target.shape[3]
    points_to_pixels(
        points[first * outputs :], len(points) // POINTS, outputs, target, first, stop - first, offset, floor
    )


@jit
@no_type_check
def _transform_tiles(gradients, inputs, left, right, offset, first, stop):
    """Tiles offset + first..stop of both to points, `COLUMNS` channels of all tiles beside each other."""
    left_step, right_step = len(left) // POINTS, len(right) // POINTS
    left_tiles, right_tiles = left[first * COLUMNS :], right[first * COLUMNS :]
    gradient_to_points(gradients, offset + first, stop - first, left_tiles, left_step, COLUMNS, COLUMNS, PANEL)
    pixels_to_points(inputs, offset + first, stop - first, right_tiles, right_step, COLUMNS, COLUMNS, PANEL)


@jit
@no_type_check
def _add_products(left, right, count, sums, weight, is_first, is_last, first, stop):
    """Gradients times inputs, added up over tiles, for groups first..stop of outputs; the last turn makes weights.

    What is first and last at once needs no memory for its sums but what it works on.
    """
    channels = sums.shape[3]
    left_step, right_step = len(left) // POINTS, len(right) // POINTS
    scratch = np.empty((POINTS, OUTPUTS, channels), np.float32)
    for group in range(first, stop):
        held = sums[group] if len(sums) else scratch
        if is_first:
            held[:] = 0
        for point in range(POINTS):
            gradients = left.ctypes.data + FLOAT * point * left_step
            inputs = right.ctypes.data + FLOAT * point * right_step
            add_products(gradients, inputs, count, group * OUTPUTS, held[point].ctypes.data, channels)
        if is_last:
            points_to_weights(held, weight[group * OUTPUTS : (group + 1) * OUTPUTS])
