"""How the cost of a token grows: with the text's length, the streams, the layers, the vocabulary, and the whole model.

The engine's compiled path, random weights at half precision, 2 threads or as many as --threads says. Each line of the
last table is a process of its own: tokens a second of one stream and of 16, the seconds from starting the process to
the first token (which PyTorch makes) and until the compiled path is ready, and the most memory held.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import subprocess
import sys
import time
from pathlib import Path

BASE = {"vocab_dim": 50257, "sequence_dim": 1024, "embed_dim": 78, "num_heads": 13, "num_layers": 4}
CURVES: dict[str, tuple[int, ...]] = {
    "num_layers": (1, 2, 4, 8, 16),
    "vocab_dim": (256, 4096, 16384, 50257, 131072),
    "embed_dim": (78, 156, 312, 624),
}
SIZES = {
    "laptop": {"vocab_dim": 1024, "sequence_dim": 64, "embed_dim": 128, "num_heads": 4, "num_layers": 4},
    "shakespeare": {**BASE, "sequence_dim": 100},
    "character": {"vocab_dim": 65, "sequence_dim": 256, "embed_dim": 384, "num_heads": 6, "num_layers": 6},
    "gpt2": {"vocab_dim": 50257, "sequence_dim": 1024, "embed_dim": 768, "num_heads": 12, "num_layers": 12},
}


def run(arguments: list[str]) -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks scale",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="(%(default)s)")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES), help="models of the last table (all)")
    parser.add_argument("--serve", choices=SIZES, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        _serve(options.serve, options.threads)
        return
    for name, values in CURVES.items():
        costs = [_token_us({**BASE, name: value}, options.threads, 1, 50) for value in values]
        _print(name, values, costs)
    lengths = (1, 64, 256, 512, 1000)
    _print("tokens before it", lengths, [_token_us(BASE, options.threads, 1, length) for length in lengths])
    streams = (1, 2, 4, 8, 16, 32, 64)
    costs = [_token_us(BASE, options.threads, count, 50) for count in streams]
    _print("streams, a step", streams, costs)
    _print("streams, a token", streams, [cost / count for cost, count in zip(costs, streams, strict=True)])
    print(f"\n{'':<12} parameters  one stream  16 streams  first token  compiled     memory")
    for size in options.sizes:
        command = [
            sys.executable,
            "-m",
            "tests.benchmarks",
            "scale",
            "--serve",
            size,
            "--threads",
            str(options.threads),
        ]
        started = time.time()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        parameters, one, many, first, ready, memory = (float(word) for word in done.stdout.split())
        print(
            f"{size:<12} {parameters / 1e6:8.1f} M {one:9.0f}/s {many:9.0f}/s {first - started:10.1f} s "
            f"{ready - started:8.1f} s {memory / 1e6:7.2f} GB"
        )


def _print(name: str, values: tuple[int, ...], costs: list[float]) -> None:
    print(f"\n{name:<18}" + "".join(f"{value:>9}" for value in values))
    print(f"{'microseconds':<18}" + "".join(f"{cost:9.0f}" for cost in costs))


def _model(sizes: dict[str, int]):
    import torch

    from gpt import GPT, GPTConfig

    torch.manual_seed(0)
    model = GPT.from_config(dataclasses.replace(GPTConfig(**BASE, dropout=0.0), **sizes)).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half())
    return model


def _token_us(sizes: dict[str, int], threads: int, streams: int, place: int) -> float:
    """Microseconds of a step behind so many tokens."""
    from gpt.compiled.compiled_model import CompiledModel, Row

    fast = CompiledModel(_model(sizes), streams, streams + 128, threads)
    for slot in range(streams):
        for start in range(0, place, 128):
            fast.advance([Row(slot, start, [1] * min(128, place - start), None, [])])
    rows = [Row(slot, place, [slot], (0.8, 50, 1.0, 0.0), [0.5]) for slot in range(streams)]
    seconds = []
    for _ in range(30):
        started = time.perf_counter()
        fast.advance(rows)
        seconds.append(time.perf_counter() - started)
    fast.close()
    return 1e6 * statistics.median(seconds)


def _serve(size: str, threads: int) -> None:
    from gpt.engine import Engine

    model = _model(SIZES[size])
    engine = Engine(model, num_threads=threads)
    next(engine.submit([1] * 10, max_new_tokens=1))
    first = time.time()
    while engine.path != "compiled":
        list(engine.submit([1] * 10, max_new_tokens=2))
    ready = time.time()
    new_tokens = min(50, SIZES[size]["sequence_dim"] - 10)
    rates = []
    for streams in (1, 16):
        started = time.perf_counter()
        for stream in [engine.submit([1] * 10, max_new_tokens=new_tokens, seed=n) for n in range(streams)]:
            list(stream)
        rates.append(streams * new_tokens / (time.perf_counter() - started))
    # Not getrusage's figure, which begins with what the parent held.
    [memory] = [line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line]
    print(model.num_parameters(), *rates, first, ready, memory)
    engine.close()
