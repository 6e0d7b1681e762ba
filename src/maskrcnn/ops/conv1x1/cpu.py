"""1 x 1 convolutions as products of matrices that end in what follows them, each number written once.

In channels-last memory a picture is a matrix of pixels and channels. Torch's library writes the bias everywhere, adds
the product, then reads all of it again for the residual, and again for the ReLU; for a network's first stages these
passes take as long as the product.
"""

from typing import no_type_check

import numpy as np
from numba import njit
from numpy import ndarray
from torch import Tensor

from maskrcnn.ops.channels_last import empty_result, pixels
from maskrcnn.ops.threads import in_parts
from maskrcnn.ops.vectors import COLUMNS, ROWS, multiply_finish

BLOCK = 8
"""Groups of `ROWS` pixels that meet one panel of weights after another: few enough to stay in the cache."""
FLOAT = 4
"""Bytes."""

jit = njit(nogil=True, cache=True, error_model="numpy")


def forward(x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None, relu: bool) -> Tensor:
    """The result in channels-last memory; there are `ROWS` pixels or more."""
    outputs, channels = weight.shape[:2]
    y = empty_result(x, outputs)
    matrix = weight.detach().reshape(outputs, channels).numpy()
    panels = np.empty((outputs // COLUMNS, channels, COLUMNS), np.float32)
    in_parts(lambda a, b: _arrange(matrix, panels, a, b), len(panels))
    offset = np.zeros(outputs, np.float32) if bias is None else bias.detach().contiguous().numpy()
    floor = np.float32(0 if relu else -np.inf)
    source, target = _rows(x), _rows(y)
    other = np.empty((0, outputs), np.float32) if residual is None else _rows(residual)
    groups = -(-len(source) // ROWS)
    in_parts(lambda a, b: _convolve(source, panels, offset, other, floor, target, a, b), groups, BLOCK)
    return y


def _rows(x: Tensor) -> ndarray:
    """(B * H * W, C)."""
    return pixels(x).reshape(-1, x.shape[1])


@jit
@no_type_check
def _arrange(weight, panels, first, stop):
    """Panels first..stop of (K, C) as (K / COLUMNS, C, COLUMNS)."""
    for panel in range(first, stop):
        for channel in range(weight.shape[1]):
            for column in range(COLUMNS):
                panels[panel, channel, column] = weight[panel * COLUMNS + column, channel]


@jit
@no_type_check
def _convolve(rows, panels, offset, residual, floor, out, first, stop):
    """Groups first..stop of the result's rows; the last group ends with the last row, over some of the one before."""
    channels, outputs, last = rows.shape[1], out.shape[1], len(out) - ROWS
    nothing = np.zeros(COLUMNS, np.float32)
    for start in range(first, stop, BLOCK):
        for panel in range(len(panels)):
            right = panels.ctypes.data + FLOAT * panel * channels * COLUMNS
            shift = offset.ctypes.data + FLOAT * panel * COLUMNS
            for group in range(start, min(start + BLOCK, stop)):
                row = min(group * ROWS, last)
                left, place = rows.ctypes.data + FLOAT * row * channels, FLOAT * (row * outputs + panel * COLUMNS)
                other, other_row = nothing.ctypes.data, 0
                if len(residual):
                    other, other_row = residual.ctypes.data + place, outputs
                result = out.ctypes.data + place
                multiply_finish(left, channels, right, other, other_row, shift, floor, result, outputs, channels)
