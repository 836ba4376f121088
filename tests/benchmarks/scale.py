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
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.benchmarks._record import Record

BASE = {"vocab_dim": 50257, "sequence_dim": 1024, "embed_dim": 78, "num_heads": 13, "num_layers": 4}
CURVES: dict[str, tuple[int, ...]] = {
    "num_layers": (1, 2, 4, 8, 16),
    "vocab_dim": (256, 4096, 16384, 50257, 131072),
    "embed_dim": (78, 156, 312, 624),
}
LENGTHS = (1, 64, 256, 512, 1000)
STREAMS = (1, 2, 4, 8, 16, 32, 64)
SIZES = {
    "laptop": {"vocab_dim": 1024, "sequence_dim": 64, "embed_dim": 128, "num_heads": 4, "num_layers": 4},
    "shakespeare": {**BASE, "sequence_dim": 100},
    "character": {"vocab_dim": 65, "sequence_dim": 256, "embed_dim": 384, "num_heads": 6, "num_layers": 6},
    "gpt2": {"vocab_dim": 50257, "sequence_dim": 1024, "embed_dim": 768, "num_heads": 12, "num_layers": 12},
}


QUICK = ("--short", "--sizes", "laptop", "shakespeare")


def run(arguments: list[str], record: Record) -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks scale",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="(%(default)s)")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES), help="models of the last table (all)")
    parser.add_argument("--short", action="store_true", help="three values of each curve, and fewer steps")
    parser.add_argument("--serve", choices=SIZES, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        _serve(options.serve, options.threads)
        return
    for name, values in CURVES.items():
        models = (({**BASE, name: value}, 1, 50) for value in values)
        _curve(name, values, models, options, record)
    _curve("tokens before it", LENGTHS, ((BASE, 1, length) for length in LENGTHS), options, record)
    _curve("streams", STREAMS, ((BASE, count, 50) for count in STREAMS), options, record)
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
        for name, unit, value in (
            ("one stream", "tokens/s", one),
            ("16 streams", "tokens/s", many),
            ("first token", "s", first - started),
            ("compiled", "s", ready - started),
            ("memory", "GB", memory / 1e6),
        ):
            record.row("scale: whole models", f"{size}, {name}", unit, [value], parameters=parameters)


def _curve(
    name: str,
    values: Sequence[int],
    cases: Iterable[tuple[dict[str, int], int, int]],
    options: argparse.Namespace,
    record: Record,
) -> None:
    """Measure and print what a step costs, by value: with a model's sizes, so many streams, behind so many tokens."""
    chosen = list(zip(values, cases, strict=True))
    if options.short:
        chosen = [chosen[0], chosen[len(chosen) // 2], chosen[-1]]
    costs = []
    for value, (sizes, streams, place) in chosen:
        each = _step_us(sizes, options.threads, streams, place, 10 if options.short else 30)
        record.row(f"scale: {name}", str(value), "us a step", each, streams=streams)
        costs.append((value, streams, statistics.median(each)))
    print(f"\n{name:<18}" + "".join(f"{value:>9}" for value, _, _ in costs))
    print(f"{'microseconds':<18}" + "".join(f"{cost:9.0f}" for _, _, cost in costs), flush=True)
    if name == "streams":
        print(f"{'of each token':<18}" + "".join(f"{cost / streams:9.0f}" for _, streams, cost in costs), flush=True)


def _model(sizes: dict[str, int]):
    import torch

    from gpt import GPT, GPTConfig

    torch.manual_seed(0)
    model = GPT.from_config(dataclasses.replace(GPTConfig(**BASE, dropout=0.0), **sizes)).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half())
    return model


def _step_us(sizes: dict[str, int], threads: int, streams: int, place: int, steps: int) -> list[float]:
    """Microseconds of each of some steps behind so many tokens."""
    from gpt.compiled.compiled_model import CompiledModel, Row

    fast = CompiledModel(_model(sizes), streams, streams + 128, threads)
    for slot in range(streams):
        for start in range(0, place, 128):
            fast.advance([Row(slot, start, [1] * min(128, place - start), None, [])])
    rows = [Row(slot, place, [slot], (0.8, 50, 1.0, 0.0), [0.5]) for slot in range(streams)]
    seconds = []
    for _ in range(steps):
        started = time.perf_counter()
        fast.advance(rows)
        seconds.append(time.perf_counter() - started)
    fast.close()
    return [1e6 * each for each in seconds]


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
