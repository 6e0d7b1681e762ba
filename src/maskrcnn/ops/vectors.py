"""Arithmetic on vectors at addresses, in LLVM's words, for kernels in Numba. All float32.

Numba vectorises loops, but keeps no block of a product of matrices in registers while it runs over the inner dimension,
and no loop over a dozen arrays that might overlap. Here one says what happens to vectors; LLVM makes the machine's own
instructions of it, multiplications fused with additions where it has such.
"""

from collections.abc import Callable, Sequence
from typing import Any, no_type_check

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

WIDTH = 16 if llvmlite.binding.get_host_cpu_features().get("avx512f") else 8
"""Numbers of a vector."""
ROWS, ACROSS = 4, 2
"""Of a block of a product, in rows and in vectors: as many sums as a processor has under way at once."""
COLUMNS = ACROSS * WIDTH
"""Of a block of a product."""

_ADDRESS, _FLOAT, _INDEX = ir.IntType(64), ir.FloatType(), ir.IntType(32)
_VECTOR = ir.VectorType(_FLOAT, WIDTH)
_NOTHING, _ZEROS = ir.Constant(_VECTOR, ir.Undefined), ir.Constant(_VECTOR, [0.0] * WIDTH)


class Vector:
    """Numbers in registers that formulas add and multiply."""

    def __init__(self, builder: ir.IRBuilder, value: ir.Value) -> None:
        self.builder, self.value = builder, value

    def __add__(self, other: "Vector") -> "Vector":
        return Vector(self.builder, self.builder.fadd(self.value, other.value, flags=("contract",)))

    def __sub__(self, other: "Vector") -> "Vector":
        return Vector(self.builder, self.builder.fsub(self.value, other.value, flags=("contract",)))

    def __mul__(self, number: float) -> "Vector":
        factor = ir.Constant(_VECTOR, [float(number)] * WIDTH)
        return Vector(self.builder, self.builder.fmul(self.value, factor, flags=("contract",)))

    __rmul__ = __mul__


def transform(formula: Callable[..., Sequence[Any]], num_inputs: int) -> Any:
    """A function (source, source_step, target, target_step) for kernels that applies a formula to vectors.

    formula   from `num_inputs` values to others, by additions and multiplications with numbers
    Vectors lie the given numbers of floats apart, from the given addresses on.
    """

    @intrinsic
    @no_type_check
    def apply(typing_context, source, source_step, target, target_step):
        def generate(context, builder, signature, arguments):
            source, source_step, target, target_step = arguments
            inputs = [_load(builder, _place(builder, source, source_step, number)) for number in range(num_inputs)]
            for number, result in enumerate(formula(*(Vector(builder, value) for value in inputs))):
                _store(builder, result.value, _place(builder, target, target_step, number))
            return context.get_dummy_value()

        return types.void(*[types.intp] * 4), generate

    return apply


move = transform(lambda value: [value], 1)
"""Copies a vector."""


@intrinsic
@no_type_check
def clear(typing_context, target):
    """Zeros to an address."""

    def generate(context, builder, signature, arguments):
        _store(builder, _ZEROS, _place(builder, arguments[0]))
        return context.get_dummy_value()

    return types.void(types.intp), generate


@intrinsic
@no_type_check
def shift(typing_context, source, offset, floor, target):
    """`target = max(source + offset, floor)`, vectors at addresses and a number; what is no number stays so."""

    def generate(context, builder, signature, arguments):
        source, offset, floor, target = arguments
        value = builder.fadd(*(_load(builder, _place(builder, at)) for at in (source, offset)))
        least = _spread(builder, floor)
        value = builder.select(builder.fcmp_ordered("<", value, least), least, value)
        _store(builder, value, _place(builder, target))
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.float32, types.intp), generate


def _product(adds: bool) -> Any:
    @intrinsic
    @no_type_check
    def multiply(typing_context, left, left_row, left_step, right, right_step, result, result_row, depth):
        def generate(context, builder, signature, arguments):
            left, left_row, left_step, right, right_step, result, result_row, depth = arguments
            blocks = [(row, column) for row in range(ROWS) for column in range(ACROSS)]
            places = [_place(builder, result, result_row, row, column * WIDTH) for row, column in blocks]
            first = [_load(builder, place) if adds else _ZEROS for place in places]
            before, loop, after = builder.block, *map(builder.append_basic_block, ("loop", "after"))
            builder.branch(loop)
            builder.position_at_end(loop)
            step, *sums = builder.phi(_ADDRESS), *(builder.phi(_VECTOR) for _ in blocks)
            right_at, left_at = (_address(builder, *one, step) for one in ((right, right_step), (left, left_step)))
            vectors = [_load(builder, _place(builder, right_at, plus=column * WIDTH)) for column in range(ACROSS)]
            numbers = [
                _spread(builder, _load(builder, _place(builder, left_at, left_row, row, kind=_FLOAT)))
                for row in range(ROWS)
            ]
            products = [builder.fmul(numbers[row], vectors[column], flags=("contract",)) for row, column in blocks]
            grown = [builder.fadd(*pair, flags=("contract",)) for pair in zip(sums, products, strict=True)]
            following = builder.add(step, ir.Constant(_ADDRESS, 1))
            starts = [ir.Constant(_ADDRESS, 0), *first]
            for name, start, value in zip((step, *sums), starts, (following, *grown), strict=True):
                name.add_incoming(start, before)
                name.add_incoming(value, loop)
            builder.cbranch(builder.icmp_signed("<", following, depth), loop, after)
            builder.position_at_end(after)
            for value, place in zip(grown, places, strict=True):
                _store(builder, value, place)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 8), generate

    return multiply


multiply = _product(adds=False)
"""`result[ROWS, COLUMNS] = left[ROWS, depth] @ right[depth, COLUMNS]`, depth at least 1 (Goto and van de Geijn 2008).

Numbers of the left matrix lie `left_row` and `left_step` floats apart down its rows and along its depth. Rows of the
others lie `right_step` and `result_row` apart, and their columns are neighbours.
"""
multiply_add = _product(adds=True)
"""As `multiply`, added to what the result holds."""


@no_type_check
def _address(builder, base, distance, number):
    return builder.add(base, builder.shl(builder.mul(distance, number), ir.Constant(_ADDRESS, 2)))


@no_type_check
def _place(builder, base, distance=None, number=0, plus=0, kind=_VECTOR):
    """A pointer to `number` times some floats, and `plus` more, behind an address."""
    if distance is not None:
        base = _address(builder, base, distance, ir.Constant(_ADDRESS, number))
    return builder.inttoptr(builder.add(base, ir.Constant(_ADDRESS, 4 * plus)), kind.as_pointer())


@no_type_check
def _load(builder, place):
    value = builder.load(place)
    value.align = 4
    return value


@no_type_check
def _store(builder, value, place):
    builder.store(value, place).align = 4


@no_type_check
def _spread(builder, number):
    """One number in all places of a vector."""
    first = builder.insert_element(_NOTHING, number, ir.Constant(_INDEX, 0))
    return builder.shuffle_vector(first, _NOTHING, ir.Constant(ir.VectorType(_INDEX, WIDTH), [0] * WIDTH))
