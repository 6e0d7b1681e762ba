"""Sums over tiles or pixels of products of gradients and inputs, for the gradient of weights.

Threads share `BLOCK` tiles or pixels at a time. Either matrix lies in panels: `COLUMNS` channels of all of the block,
one tile or pixel after the other, then the next channels.
"""

from typing import no_type_check

from maskrcnn.ops.vectors import ADDED_ROWS, COLUMNS, FLOAT, jit, multiply_add

BLOCK = 256
"""Tiles or pixels that threads share at a time."""
PANEL = BLOCK * COLUMNS
"""Numbers of a panel."""
OUTPUTS = 16
"""Output channels that a thread sums at a time."""


@jit
@no_type_check
def add_products(gradients, inputs, count, first, result, columns):
    """Add products to `OUTPUTS` rows of weights, (outputs, columns), those of the outputs from `first` on.

    gradients, inputs, result   addresses: of panels, of panels of `columns` channels, and of the first row
    count                       tiles or pixels, at most `BLOCK`
    """
    for row in range(0, OUTPUTS, ADDED_ROWS):
        output = first + row
        left = gradients + FLOAT * (output // COLUMNS * PANEL + output % COLUMNS)
        for column in range(0, columns, COLUMNS):
            right = inputs + FLOAT * column * BLOCK
            multiply_add(left, right, COLUMNS, result + FLOAT * (row * columns + column), columns, count)
