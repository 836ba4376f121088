"""Where the microseconds of one compiled step go, on one thread, against the time that reading the weights takes.

A checkpoint's step for a number of rows, part by part; each part is repeated with its data in the caches as a whole
step leaves them, so the parts add up to about the step. The floor of a product is the time in which its weights, as
stored at half precision, can be read: at the bandwidth with which an array as large as the head is summed.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from tests.benchmarks._record import Record

ROOT = Path(__file__).resolve().parents[2]
PLACE = 50
QUICK = ()


def run(arguments: list[str], record: Record) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks step",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--checkpoint", default="shakespeare", help="a name in checkpoints/ (%(default)s)")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 16], metavar="N", help="sequences in a step (1 16)")
    parser.add_argument("--int8", action="store_true", help="products of 8-bit whole numbers")
    options = parser.parse_args(arguments)
    import numpy as np
    import torch

    from gpt import load_checkpoint
    from gpt.compiled.compiled_model import CompiledModel, Row
    from gpt.compiled.kernel import kernel
    from gpt.compiled.layers import embed, norm, remember
    from gpt.compiled.panel import WIDTH
    from gpt.compiled.team import ATTEND, DRAW, HEAD, LINEAR1, LINEAR2, OUT_PROJ, QKV, perform

    torch.set_num_threads(1)
    model = load_checkpoint(ROOT / "checkpoints" / options.checkpoint).model.eval()
    config = model.config

    @kernel
    def norms(state, rows, times):
        s = state[0]
        for _ in range(times):
            for row in range(rows):
                norm(s, 0, row, row)

    @kernel
    def rest(state, rows, times):
        s = state[0]
        for _ in range(times):
            for row in range(rows):
                embed(s, row)
                for layer in range(s.num_layers):
                    remember(s, layer, row)

    @kernel
    def part(state, kind, rows, items, times):
        s = state[0]
        for _ in range(times):
            perform(s, kind, 0, rows, 0, 0, items)

    def panels(columns: int) -> int:
        return -(-columns // WIDTH)

    width, inner, layers = config.embed_dim, config.feedforward_dim or 4 * config.embed_dim, config.num_layers
    products = {
        "queries, keys, values": (QKV, panels(3 * width), layers, width),
        "output projection": (OUT_PROJ, panels(width), layers, width),
        "feed-forward, first": (LINEAR1, panels(inner), layers, width),
        "feed-forward, second": (LINEAR2, panels(width), layers, inner),
        "head": (HEAD, panels(config.vocab_dim), 1, width),
    }
    array = np.zeros(panels(config.vocab_dim) * WIDTH * width // 4)  # as large as the head at half precision
    array.sum()
    started = time.perf_counter()
    for _ in range(50):
        array.sum()
    bandwidth = 50 * array.nbytes / (time.perf_counter() - started)
    print(f"bandwidth of summing {array.nbytes / 1e6:.1f} MB: {bandwidth / 1e9:.0f} GB/s")
    for rows in options.rows:
        fast = CompiledModel(model, rows, rows, int8=options.int8)
        settings, state = (0.8, 50, 1.0, 0.0), fast._state
        for place in range(PLACE):
            fast.advance([Row(slot, place, [7 * place + slot], settings, [0.5]) for slot in range(rows)])

        def us(work, *given, state=state, rows=rows) -> float:
            work(state, *given, 1)
            times = 200 if rows < 4 else 50
            started = time.perf_counter()
            work(state, *given, times)
            return 1e6 * (time.perf_counter() - started) / times

        started = time.perf_counter()
        for _ in range(50):
            fast.advance([Row(slot, PLACE, [slot], settings, [0.5]) for slot in range(rows)])
        whole = 1e6 * (time.perf_counter() - started) / 50
        table = f"{options.checkpoint}, {rows} row{'s' if rows > 1 else ''} at token {PLACE}"
        print(f"\n{table}")
        print(f"{'microseconds':<26} time   floor")
        total = 0.0
        for name, (kind, items, count, depth) in products.items():
            spent = count * us(part, kind, rows, items)
            total += spent
            floor = 1e6 * count * items * WIDTH * depth * (1 if options.int8 else 2) / bandwidth
            print(f"{name:<26} {spent:5.1f}  {floor:6.1f}")
            record.row(table, name, "us", [spent], floor=floor)
        for name, spent in {
            "attention": layers * us(part, ATTEND, rows, rows * config.num_heads),
            "norms": (2 * layers + 1) * us(norms, rows),
            "embedding, cache": us(rest, rows),
            "draw (top_k 50)": us(part, DRAW, rows, rows),
        }.items():
            total += spent
            print(f"{name:<26} {spent:5.1f}")
            record.row(table, name, "us", [spent])
        print(f"{'the parts':<26} {total:5.1f}\n{'a step, called from Python':<26} {whole:5.1f}")
        record.row(table, "a step, called from Python", "us", [whole])
