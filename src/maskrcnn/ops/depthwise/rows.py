"""Three rows of a depthwise convolution, of its result, its weights and its pixels, of which one is added to.

Pixel p of the result is the sum over taps t of weight t times pixel `stride` * p + t. All three directions add along
this relation: forward to the result, backward to the pixels and to the weights. For a vector of channels at a time,
some neighbours in the result and all that they see stay in registers.
"""

from itertools import product
from typing import Any, no_type_check

from numba import types
from numba.core.cgutils import for_range_slice
from numba.extending import intrinsic

from maskrcnn.kernels import WIDTHS
from maskrcnn.ops.vectors import ADDRESS, WIDTH, add_product, address, load, pointer, store

VECTOR = max(WIDTHS)
"""Channels come in multiples of it, whatever a vector's length."""
PIXELS = 4
"""Neighbours in the result that are taken at once."""
KERNELS = ((3, 1), (3, 2), (5, 1), (5, 2))
"""Taps of a row, and strides, that there is code for."""
RESULT, WEIGHTS, SOURCE = range(3)
"""Which row is added to."""


def addition(target: int) -> Any:
    """A function (result, weights, source, pixels, channels, taps, stride) for kernels that adds to one of three rows.

    result, weights, source   addresses of rows, whose pixels or taps lie `channels` floats apart
    pixels                    of the result, a multiple of `PIXELS`
    """

    @intrinsic
    @no_type_check
    def add(typing_context, result, weights, source, pixels, channels, taps, stride):
        def generate(context, builder, signature, arguments):
            *rows, pixels, channels, taps, stride = arguments
            for kernel in KERNELS:
                pairs = zip((taps, stride), map(ADDRESS, kernel), strict=True)
                with builder.if_then(builder.and_(*(builder.icmp_signed("==", *pair) for pair in pairs))):
                    _add_row(builder, target, rows, pixels, channels, *kernel)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 7), generate

    return add


@no_type_check
def _add_row(builder, target, rows, pixels, channels, taps, stride):
    result, weights, source = rows
    with for_range_slice(builder, ADDRESS(0), pixels, ADDRESS(PIXELS), ADDRESS) as (pixel, _):
        here = address(builder, result, channels, pixel)
        seen = address(builder, source, channels, builder.mul(pixel, ADDRESS(stride)))
        with for_range_slice(builder, ADDRESS(0), channels, ADDRESS(WIDTH), ADDRESS) as (channel, _):
            vectors = [address(builder, row, ADDRESS(1), channel) for row in (here, weights, seen)]
            _add(builder, target, vectors, channels, taps, stride)


@no_type_check
def _add(builder, target, vectors, step, taps, stride):
    """What `PIXELS` pixels of the result have to do with; in the order of taps, so that none waits for the other."""
    lengths = PIXELS, taps, stride * (PIXELS - 1) + taps
    places = [
        [pointer(builder, vector, step, number) for number in range(length)]
        for vector, length in zip(vectors, lengths, strict=True)
    ]
    values = [[load(builder, place) for place in row] for row in places]
    for tap, pixel in product(range(taps), range(PIXELS)):
        numbers = pixel, tap, stride * pixel + tap
        met = [row[number] for row, number in zip(values, numbers, strict=True)]
        values[target][numbers[target]] = add_product(builder, met.pop(target), *met)
    for value, place in zip(values[target], places[target], strict=True):
        store(builder, value, place)


add_to_result, add_to_weights, add_to_source = map(addition, (RESULT, WEIGHTS, SOURCE))
