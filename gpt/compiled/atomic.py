"""Cells of memory that threads share, read and written as one: what two threads of compiled code need to divide work.

The cells are int64 behind an address. What a thread wrote before `publish` is seen by whoever sees the published value.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from gpt.compiled.kernel import intrinsic

CELL = 8
"""int64 from one shared cell to the next: a cache line, so that writing one does not take the other from its reader."""

give_way = types.ExternalFunction("sched_yield", types.int32())
"""Let another thread have the core, if one waits for it (POSIX's sched_yield, found by its name in the process)."""


def _pointer(builder: Any, address: Any, index: Any) -> Any:
    return builder.gep(builder.inttoptr(address, ir.IntType(64).as_pointer()), [index])


@intrinsic
def observe(typingctx, cells, index):
    """cells[index], with everything that was written before it was published."""

    def codegen(context, builder, signature, arguments):
        return builder.load_atomic(_pointer(builder, *arguments), "acquire", 8)

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def publish(typingctx, cells, index, value):
    """cells[index] = value, after everything that was written before."""

    def codegen(context, builder, signature, arguments):
        cells, index, value = arguments
        builder.store_atomic(value, _pointer(builder, cells, index), "release", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@intrinsic
def add(typingctx, cells, index, value):
    """Add to cells[index]; what it was before."""

    def codegen(context, builder, signature, arguments):
        cells, index, value = arguments
        pointer = _pointer(builder, cells, index)
        return builder.atomic_rmw("add", pointer, value, "acq_rel")

    return types.int64(types.int64, types.int64, types.int64), codegen


@intrinsic
def exchange(typingctx, cells, index, expected, value):
    """Put value into cells[index] if it is as expected; whether it was."""

    def codegen(context, builder, signature, arguments):
        cells, index, expected, value = arguments
        pointer = _pointer(builder, cells, index)
        outcome = builder.cmpxchg(pointer, expected, value, "acq_rel", "acquire")
        return builder.extract_value(outcome, 1)

    return types.boolean(types.int64, types.int64, types.int64, types.int64), codegen
