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
from numba.core import cgutils

from gpt.compiled.kernel import intrinsic

WIDTH = 64
"""Columns of a panel: enough sums at once to hide the time that one multiply-add takes."""


def _features() -> dict[str, bool]:
    """What this machine's processor can do."""
    binding.initialize_native_target()
    binding.initialize_native_asmparser()  # for the one instruction that is given by its name
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


FLOAT, HALF, WHOLE = range(3)
"""What a matrix is stored as: float32, half precision, or whole numbers of 8 bits with a scale for each column."""

VNNI = _features().get("avx512vnni", False)
"""Whether the processor adds products of four whole numbers of 8 bits at once (vpdpbusd)."""

GROUP = 4
"""Numbers of 8 bits that it multiplies and adds at once."""

_LANES = 16  # sums of 32 bits in a register of 512


def _whole_product(rows: int) -> Any:
    """An intrinsic for so many rows of 8-bit whole numbers, over a panel of them.

    `codes` (rows, stride) are bytes -127 to 127, each row to be multiplied by its number in `row_scales`; `panel`
    (groups, WIDTH, GROUP) are bytes 1 to 255, 128 more than they mean (of the two that the instruction multiplies
    one is unsigned), each column to be multiplied by its number in `scales`. `row_sums` are those of the codes: 128
    times such a sum is what is too much. The rest is as for `_product`. The sums are exact.
    """

    def product(typingctx, codes, stride, row_scales, row_sums, panel, groups, scales, bias, out, width, add):
        def codegen(context, builder, signature, arguments):
            if not VNNI:  # never called there
                return context.get_dummy_value()
            codes, stride, row_scales, row_sums, panel, groups, scales, bias, out, width, add = arguments
            index, lane, real = ir.IntType(64), ir.IntType(32), ir.FloatType()
            whole, vector = ir.VectorType(lane, _LANES), ir.VectorType(real, _LANES)
            zero, nothing = ir.Constant(whole, None), ir.Constant(vector, None)
            multiply_add = ir.InlineAsm(
                ir.FunctionType(whole, [whole, whole, whole]), "vpdpbusd $3, $2, $0", "=v,0,v,v", side_effect=False
            )
            parts = range(WIDTH // _LANES)

            def load(address: Any, kind: Any, *offsets: Any, align: int = 4) -> Any:
                for offset in offsets:
                    address = builder.add(address, offset)
                return builder.load(builder.inttoptr(address, kind.as_pointer()), align=align)

            def spread(value: Any) -> Any:
                kind = ir.VectorType(value.type, _LANES)
                first = builder.insert_element(ir.Constant(kind, ir.Undefined), value, lane(0))
                return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), zero)

            entry = builder.block
            loop, done = builder.append_basic_block("product"), builder.append_basic_block("summed")
            builder.branch(loop)
            builder.position_at_end(loop)
            k = builder.phi(index)
            totals = [builder.phi(whole) for _ in range(rows * len(parts))]
            group, at = builder.mul(k, index(GROUP)), builder.mul(k, index(GROUP * WIDTH))
            weights = [load(panel, whole, at, index(4 * _LANES * part), align=64) for part in parts]
            added = []
            for row in range(rows):
                four = spread(load(codes, lane, builder.mul(stride, index(row)), group))
                for part in parts:
                    total = totals[row * len(parts) + part]
                    added.append(builder.call(multiply_add, [total, weights[part], four]))
            following = builder.add(k, index(1))
            for phi, first, next_one in zip(
                [k, *totals], [index(0)] + [zero] * len(totals), [following, *added], strict=True
            ):
                phi.add_incoming(first, entry)
                phi.add_incoming(next_one, loop)
            builder.cbranch(builder.icmp_signed("<", following, groups), loop, done)
            builder.position_at_end(done)
            kept = builder.icmp_signed("!=", add, index(0))
            for row in range(rows):
                too_much = spread(builder.mul(load(row_sums, lane, index(4 * row)), lane(128)))
                row_scale = spread(load(row_scales, real, index(4 * row)))
                for part in parts:
                    offset = index(4 * _LANES * part)
                    total = builder.sitofp(builder.sub(added[row * len(parts) + part], too_much), vector)
                    scaled = builder.fmul(total, builder.fmul(row_scale, load(scales, vector, offset)))
                    scaled = builder.fadd(scaled, load(bias, vector, offset))
                    to = builder.inttoptr(
                        builder.add(builder.add(out, builder.mul(index(4 * row), width)), offset), vector.as_pointer()
                    )
                    before = builder.select(kept, builder.load(to, align=4), nothing)
                    builder.store(builder.fadd(scaled, before), to, align=4)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 11), codegen

    return intrinsic(product)


@intrinsic
def largest(typingctx, address):
    """The largest of WIDTH float32; not a number where one of them is none."""

    def codegen(context, builder, signature, arguments):
        real, bits = ir.FloatType(), ir.IntType(WIDTH)
        vector = ir.VectorType(real, WIDTH)
        values = builder.load(builder.inttoptr(arguments[0], vector.as_pointer()), align=4)
        kind = ir.FunctionType(real, [vector])
        reduce = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.fmax.v{WIDTH}f32")
        found = builder.call(reduce, [values], fastmath=("nnan",))
        wrong = builder.bitcast(builder.fcmp_unordered("uno", values, values), bits)
        return builder.select(builder.icmp_unsigned("!=", wrong, bits(0)), ir.Constant(real, float("nan")), found)

    return types.float32(types.int64), codegen


half_1, float_1 = _product(1, half=True), _product(1, half=False)
half_tile, float_tile = _product(TILE, half=True), _product(TILE, half=False)
whole_1, whole_tile = _whole_product(1), _whole_product(TILE)
