"""Many streams of text at once: the engine beside runtimes that batch, same weights, same settings.

checkpoints/shakespeare, temperature 0.8, top_k 50. First all streams alike (10 tokens read, 90 written), which is what
the others can do as one batch: tokens a second of all streams together. Then the engine alone under load: prompts of
1 to 90 tokens, 10 to 150 new ones, different settings, joining while others run; the time to the first token of each,
and how evenly the streams are served: the slowest stream's tokens a second over the median's.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import threading
import time

from tests.benchmarks._contestant import Peer, Work, at_their_best, gather, in_turn, median_ratio
from tests.benchmarks._record import Record

PROMPT_TOKENS, NEW_TOKENS = 10, 90
PEERS = (
    ("engine", "compiled"),
    ("engine", "int8"),
    ("engine", "PyTorch"),
    ("transformers", "float32"),
    ("ctranslate2", "float32"),
    ("ctranslate2", "int8"),
    ("ctranslate2", "float32, workers"),
    ("ctranslate2", "int8, workers"),
)
"""Runtime and variant; with workers, each thread has a batch of its own, an even share of the streams."""


QUICK = ("--streams", "16", "--rounds", "2", "--threads", "2", "--peers", "engine", "ctranslate2")


def run(arguments: list[str], record: Record) -> None:
    """Measure, and print rates, ratios and the engine under load."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks streams",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    cores = os.cpu_count() or 1
    names = ", ".join(dict.fromkeys(name for name, _ in PEERS))
    parser.add_argument("--streams", type=int, nargs="+", default=[16, 64], metavar="N", help="at once (16 64)")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="batches of each (%(default)s)")
    parser.add_argument("--peers", nargs="+", metavar="NAME", help=f"only these, of {names}")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, cores], metavar="N", help=f"of each (1 {cores})")
    options = parser.parse_args(arguments)
    chosen = [peer for peer in PEERS if not options.peers or peer[0] in options.peers]
    wanted = [
        (*peer, threads)
        for peer in chosen
        for threads in dict.fromkeys(options.threads)
        if threads > 1 or not peer[1].endswith("workers")
    ]
    for streams in options.streams:
        seconds: dict[Peer, list[float]] = {}
        try:
            in_turn(gather(__name__, wanted, record, str(streams)), options.rounds, seconds)
        finally:
            _print(streams, seconds, record)
        _load(streams, record)


def _print(streams: int, seconds: dict[Peer, list[float]], record: Record) -> None:
    """A line for each runtime at its better number of threads, then the fastest of the others."""
    best = at_their_best(seconds)
    ours = best.get(("engine", "compiled"))
    print(f"\n{f'{streams} streams':<30} threads  tokens/s    min    max  engine / it")
    for (name, variant), (threads, measured) in best.items():
        rates = [streams * NEW_TOKENS / s for s in measured]
        ratio = f"{median_ratio(ours[1], measured):.2f}" if ours else ""
        print(
            f"{name + ' ' + variant:<30} {threads:7} {statistics.median(rates):9.0f} {min(rates):6.0f} "
            f"{max(rates):6.0f} {ratio:>12}"
        )
        record.row(f"{streams} streams", f"{name} {variant}", "tokens/s", rates, threads=threads)
    others = {peer: statistics.median(measured) for peer, (_, measured) in best.items() if peer[0] != "engine"}
    if ours and others:
        fastest = min(others, key=others.__getitem__)
        print(
            f"the fastest of the others is {' '.join(fastest)}; "
            f"the engine is {median_ratio(ours[1], best[fastest][1]):.2f} times as fast"
        )


def make(name: str, variant: str, threads: str, streams: str) -> Work:
    """A batch a round; in the contestant's process."""
    from tests.benchmarks._peers import make_peer

    generate = make_peer(name, variant, int(threads))

    def work(number: int) -> None:
        draws = random.Random(number)
        generate([draws.choices(range(50257), k=PROMPT_TOKENS) for _ in range(int(streams))], NEW_TOKENS, number)

    return work


def _load(streams: int, record: Record) -> None:
    """The engine with all its streams taken, and as many requests again waiting."""
    from gpt import load_checkpoint
    from gpt.engine import Engine
    from gpt.sampling import SamplingParams
    from tests.benchmarks._peers import CHECKPOINT

    model = load_checkpoint(CHECKPOINT).model
    config = model.config
    cache = 8 * config.num_layers * config.embed_dim * (-(-config.sequence_dim // 16) * 16)
    print(f"cache of the engine: {cache / 1e3:.0f} kB a stream, {streams * cache / 1e6:.1f} MB in all")
    engine = Engine(model, max_streams=streams, max_queue=2 * streams, compiled=True)
    list(engine.submit([1] * 10))
    draws = random.Random(0)
    firsts, waits, rates = list[float](), list[float](), list[float]()
    total = [0]

    def consume(number: int) -> None:
        params = SamplingParams(
            temperature=draws.choice((0.5, 0.8, 1.2)), top_k=draws.choice((0, 20, 50)), top_p=draws.choice((0.9, 1.0))
        )
        prompt, new_tokens = draws.choices(range(50257), k=draws.randint(1, 90)), draws.randint(10, 150)
        asked = time.perf_counter()
        stream = engine.submit(prompt, params, new_tokens, number)
        next(stream)
        first = time.perf_counter()
        (firsts if number < streams else waits).append(first - asked)
        count = 1 + sum(1 for _ in stream)
        total[0] += count
        rates.append((count - 1) / (time.perf_counter() - first))

    started = time.perf_counter()
    threads = [threading.Thread(target=consume, args=(number,)) for number in range(2 * streams)]
    for thread in threads:
        thread.start()
        time.sleep(0.001)
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    engine.close()
    print(
        f"under load: {2 * streams} requests, {total[0] / seconds:.0f} tokens/s in all; first token after "
        f"{1e3 * statistics.median(firsts):.0f} ms (median; {1e3 * max(firsts):.0f} at most) where a place was free, "
        f"{1e3 * statistics.median(waits):.0f} ms with {streams} ahead; "
        f"slowest stream at {min(rates) / statistics.median(rates):.2f} of the median's speed"
    )
    table = f"{streams} streams under load"
    record.row(table, "all", "tokens/s", [total[0] / seconds])
    record.row(table, "first token, a place free", "ms", [1e3 * wait for wait in firsts])
    record.row(table, "first token, after the queue", "ms", [1e3 * wait for wait in waits])
    record.row(table, "a stream", "tokens/s", rates)
