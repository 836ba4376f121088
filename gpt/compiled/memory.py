"""Memory by its address, for the compiled code: arrays behind an address, and a float's bits.

The compiled step has some thirty arrays. Handed over as arrays they would be hundreds of arguments of every function,
and most of a minute to compile; as addresses in one record they are one. Whoever makes the record keeps the arrays.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import carray, types

from gpt.compiled.kernel import intrinsic, within


def _pointer(item: Any, stored: Any) -> Any:
    """An intrinsic that makes an address a pointer to items of one type, as numba and as LLVM call it."""

    def pointer(typingctx, address):
        def codegen(context, builder, signature, arguments):
            return builder.inttoptr(arguments[0], stored.as_pointer())

        return types.CPointer(item)(types.int64), codegen

    return intrinsic(pointer)


_real_pointer = _pointer(types.float32, ir.FloatType())
_integer_pointer = _pointer(types.int64, ir.IntType(64))
_word_pointer = _pointer(types.int32, ir.IntType(32))
_byte_pointer = _pointer(types.int8, ir.IntType(8))
_double_pointer = _pointer(types.float64, ir.DoubleType())


@within
def reals(address, start, count):
    """`count` float32 from number `start` on behind an address."""
    return carray(_real_pointer(address + 4 * start), (count,))


@within
def integers(address, start, count):
    """`count` int64 from number `start` on behind an address."""
    return carray(_integer_pointer(address + 8 * start), (count,))


@within
def words(address, start, count):
    """`count` int32 from number `start` on behind an address."""
    return carray(_word_pointer(address + 4 * start), (count,))


@within
def bytes_of(address, start, count):
    """`count` int8 from number `start` on behind an address."""
    return carray(_byte_pointer(address + start), (count,))


@within
def doubles(address, start, count):
    """`count` float64 from number `start` on behind an address."""
    return carray(_double_pointer(address + 8 * start), (count,))


@intrinsic
def float_of_bits(typingctx, bits):
    """The float32 that these 32 bits are."""

    def codegen(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), codegen


@intrinsic
def bits_of_float(typingctx, value):
    """The 32 bits of a float32."""

    def codegen(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.int32(types.float32), codegen
