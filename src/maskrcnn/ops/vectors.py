"""Arithmetic on vectors at addresses, in LLVM's words, for kernels in Numba. All float32.

Numba vectorises loops, but keeps no block of a product of matrices in registers while it runs over the inner dimension,
and no loop over a dozen arrays that might overlap. Here one says what happens to vectors; LLVM makes the machine's own
instructions of it, multiplications fused with additions where it has such.
"""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, no_type_check

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from maskrcnn.kernels import VECTOR_WIDTH, kernel

WIDTH = VECTOR_WIDTH
"""Numbers in a vector."""
ROWS, ADDED_ROWS, ACROSS = 6, 4, 2
"""Register block of a matrix product: rows, rows when accumulating, vectors per row.

Each sum stays in one of 16 registers. Six rows reach a CPU's peak where four wait for memory; four divide all
numbers of channels.
"""
COLUMNS = ACROSS * WIDTH
"""Columns of a register block."""
PRODUCTS_WORTH_A_THREAD = 2**23
"""Multiplications of a matrix product that are worth a thread: two tenths of a millisecond."""
FLOAT = 4
"""Bytes of a number."""

jit = kernel(error_model="numpy")
"""Decorates kernels that work on addresses.

These are addresses of the kernel's own arguments, which the caller holds until the kernel returns, and never of an
array that the kernel made: Numba frees such an array after its last use by name, whatever still reads its memory.
`tests/architecture/test_addresses.py` finds what breaks this.
"""

ADDRESS, _FLOAT, _INDEX = ir.IntType(64), ir.FloatType(), ir.IntType(32)
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
            inputs = [load(builder, pointer(builder, source, source_step, number)) for number in range(num_inputs)]
            for number, result in enumerate(formula(*(Vector(builder, value) for value in inputs))):
                store(builder, result.value, pointer(builder, target, target_step, number))
            return context.get_dummy_value()

        return types.void(*[types.intp] * 4), generate

    return apply


move = transform(lambda value: [value], 1)
"""Copies a vector."""


@intrinsic
@no_type_check
def clear(typing_context, target):
    """Write a vector of zeros to an address."""

    def generate(context, builder, signature, arguments):
        store(builder, _ZEROS, pointer(builder, arguments[0]))
        return context.get_dummy_value()

    return types.void(types.intp), generate


@intrinsic
@no_type_check
def prefetch(typing_context, source):
    """Ask for the line of memory at an address, which will be read soon; it need not exist."""

    def generate(context, builder, signature, arguments):
        line = pointer(builder, arguments[0], kind=ir.IntType(8))
        kind = ir.FunctionType(ir.VoidType(), [line.type, *[_INDEX] * 3])
        fetch = builder.module.declare_intrinsic("llvm.prefetch.p0", (), kind)
        builder.call(fetch, [line, *(ir.Constant(_INDEX, number) for number in (0, 3, 1))])
        return context.get_dummy_value()

    return types.void(types.intp), generate


@intrinsic
@no_type_check
def shift(typing_context, source, offset, floor, target):
    """`target = max(source + offset, floor)`, vectors at addresses and a number; NaN passes through."""

    def generate(context, builder, signature, arguments):
        source, offset, floor, target = arguments
        value = builder.fadd(*(load(builder, pointer(builder, at)) for at in (source, offset)))
        store(builder, _not_below(builder, value, _spread(builder, floor)), pointer(builder, target))
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.float32, types.intp), generate


@intrinsic
@no_type_check
def multiply(typing_context, left, left_row, right, result, result_row, depth):
    """`result[ROWS, COLUMNS] = left[ROWS, depth] @ right[depth, COLUMNS]`, depth at least 1.

    Goto and van de Geijn 2008. Rows of the left matrix and of the result lie the given numbers of floats apart; the
    right one has no gaps.
    """

    def generate(context, builder, signature, arguments):
        left, left_row, right, result, result_row, depth = arguments
        _store_block(builder, _product(builder, left, left_row, right, depth), result, result_row)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 6), generate


@intrinsic
@no_type_check
def multiply_finish(typing_context, left, left_row, right, other, other_row, offset, floor, result, result_row, depth):
    """`result = max(left @ right + other + offset, floor)`, sizes as in `multiply`, one offset for each column."""

    def generate(context, builder, signature, arguments):
        left, left_row, right, other, other_row, offset, floor, result, result_row, depth = arguments
        sums = _product(builder, left, left_row, right, depth)
        others, least = _load_block(builder, ROWS, other, other_row), _spread(builder, floor)
        offsets = [load(builder, pointer(builder, offset, plus=vector * WIDTH)) for vector in range(ACROSS)]
        for row, added in zip(sums, others, strict=True):
            for vector in range(ACROSS):
                value = builder.fadd(builder.fadd(row[vector], offsets[vector]), added[vector])
                row[vector] = _not_below(builder, value, least)
        _store_block(builder, sums, result, result_row)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 6, types.float32, *[types.intp] * 3), generate


@intrinsic
@no_type_check
def multiply_add(typing_context, left, right, step, result, result_row, depth):
    """`result[ADDED_ROWS, COLUMNS] += left[ADDED_ROWS, depth] @ right[depth, COLUMNS]`, depth at least 1.

    Along the depth numbers of the left matrix and rows of the right one lie `step` floats apart; rows of the left one
    are neighbours.
    """

    def generate(context, builder, signature, arguments):
        left, right, step, result, result_row, depth = arguments
        sums = _load_block(builder, ADDED_ROWS, result, result_row)
        sums = _add_product(builder, sums, left, ir.Constant(ADDRESS, 1), step, right, step, depth)
        _store_block(builder, sums, result, result_row)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 6), generate


@no_type_check
def _product(builder, left, left_row, right, depth):
    """What `multiply` stores, (rows, vectors)."""
    columns, step = ir.Constant(ADDRESS, COLUMNS), ir.Constant(ADDRESS, 1)
    return _add_product(builder, [[_ZEROS] * ACROSS] * ROWS, left, left_row, step, right, columns, depth)


@no_type_check
def _add_product(builder, sums, left, left_row, left_step, right, right_step, depth):
    """A block of sums (rows, vectors) and a product, from a loop over the depth that keeps them in registers."""
    before, loop, after = builder.block, *map(builder.append_basic_block, ("loop", "after"))
    builder.branch(loop)
    builder.position_at_end(loop)
    number, held = builder.phi(ADDRESS), [[builder.phi(_VECTOR) for _ in row] for row in sums]
    right_at, left_at = (address(builder, *one, number) for one in ((right, right_step), (left, left_step)))
    vectors = [load(builder, pointer(builder, right_at, plus=vector * WIDTH)) for vector in range(ACROSS)]
    grown = []
    for row, values in enumerate(held):
        factor = _spread(builder, load(builder, pointer(builder, left_at, left_row, row, kind=_FLOAT)))
        grown.append([add_product(builder, *pair, factor) for pair in zip(values, vectors, strict=True)])
    following = builder.add(number, ir.Constant(ADDRESS, 1))
    starts, ends = ([first, *chain(*block)] for first, block in ((ir.Constant(ADDRESS, 0), sums), (following, grown)))
    for name, start, end in zip((number, *chain(*held)), starts, ends, strict=True):
        name.add_incoming(start, before)
        name.add_incoming(end, loop)
    builder.cbranch(builder.icmp_signed("<", following, depth), loop, after)
    builder.position_at_end(after)
    return grown


@no_type_check
def add_product(builder, value, one, other):
    """One vector and the product of two, in one instruction where the CPU has it."""
    return builder.fadd(value, builder.fmul(one, other, flags=("contract",)), flags=("contract",))


@no_type_check
def _load_block(builder, rows, base, distance):
    return [
        [load(builder, pointer(builder, base, distance, row, vector * WIDTH)) for vector in range(ACROSS)]
        for row in range(rows)
    ]


@no_type_check
def _store_block(builder, block, base, distance):
    for row, values in enumerate(block):
        for vector, value in enumerate(values):
            store(builder, value, pointer(builder, base, distance, row, vector * WIDTH))


@no_type_check
def _not_below(builder, value, least):
    """max(value, least); NaN passes through."""
    return builder.select(builder.fcmp_ordered("<", value, least), least, value)


@no_type_check
def address(builder, base, distance, number):
    """The one `number` times some floats behind an address."""
    return builder.add(base, builder.shl(builder.mul(distance, number), ir.Constant(ADDRESS, 2)))


@no_type_check
def pointer(builder, base, distance=None, number=0, plus=0, kind=_VECTOR):
    """A pointer to `number` times some floats, and `plus` more, behind an address."""
    if distance is not None:
        base = address(builder, base, distance, ir.Constant(ADDRESS, number))
    return builder.inttoptr(builder.add(base, ir.Constant(ADDRESS, 4 * plus)), kind.as_pointer())


@no_type_check
def load(builder, place):
    """What lies at a pointer."""
    value = builder.load(place)
    value.align = 4
    return value


@no_type_check
def store(builder, value, place):
    """Put a vector where a pointer says."""
    builder.store(value, place).align = 4


@no_type_check
def _spread(builder, number):
    """One number in all lanes of a vector."""
    first = builder.insert_element(_NOTHING, number, ir.Constant(_INDEX, 0))
    return builder.shuffle_vector(first, _NOTHING, ir.Constant(ir.VectorType(_INDEX, WIDTH), [0] * WIDTH))
