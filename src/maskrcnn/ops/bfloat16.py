"""bf16 inside Numba kernels, which know no such type: memory holds its 16 bits, arithmetic is float32."""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

WORD, HALF = ir.IntType(32), ir.IntType(16)


def _widen(context, value):  # type: ignore[no-untyped-def]
    if value != types.uint16:
        return value(value), lambda context, builder, signature, args: args[0]

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        upper = builder.shl(builder.zext(args[0], WORD), ir.Constant(WORD, 16))
        return builder.bitcast(upper, ir.FloatType())

    return types.float32(value), generate


def _narrow(context, value, like):  # type: ignore[no-untyped-def]
    if like != types.uint16:
        return value(value, like), lambda context, builder, signature, args: args[0]

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        bits, sixteen = builder.bitcast(args[0], WORD), ir.Constant(WORD, 16)
        odd = builder.and_(builder.lshr(bits, sixteen), ir.Constant(WORD, 1))
        rounded = builder.add(bits, builder.add(odd, ir.Constant(WORD, 0x7FFF)))
        is_nan = builder.fcmp_unordered("uno", args[0], args[0])
        return builder.select(is_nan, ir.Constant(HALF, 0x7FC0), builder.trunc(builder.lshr(rounded, sixteen), HALF))

    return like(value, like), generate


widen: Callable[..., Any] = intrinsic(_widen)
"""widen(value): the float of a number in memory; bf16 bits are the upper half of a float32, floats stay as they are."""
narrow: Callable[..., Any] = intrinsic(_narrow)
"""narrow(value, like): a float32 in the type of `like`, rounded to nearest even; NaN stays NaN, floats as they are."""
