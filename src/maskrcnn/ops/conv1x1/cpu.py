"""1 x 1 convolutions as products of matrices that end in what follows them.

In channels-last memory an image is a matrix of pixels and channels. Torch's library writes the bias everywhere, adds
the product, then reads all of it again for the residual, and again for the ReLU; for a network's first stages these
passes take as long as the product. Channels that do not come in whole panels, and few pixels, are left to a library's
product of matrices, which torch's convolution would reach by way of copies in another order.
"""

from typing import no_type_check

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from maskrcnn.ops.channels_last import empty_result, has_whole_vectors, offset_and_floor, pixels
from maskrcnn.ops.threads import parallel_for
from maskrcnn.ops.vectors import COLUMNS, FLOAT, PRODUCTS_WORTH_A_THREAD, ROWS, jit, multiply_finish

LEAST = 8
"""Channels come in multiples of it."""
MIN_PIXELS = 256
"""Pixels that repay arranging the weights in panels."""
BLOCK = 8
"""Groups of `ROWS` pixels that meet one panel of weights after another: few enough to stay in the cache."""


def forward(x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None, relu: bool) -> Tensor:
    """The result in channels-last memory."""
    outputs = len(weight)
    y = empty_result(x, outputs)
    if not has_whole_vectors(weight) or len(x) * x.shape[2] * x.shape[3] < MIN_PIXELS:
        return _multiplied(x, weight, bias, residual, relu, y)
    panels = _in_panels(weight.detach().reshape(outputs, -1).numpy())
    offset, floor = offset_and_floor(bias, outputs, relu)
    source, target = _rows(x), _rows(y)
    other = np.empty((0, outputs), np.float32) if residual is None else _rows(residual)
    groups = -(-len(source) // ROWS)
    nothing = np.zeros(COLUMNS, np.float32)
    smallest = max(BLOCK, PRODUCTS_WORTH_A_THREAD // (ROWS * source.shape[1] * outputs))
    parallel_for(lambda a, b: _convolve(source, panels, offset, other, nothing, floor, target, a, b), groups, smallest)
    return y


def _multiplied(
    x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None, relu: bool, y: Tensor
) -> Tensor:
    """The result, by a library's product."""
    source, target = (one.permute(0, 2, 3, 1).flatten(0, 2) for one in (x, y))
    if bias is None:
        torch.mm(source, weight.flatten(1).T, out=target)
    else:
        torch.addmm(bias, source, weight.flatten(1).T, out=target)
    y = y if residual is None else y.add_(residual)
    return y.relu_() if relu else y


def _rows(x: Tensor) -> ndarray:
    """Pixels (B * H * W, C)."""
    return pixels(x).reshape(-1, x.shape[1])


def _in_panels(weight: ndarray) -> ndarray:
    """Arrange weights (K, C) in panels (K / COLUMNS, C, COLUMNS)."""
    panels = np.empty((len(weight) // COLUMNS, weight.shape[1], COLUMNS), np.float32)
    source = np.ascontiguousarray(weight)  # of the same numbers in another order the kernel would be compiled twice
    parallel_for(lambda a, b: _arrange(source, panels, a, b), len(panels))
    return panels


@jit
@no_type_check
def _arrange(weight, panels, first, stop):
    for panel in range(first, stop):
        for channel in range(weight.shape[1]):
            for column in range(COLUMNS):
                panels[panel, channel, column] = weight[panel * COLUMNS + column, channel]


@jit
@no_type_check
def _convolve(rows, panels, offset, residual, nothing, floor, out, first, stop):
    """Compute groups first..stop of the result's rows; the last ends with the last row, over some of the one before.

    nothing   zeros for a panel's columns, added where there is no residual
    """
    channels, outputs, last = rows.shape[1], out.shape[1], len(out) - ROWS
    for start in range(first, stop, BLOCK):
        for panel in range(len(panels)):
            right = panels.ctypes.data + FLOAT * panel * channels * COLUMNS
            shift = offset.ctypes.data + FLOAT * panel * COLUMNS
            for group in range(start, min(start + BLOCK, stop)):
                row = min(group * ROWS, last)
                left, cell = rows.ctypes.data + FLOAT * row * channels, FLOAT * (row * outputs + panel * COLUMNS)
                other, other_row = nothing.ctypes.data, 0
                if len(residual):
                    other, other_row = residual.ctypes.data + cell, outputs
                result = out.ctypes.data + cell
                multiply_finish(left, channels, right, other, other_row, shift, floor, result, outputs, channels)
