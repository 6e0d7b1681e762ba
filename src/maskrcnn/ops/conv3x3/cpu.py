"""3 x 3 convolutions with a quarter of the multiplications (Lavin and Gray 2016).

A tile of 6 x 6 inputs gives 4 x 4 outputs. Transformed, its convolution is 36 products of numbers rather than 144, and
over tiles and channels these are 36 products of matrices. The result is off by some 5e-6 of its largest entry, where a
direct convolution is off by 1e-6.

A thread takes a few tiles at a time all the way from pixels to pixels, within its cache. A library's product over all
tiles would go through memory, and start threads of its own that have to wait for each other.
"""

from collections.abc import Sequence
from typing import no_type_check

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from maskrcnn.ops.channels_last import empty_result, pixels
from maskrcnn.ops.conv3x3.winograd import (
    FLOAT,
    POINTS,
    TILE,
    gradient_to_points,
    jit,
    pixels_to_points,
    points_to_pixels,
    points_to_weights,
    weights_to_points,
)
from maskrcnn.ops.threads import in_parts
from maskrcnn.ops.vectors import COLUMNS, ROWS, multiply, multiply_add

BLOCK = 48
"""Tiles that a thread takes at a time, a multiple of `ROWS`."""
GRADIENT_BLOCK = 256
"""Tiles that threads share at a time for the gradient of the weights."""
SHIFT = 80
"""Numbers between the matrices of a block, lest all 36 rows of a tile fall into one set of the cache."""
CHANNELS = 32
"""Whose weights are worth a thread."""


def forward(x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
    """The result in channels-last memory."""
    y = empty_result(x, len(weight))
    panels = _panels(weight)
    offset = np.zeros(len(weight), np.float32) if bias is None else bias.detach().contiguous().numpy()
    floor = np.float32(0 if relu else -np.inf)
    source, target = pixels(x), pixels(y)
    in_parts(lambda a, b: _convolve(source, panels, offset, floor, target, a, b), num_tiles(x.shape), BLOCK)
    return y


def weight_gradient(grad: Tensor, x: Tensor) -> Tensor:
    """Of the weight (K, C, 3, 3), from the gradient of the result and the input."""
    inputs, outputs = pixels(x), pixels(grad)
    channels, num_outputs = x.shape[1], grad.shape[1]
    points = np.zeros((POINTS, channels, num_outputs), np.float32)
    left, right = (np.empty(POINTS * (GRADIENT_BLOCK * c + SHIFT), np.float32) for c in (channels, num_outputs))
    total = num_tiles(x.shape)
    for first in range(0, total, GRADIENT_BLOCK):
        count = min(GRADIENT_BLOCK, total - first)
        _add_block(inputs, outputs, first, count, left, right, points)
    weight = np.empty((3, 3, channels, num_outputs), np.float32)
    in_parts(lambda a, b: points_to_weights(points, weight, a, b), channels, CHANNELS)
    return torch.from_numpy(weight).permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)


def num_tiles(shape: Sequence[int]) -> int:
    """Of pictures (B, C, H, W)."""
    batch, _, height, width = shape
    return batch * -(-height // TILE) * -(-width // TILE)


def num_multiplications(shape: Sequence[int], outputs: int) -> int:
    """Of the products of matrices for pictures (B, C, H, W)."""
    return num_tiles(shape) * POINTS * shape[1] * outputs


def _panels(weight: Tensor) -> ndarray:
    """(K, C, 3, 3) to points (36, K / COLUMNS, C, COLUMNS)."""
    outputs, channels = weight.shape[:2]
    arranged = weight.detach().permute(2, 3, 1, 0).contiguous().numpy()
    panels = np.empty((POINTS, outputs // COLUMNS, channels, COLUMNS), np.float32)
    in_parts(lambda a, b: weights_to_points(arranged, panels, a, b), channels, CHANNELS)
    return panels


def _add_block(
    inputs: ndarray, outputs: ndarray, first: int, count: int, left: ndarray, right: ndarray, points: ndarray
) -> None:
    """Add what some tiles say about the weights: first threads share tiles, then points."""

    def transform(a: int, b: int) -> None:
        pixels_to_points(inputs, first + a, b - a, *_in_panels(left, inputs.shape[3], a))
        gradient_to_points(outputs, first + a, b - a, *_in_panels(right, outputs.shape[3], a))

    in_parts(transform, count, BLOCK)
    in_parts(lambda a, b: _add_products(left, right, count, points, a, b), POINTS)


def _in_panels(values: ndarray, channels: int, tile: int) -> tuple[ndarray, int, int, int, int]:
    """Where the points of tile `tile` and those after it go."""
    step = GRADIENT_BLOCK * channels + SHIFT
    return values[tile * COLUMNS :], step, COLUMNS, COLUMNS, GRADIENT_BLOCK * COLUMNS


@jit
@no_type_check
def _convolve(source, panels, offset, floor, out, first, stop):
    """Tiles first..stop of a result."""
    channels, outputs = source.shape[3], out.shape[3]
    left_step, result_step = BLOCK * channels + SHIFT, BLOCK * outputs + SHIFT
    left, result = np.empty(POINTS * left_step, np.float32), np.empty(POINTS * result_step, np.float32)
    for start in range(first, stop, BLOCK):
        count = min(BLOCK, stop - start)
        pixels_to_points(source, start, count, left, left_step, channels, channels, 0)
        for point in range(POINTS):
            for output in range(0, outputs, COLUMNS):
                right = panels.ctypes.data + FLOAT * (point * outputs + output) * channels
                for row in range(0, count, ROWS):
                    rows = left.ctypes.data + FLOAT * (point * left_step + row * channels)
                    block = result.ctypes.data + FLOAT * (point * result_step + row * outputs + output)
                    multiply(rows, channels, 1, right, COLUMNS, block, outputs, channels)
        points_to_pixels(result, result_step, outputs, out, start, count, offset, floor)


@jit
@no_type_check
def _add_products(left, right, count, points, first, stop):
    """Inputs times gradients, added up over tiles, for points first..stop."""
    channels, outputs = points.shape[1:]
    for point in range(first, stop):
        left_at = left.ctypes.data + FLOAT * point * (GRADIENT_BLOCK * channels + SHIFT)
        right_at = right.ctypes.data + FLOAT * point * (GRADIENT_BLOCK * outputs + SHIFT)
        for output in range(0, outputs, COLUMNS):
            panel = right_at + FLOAT * output * GRADIENT_BLOCK
            for channel in range(0, channels, ROWS):
                in_panel = channel % COLUMNS
                rows = left_at + FLOAT * ((channel - in_panel) * GRADIENT_BLOCK + in_panel)
                block = points.ctypes.data + FLOAT * ((point * channels + channel) * outputs + output)
                multiply_add(rows, 1, COLUMNS, panel, COLUMNS, block, outputs, count)
