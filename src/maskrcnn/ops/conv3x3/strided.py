"""The gradient of the weights of a 3 x 3 convolution that leaves out pixels, as products of matrices over its patches.

Winograd's transforms need neighbours. Here the 9 pixels under some hundred pixels of the result are copied beside each
other, and multiplied with their gradients. Torch's library does as well with everything else.
"""

from functools import partial
from typing import no_type_check

import numpy as np
import torch
from torch import Tensor

from maskrcnn.ops.channels_last import pixels
from maskrcnn.ops.conv3x3.panels import BLOCK, OUTPUTS, PANEL, add_products
from maskrcnn.ops.threads import parallel_for
from maskrcnn.ops.vectors import COLUMNS, FLOAT, WIDTH, clear, jit, move

TAPS = 9
PIXELS = 24
"""Pixels whose patches are worth a thread."""


def weight_gradient(grad: Tensor, x: Tensor, stride: int) -> Tensor:
    """Gradient of the weight (K, C, 3, 3) from that of the result and the input, in channels-last memory."""
    outputs, channels = grad.shape[1], x.shape[1]
    weight = torch.empty((outputs, channels, 3, 3), memory_format=torch.channels_last)
    gradients, inputs, result = pixels(grad), pixels(x), pixels(weight)
    result[:] = 0
    left, right = (np.empty((c // COLUMNS, BLOCK, COLUMNS), np.float32) for c in (outputs, TAPS * channels))
    total = grad.numel() // outputs
    for first in range(0, total, BLOCK):
        count = min(BLOCK, total - first)
        parallel_for(partial(_arrange_pixels, gradients, inputs, stride, left, right, first), count, PIXELS)
        parallel_for(partial(_add_groups, left, right, count, result), outputs // OUTPUTS)
    return weight


@jit
@no_type_check
def _arrange_pixels(gradients, inputs, stride, left, right, offset, first, stop):
    """Arrange pixels offset + first..stop of the gradient and their patches in panels of `COLUMNS` numbers."""
    height, width, outputs = gradients.shape[1:]
    for number in range(first, stop):
        source, row = gradients.ctypes.data + FLOAT * (offset + number) * outputs, FLOAT * number * COLUMNS
        for output in range(0, outputs, WIDTH):
            panel = left.ctypes.data + FLOAT * (output // COLUMNS * PANEL + output % COLUMNS)
            move(source + FLOAT * output, 0, panel + row, 0)
        _copy_patch(inputs, stride, height, width, offset + number, right.ctypes.data + row)


@jit
@no_type_check
def _copy_patch(source, stride, height, width, pixel, target):
    """Copy the 9 pixels of the input under a pixel of the result to an address in the first of their panels."""
    channels = source.shape[3]
    image, top, left = pixel // (height * width), stride * (pixel // width % height) - 1, stride * (pixel % width) - 1
    for tap in range(TAPS):
        y, x = top + tap // 3, left + tap % 3
        is_inside = 0 <= y < source.shape[1] and 0 <= x < source.shape[2]
        pixel_at = source.ctypes.data + FLOAT * ((image * source.shape[1] + y) * source.shape[2] + x) * channels
        for channel in range(0, channels, WIDTH):
            panel = (tap * channels + channel) // COLUMNS
            address = target + FLOAT * (panel * PANEL + channel % COLUMNS)
            if is_inside:
                move(pixel_at + FLOAT * channel, 0, address, 0)
            else:
                clear(address)


@jit
@no_type_check
def _add_groups(left, right, count, weight, first, stop):
    """Add up groups first..stop of outputs."""
    columns = right.shape[0] * COLUMNS
    for output in range(first * OUTPUTS, stop * OUTPUTS, OUTPUTS):
        target = weight.ctypes.data + FLOAT * output * columns
        add_products(left.ctypes.data, right.ctypes.data, count, output, target, columns)
