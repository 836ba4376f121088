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

from tests.benchmarks._contestant import Contestant, Work, in_turn

PROMPT_TOKENS, NEW_TOKENS = 10, 90
PEERS = (
    ("engine", "compiled"),
    ("engine", "PyTorch"),
    ("transformers", "float32"),
    ("uncached", "float32"),
    ("ctranslate2", "float32"),
    ("ctranslate2", "int8"),
    ("llama.cpp", "f32"),
    ("llama.cpp", "f16"),
    ("floor", "half"),
)
"""Runtime and variant; "uncached" is a plain PyTorch loop without a cache, as nanoGPT's `generate` is; "floor" does
nothing but read what the engine's weights take at half precision, once a token."""


def run(arguments: list[str]) -> None:
    """Measure all of them, and print rates and ratios."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks decode",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=15, metavar="N", help="texts of each (%(default)s)")
    names = ", ".join(dict.fromkeys(name for name, _ in PEERS))
    parser.add_argument("--peers", nargs="+", metavar="NAME", help=f"only these, of {names}")
    options = parser.parse_args(arguments)
    cores = os.cpu_count() or 1
    contestants: dict[tuple[str, str, int], Contestant] = {}
    for name, variant in PEERS:
        if options.peers and name not in options.peers:
            continue
        for threads in dict.fromkeys((1, cores)):
            try:
                contestants[name, variant, threads] = Contestant(__name__, name, variant, str(threads))
            except ImportError as error:
                print(f"without {name} {variant}: {error}")
                break
    measured = in_turn(list(contestants.values()), options.rounds)
    seconds = {key: [clock for clock, _, _ in rounds] for key, rounds in zip(contestants, measured, strict=True)}
    _print(seconds)


def _print(seconds: dict[tuple[str, str, int], list[float]]) -> None:
    """A line for each runtime at its better number of threads, with how many times as fast the engine is."""
    best: dict[tuple[str, str], tuple[int, list[float]]] = {}
    for (name, variant, threads), measured in seconds.items():
        kept = best.get((name, variant))
        if kept is None or statistics.median(measured) < statistics.median(kept[1]):
            best[name, variant] = threads, measured
    ours = best.get(("engine", "compiled"))
    print(f"\n{'one stream':<24} threads  tokens/s    min    max  engine / it")
    for (name, variant), (threads, measured) in best.items():
        rates = [NEW_TOKENS / s for s in measured]
        ratio = ""
        if ours is not None:
            ratio = f"{statistics.median(s / mine for s, mine in zip(measured, ours[1], strict=True)):.2f}"
        print(
            f"{name + ' ' + variant:<24} {threads:7} {statistics.median(rates):9.0f} {min(rates):6.0f} "
            f"{max(rates):6.0f} {ratio:>12}"
        )


def make(name: str, variant: str, threads: str) -> Work:
    """A text a round; in the contestant's process."""
    import random

    from tests.benchmarks._peers import make_peer

    generate = make_peer(name, variant, int(threads))

    def work(number: int) -> None:
        prompt = random.Random(number).choices(range(50257), k=PROMPT_TOKENS)
        generate([prompt], NEW_TOKENS, number)

    return work
