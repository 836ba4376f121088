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

from tests.benchmarks._contestant import Contestant, Work, in_turn

PROMPT_TOKENS, NEW_TOKENS = 10, 90
PEERS = (
    ("engine", "compiled"),
    ("engine", "PyTorch"),
    ("transformers", "float32"),
    ("ctranslate2", "float32"),
    ("ctranslate2", "int8"),
    ("ctranslate2", "float32, workers"),
    ("ctranslate2", "int8, workers"),
)
"""Runtime and variant; with workers, each thread has a batch of its own, an even share of the streams."""


def run(arguments: list[str]) -> None:
    """Measure, and print rates, ratios and the engine under load."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks streams",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--streams", type=int, nargs="+", default=[16, 64], metavar="N", help="at once (16 64)")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="batches of each (%(default)s)")
    options = parser.parse_args(arguments)
    for streams in options.streams:
        _compare(streams, options.rounds)
        _load(streams)


def _compare(streams: int, rounds: int) -> None:
    cores = os.cpu_count() or 1
    contestants: dict[tuple[str, str, int], Contestant] = {}
    for name, variant in PEERS:
        for threads in dict.fromkeys((cores,) if variant.endswith("workers") else (1, cores)):
            try:
                contestants[name, variant, threads] = Contestant(__name__, name, variant, str(threads), str(streams))
            except ImportError as error:
                print(f"without {name} {variant}: {error}")
                break
    measured = in_turn(list(contestants.values()), rounds)
    best: dict[tuple[str, str], tuple[int, list[float]]] = {}
    for (name, variant, threads), each in zip(contestants, measured, strict=True):
        seconds = [clock for clock, _, _ in each]
        if (name, variant) not in best or statistics.median(seconds) < statistics.median(best[name, variant][1]):
            best[name, variant] = threads, seconds
    ours = best["engine", "compiled"][1]
    print(f"\n{f'{streams} streams':<30} threads  tokens/s  engine / it")
    for (name, variant), (threads, seconds) in best.items():
        ratio = statistics.median(s / mine for s, mine in zip(seconds, ours, strict=True))
        rate = statistics.median(streams * NEW_TOKENS / s for s in seconds)
        print(f"{name + ' ' + variant:<30} {threads:7} {rate:9.0f} {ratio:12.2f}")


def make(name: str, variant: str, threads: str, streams: str) -> Work:
    """A batch a round; in the contestant's process."""
    from tests.benchmarks._peers import make_peer

    generate = make_peer(name, variant, int(threads))

    def work(number: int) -> None:
        draws = random.Random(number)
        generate([draws.choices(range(50257), k=PROMPT_TOKENS) for _ in range(int(streams))], NEW_TOKENS, number)

    return work


def _load(streams: int) -> None:
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
