"""Self-attention beside torch.nn.MultiheadAttention(need_weights=False), with the same weights, in training mode.

Both run in this process, in turn, so that what else the machine does falls on both; each turn gives one ratio, torch's
time divided by ours, and the table the median of these. A ratio above 1 means that ours is faster. torch's module needs
the causal mask beside `is_causal`; it is made once, outside the measured time.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from gpt.attention import MultiheadAttention
from tests.benchmarks._record import Record

SHAPES = ((64, 100, 78, 13), (16, 256, 384, 6))  # batch, length, embed_dim, num_heads
QUICK = ("--turns", "5")


def run(arguments: list[str], record: Record) -> None:
    """Measure both shapes, with and without causality, forward alone and with the backward pass."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks attention", description=__doc__)
    parser.add_argument("--turns", type=int, default=30, metavar="N", help="measurements of each (%(default)s)")
    parser.add_argument("--threads", type=int, metavar="N", help="torch's threads (all cores)")
    parser.add_argument(
        "--dropout", type=float, default=0.0, metavar="P", help="on the attention weights (%(default)s)"
    )
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, float32, dropout {options.dropout:g}")
    print("milliseconds, median (min..max) of", options.turns, "turns")
    print(f"{'batch x length x embed, heads':<30} {'mask':<7} {'pass':<10} {'torch':>22} {'ours':>22} {'ratio':>6}")
    slower = 0
    for shape in SHAPES:
        for causal in (False, True):
            for backward in (False, True):
                theirs, ours = _measure(shape, causal, backward, options.dropout, options.turns)
                ratio = statistics.median(a / b for a, b in zip(theirs, ours, strict=True))
                slower += ratio < 1
                name = "{} x {} x {}, {}".format(*shape)
                steps = "+ backward" if backward else "forward"
                mask = "causal" if causal else "none"
                for whose, seconds in (("torch", theirs), ("ours", ours)):
                    record.row(name, f"{whose}, mask {mask}, {steps}", "ms", [1000 * each for each in seconds])
                print(
                    f"{name:<30} {mask:<7} {steps:<10} {_summary(theirs):>22} {_summary(ours):>22} {ratio:6.2f}",
                    flush=True,
                )
    print("ours is at least as fast in all" if not slower else f"ours is slower in {slower} of {4 * len(SHAPES)}")


def _measure(
    shape: tuple[int, int, int, int], causal: bool, backward: bool, dropout: float, turns: int
) -> tuple[list[float], list[float]]:
    """Seconds of each turn, torch's and ours; which of them begins changes from turn to turn."""
    batch, length, embed_dim, num_heads = shape
    theirs = nn.MultiheadAttention(embed_dim, num_heads, dropout, batch_first=True)
    ours = MultiheadAttention(embed_dim, num_heads, dropout)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(batch, length, embed_dim, requires_grad=True)
    gradient = torch.randn_like(x)
    mask = torch.ones(length, length, dtype=torch.bool).triu(1) if causal else None
    contestants: list[tuple[list[float], Callable[[], Tensor]]] = [
        ([], lambda: theirs(x, x, x, need_weights=False, attn_mask=mask, is_causal=causal)[0]),
        ([], lambda: ours(x, x, x, need_weights=False, is_causal=causal)[0]),
    ]
    for turn in range(turns + 2):
        for seconds, forward in contestants[:: 1 if turn % 2 else -1]:
            started = time.perf_counter()
            output = forward()
            if backward:
                output.backward(gradient)
            seconds.append(time.perf_counter() - started)
    return contestants[0][0][2:], contestants[1][0][2:]  # the first two turns warm up


def _summary(seconds: list[float]) -> str:
    """Median, minimum and maximum, in milliseconds."""
    median, low, high = (1000 * value for value in (statistics.median(seconds), min(seconds), max(seconds)))
    return f"{median:.1f} ({low:.1f}..{high:.1f})"
