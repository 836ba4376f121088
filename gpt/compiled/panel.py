"""A few rows times one panel of a matrix: the loop in which decoding spends its time, written for the compiler.

A matrix (K, N) is stored as panels of WIDTH columns, each (K, WIDTH) contiguous, so that the loop over K reads memory
in order and keeps its WIDTH sums of every row in registers. numba would keep them in memory; so the loop is given to
LLVM as vector operations, which it maps to what the machine has. Each sum adds its K products in rising order, with
any number of rows: a row's result does not depend, in any bit, on the rows beside it.
"""

from __future__ import annotations

import platform
from typing import Any

from llvmlite import binding, ir
from numba import types

from gpt.compiled.kernel import intrinsic

WIDTH = 64
"""Columns of a panel: enough sums at once to hide the time that one multiply-add takes."""


def _features() -> dict[str, bool]:
    """What this machine's processor can do."""
    binding.initialize_native_target()
    return dict(binding.get_host_cpu_features())


HALVES = _features().get("f16c", False) or platform.machine().lower() in ("arm64", "aarch64")
"""Whether the processor turns half precision into float32 by itself."""


TILE = 4 if _features().get("avx512f") else 2
"""Rows multiplied at once where there are so many: the sums must fit in the registers."""


def _product(rows: int, half: bool) -> Any:
    """An intrinsic for so many rows, over one type of panel.

    `x` (rows, depth), `panel`, `bias` (WIDTH,) and `out` (rows, WIDTH) are addresses, `stride` and `width` the
    numbers from one row to the next in x and out. It puts x times the panel plus the bias into out, and if `add` is
    not 0, what stood there before is added.
    """
    stored = ir.HalfType() if half else ir.FloatType()

    def product(typingctx, x, stride, panel, depth, bias, out, width, add):
        def codegen(context, builder, signature, arguments):
            x, stride, panel, depth, bias, out, width, add = arguments
            real, index, lane = ir.FloatType(), ir.IntType(64), ir.IntType(32)
            vector, packed = ir.VectorType(real, WIDTH), ir.VectorType(stored, WIDTH)
            undefined, zero = ir.Constant(vector, ir.Undefined), ir.Constant(vector, None)
            everywhere = ir.Constant(ir.VectorType(lane, WIDTH), None)

            def pointer(address: Any, kind: Any, *offset: Any) -> Any:
                start = builder.inttoptr(address, kind.as_pointer())
                return builder.gep(start, list(offset)) if offset else start

            x_rows = [pointer(x, real, builder.mul(index(row), stride)) for row in range(rows)]
            entry = builder.block
            loop, done = builder.append_basic_block("product"), builder.append_basic_block("summed")
            builder.branch(loop)
            builder.position_at_end(loop)
            k = builder.phi(index)
            sums = [builder.phi(vector) for _ in range(rows)]
            at = builder.bitcast(pointer(panel, stored, builder.mul(k, index(WIDTH))), packed.as_pointer())
            weights = builder.load(at, align=2 if half else 4)
            if half:
                weights = builder.fpext(weights, vector)
            added = []
            for row, total in zip(x_rows, sums, strict=True):
                value = builder.load(builder.gep(row, [k]))
                spread = builder.shuffle_vector(
                    builder.insert_element(undefined, value, lane(0)), undefined, everywhere
                )
                # "contract" lets a machine that can multiply and add at once do so, with one rounding.
                product = builder.fmul(spread, weights, flags=("contract",))
                added.append(builder.fadd(total, product, flags=("contract",)))
            following = builder.add(k, index(1))
            for phi, first, next_one in zip([k, *sums], [index(0)] + [zero] * rows, [following, *added], strict=True):
                phi.add_incoming(first, entry)
                phi.add_incoming(next_one, loop)
            builder.cbranch(builder.icmp_signed("<", following, depth), loop, done)
            builder.position_at_end(done)
            offset = builder.load(pointer(bias, vector), align=4)
            kept = builder.icmp_signed("!=", add, index(0))
            for row, total in enumerate(added):
                to = builder.bitcast(pointer(out, real, builder.mul(index(row), width)), vector.as_pointer())
                before = builder.select(kept, builder.load(to, align=4), zero)
                builder.store(builder.fadd(builder.fadd(total, offset), before), to, align=4)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 8), codegen

    return intrinsic(product)


half_1, float_1 = _product(1, half=True), _product(1, half=False)
half_tile, float_tile = _product(TILE, half=True), _product(TILE, half=False)
