"""Three rows of a depthwise convolution, of its result, its weights and its pixels, of which one is added to.

Pixel p of the result is the sum over taps t of weight t times pixel `stride` * p + t. All three directions add along
this relation: forward to the result, backward to the pixels and to the weights. For a vector of channels at a time, some
neighbours in the result and all that they see stay in registers.
"""

from itertools import product
from typing import Any, no_type_check

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from maskrcnn.kernels import WIDTHS
from maskrcnn.ops.vectors import FLOAT, WIDTH, add_product, jit, load, pointer, store

PIXELS = 4
"""Neighbours in the result that are taken at once."""
VECTOR = max(WIDTHS)
"""Channels come in multiples of it, whatever a vector's length."""
KERNELS = ((3, 1), (3, 2), (5, 1), (5, 2))
"""Taps of a row and strides that there is code for."""
RESULT, WEIGHTS, SOURCE = range(3)
"""Which row is added to."""


def addition(target: int) -> Any:
    """A function (result, weights, source, step, taps, stride) for kernels that adds to one of three addresses.

    step   numbers from a pixel or a tap to its neighbour
    """

    @intrinsic
    @no_type_check
    def add(typing_context, result, weights, source, step, taps, stride):
        def generate(context, builder, signature, arguments):
            *rows, step, taps, stride = arguments
            for kernel in KERNELS:
                is_it = [builder.icmp_signed("==", *pair) for pair in zip((taps, stride), map(_INT, kernel), strict=True)]
                with builder.if_then(builder.and_(*is_it)):
                    _add(builder, target, rows, step, *kernel)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 6), generate

    return add


@no_type_check
def _add(builder, target, rows, step, taps, stride):
    """The additions of `PIXELS` pixels of the result, in the order of taps: neighbours do not wait for each other."""
    lengths = PIXELS, taps, stride * (PIXELS - 1) + taps
    places = [[pointer(builder, row, step, n) for n in range(length)] for row, length in zip(rows, lengths, strict=True)]
    values = [[load(builder, place) for place in row] for row in places]
    for tap, pixel in product(range(taps), range(PIXELS)):
        met = [row[n] for row, n in zip(values, (pixel, tap, stride * pixel + tap), strict=True)]
        number = (pixel, tap, stride * pixel + tap)[target]
        values[target][number] = add_product(builder, met.pop(target), *met)
    for value, place in zip(values[target], places[target], strict=True):
        store(builder, value, place)


_INT = ir.IntType(64)
_add_to_result, _add_to_weights, _add_to_source = map(addition, (RESULT, WEIGHTS, SOURCE))


@jit
@no_type_check
def add_row(target, result, weights, source, pixels, channels, taps, stride):
    """Add to one of three rows what the others give.

    target                    `RESULT`, `WEIGHTS` or `SOURCE`
    result, weights, source   addresses of rows, whose pixels or taps lie `channels` floats apart
    pixels                    of the result, a multiple of `PIXELS`
    """
    for pixel in range(0, pixels, PIXELS):
        for channel in range(0, channels, WIDTH):
            here = result + FLOAT * (pixel * channels + channel)
            factors = weights + FLOAT * channel
            seen = source + FLOAT * (stride * pixel * channels + channel)
            if target == RESULT:
                _add_to_result(here, factors, seen, channels, taps, stride)
            elif target == WEIGHTS:
                _add_to_weights(here, factors, seen, channels, taps, stride)
            else:
                _add_to_source(here, factors, seen, channels, taps, stride)
