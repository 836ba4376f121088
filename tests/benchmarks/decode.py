"""One stream of text on this machine's cores: the engine beside other runtimes, same weights, same settings.

checkpoints/shakespeare; a prompt of 10 tokens, 90 new ones, temperature 0.8, top_k 50; whole path, sampling included.
Each runtime has processes of its own, with one thread and with one a core, and all take turns, a text each in every
round. A ratio is the median over the rounds, each to the number of threads with which that runtime is faster on the
whole. Runtimes that are not installed are left out: `pip install -r requirements-benchmarks.txt` has them all.
"""

from __future__ import annotations

import argparse
import os
import statistics

from tests.benchmarks._contestant import Peer, Work, at_their_best, gather, in_turn, median_ratio
from tests.benchmarks._record import Record

PROMPT_TOKENS, NEW_TOKENS = 10, 90
PEERS = (
    ("engine", "compiled"),
    ("engine", "int8"),
    ("engine", "PyTorch"),
    ("transformers", "float32"),
    ("uncached", "float32"),
    ("ctranslate2", "float32"),
    ("ctranslate2", "int8"),
    ("llama.cpp", "f32"),
    ("llama.cpp", "f16"),
    ("onnxruntime", "float32"),
    ("onnxruntime", "int8"),
    ("floor", "half"),
)
"""Runtime and variant; "uncached" is a plain PyTorch loop without a cache, as nanoGPT's `generate` is; "floor" does
nothing but read what the engine's weights take at half precision, once a token."""


QUICK = ("--rounds", "3", "--threads", "1")


def run(arguments: list[str], record: Record) -> None:
    """Measure all of them, and print rates and ratios."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks decode",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=15, metavar="N", help="texts of each (%(default)s)")
    names = tuple(dict.fromkeys(name for name, _ in PEERS))
    parser.add_argument("--peers", nargs="+", choices=names, metavar="NAME", help=f"only these, of {', '.join(names)}")
    cores = os.cpu_count() or 1
    parser.add_argument("--threads", type=int, nargs="+", default=[1, cores], metavar="N", help=f"of each (1 {cores})")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error(f"--rounds is {options.rounds}; give at least 1")
    chosen = [peer for peer in PEERS if not options.peers or peer[0] in options.peers]
    wanted = [(*peer, threads) for peer in chosen for threads in dict.fromkeys(options.threads)]
    seconds: dict[Peer, list[float]] = {}
    try:
        in_turn(gather(__name__, wanted, record), options.rounds, seconds)
    finally:
        _print(seconds, record)


def _print(seconds: dict[Peer, list[float]], record: Record) -> None:
    """A line for each runtime at its better number of threads, with how many times as fast the engine is."""
    best = at_their_best(seconds)
    ours = best.get(("engine", "compiled"))
    print(f"\n{'one stream':<24} threads  tokens/s    min    max  engine / it")
    for (name, variant), (threads, measured) in best.items():
        rates = [NEW_TOKENS / s for s in measured]
        ratio = f"{median_ratio(ours[1], measured):.2f}" if ours else ""
        print(
            f"{name + ' ' + variant:<24} {threads:7} {statistics.median(rates):9.0f} {min(rates):6.0f} "
            f"{max(rates):6.0f} {ratio:>12}"
        )
        record.row("one stream", f"{name} {variant}", "tokens/s", rates, threads=threads)


def make(name: str, variant: str, threads: str) -> Work:
    """A text a round; in the contestant's process."""
    import random

    from tests.benchmarks._peers import make_peer

    generate = make_peer(name, variant, int(threads))

    def work(number: int) -> None:
        prompt = random.Random(number).choices(range(50257), k=PROMPT_TOKENS)
        generate([prompt], NEW_TOKENS, number)

    return work
