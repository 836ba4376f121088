"""What a draw costs, from 50,257 logits to a token, with every kind of filter: compiled, and in PyTorch's path.

Over rows of checkpoints/shakespeare's own logits behind its sonnets, and over nearly flat ones, which are the worst
case: there every token is about as probable as the next. Medians over the rows, in microseconds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks._record import Record

ROOT = Path(__file__).resolve().parents[2]
FILTERS: dict[str, dict[str, float]] = {
    "top_k 50 (the default)": {"top_k": 50},
    "top_k 50, top_p 0.9": {"top_k": 50, "top_p": 0.9},
    "top_k 50, top_p 0.9, min_p 0.05": {"top_k": 50, "top_p": 0.9, "min_p": 0.05},
    "top_k 50, min_p 0.05": {"top_k": 50, "min_p": 0.05},
    "top_k 1000": {"top_k": 1000},
    "top_p 0.9": {"top_k": 0, "top_p": 0.9},
    "top_p 0.9, min_p 0.05": {"top_k": 0, "top_p": 0.9, "min_p": 0.05},
    "min_p 0.05": {"top_k": 0, "min_p": 0.05},
    "temperature alone": {"top_k": 0},
    "greedy": {"temperature": 0},
}
QUICK = ("--rows", "16")


def run(arguments: list[str], record: Record) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks sampling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rows", type=int, default=64, metavar="N", help="rows of logits (%(default)s)")
    options = parser.parse_args(arguments)
    import torch

    from gpt import load_checkpoint
    from gpt.compiled import draw as compiled_draw
    from gpt.compiled.panel import WIDTH
    from gpt.sampling import SamplingParams, Uniforms, candidates, draw

    choose: Any = compiled_draw.choose
    torch.set_num_threads(1)
    checkpoint = load_checkpoint(ROOT / "checkpoints" / "shakespeare")
    ids = checkpoint.tokenizer.encode((ROOT / "data" / "sonnets.txt").read_text(encoding="utf-8")[:2000])[:100]
    with torch.inference_mode():
        logits = checkpoint.model(torch.tensor([ids]))[0, -options.rows :]
    flat = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0)) * 0.01
    print(f"{'microseconds a draw':<34} compiled, PyTorch   compiled, PyTorch (nearly flat)")
    for name, filters in FILTERS.items():
        params = SamplingParams(**filters)  # type: ignore[arg-type]
        found = []
        for rows in (logits, flat):
            padded = torch.nn.functional.pad(rows, (0, -rows.shape[1] % WIDTH), value=-torch.inf)
            # The head finds these while it multiplies.
            maxima = padded.view(len(rows), -1, WIDTH).amax(-1).numpy()
            arrays, uniforms = padded.numpy(), Uniforms(torch.Generator().manual_seed(0))
            numbers = uniforms.peek(len(rows))
            settings = (params.temperature, params.top_k, params.top_p, params.min_p)

            def compiled(row: int, arrays=arrays, maxima=maxima, numbers=numbers, settings=settings) -> object:
                return choose(arrays[row], maxima[row], *settings, numbers[row])

            def by_torch(row: int, rows=rows, params=params, uniforms=uniforms) -> object:
                return draw(candidates(rows[row : row + 1], [params])[0], params, uniforms)

            for path, work in (("compiled", compiled), ("PyTorch", by_torch)):
                costs = _costs_us(work, len(rows))
                found.append(statistics.median(costs))
                table = "a draw, nearly flat" if rows is flat else "a draw"
                record.row(table, name, "us", costs, path=path)
        print(f"{name:<34} {found[0]:8.0f} {found[1]:8.0f}   {found[2]:8.0f} {found[3]:8.0f}")


def _costs_us(work: Callable[[int], object], rows: int) -> list[float]:
    """Microseconds of each row's draw."""
    for row in range(min(rows, 5)):
        work(row)
    costs = []
    for row in range(rows):
        started = time.perf_counter()
        work(row)
        costs.append(1e6 * (time.perf_counter() - started))
    return costs
