"""Training by two processes under torchrun, a thread each, beside one process with two threads: the same global batch.

Both make the trainer's steps on this machine's cores, in turn; the ratio is the median over the rounds. The processes
average their gradients through gloo. Memory is the most that one process ever held; with two processes it is taken
twice.
"""

from __future__ import annotations

import argparse
import os
import sys

from tests.benchmarks._record import Record
from tests.benchmarks.training import SHAPES, Steps, make_trainer, print_rates, serve

RANKS = 2
QUICK = ("--rounds", "2", "--batch-size", "16")


def run(arguments: list[str], record: Record) -> None:
    """Measure both, and print medians, memory and the ratio."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks ranks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("preset", choices=SHAPES, nargs="?", default="shakespeare", help="whose model (%(default)s)")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="steps of each (%(default)s)")
    parser.add_argument("--batch-size", type=int, metavar="N", help="of both processes together (the preset's)")
    options = parser.parse_args(arguments)
    batch_size, length = options.batch_size or SHAPES[options.preset][0], SHAPES[options.preset][1]
    if batch_size % RANKS or batch_size < RANKS:
        parser.error(f"--batch-size is {batch_size}; give a multiple of {RANKS}, of which each process takes its part")
    one = [sys.executable]
    several = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={RANKS}"]
    contestants = {
        f"one process, {RANKS} threads": Steps(_command(one, options.preset, batch_size), _threads(RANKS)),
        f"{RANKS} processes, a thread each": Steps(_command(several, options.preset, batch_size // RANKS), _threads(1)),
    }
    rounds = list[list[tuple[float, float, int]]]()
    try:
        for _ in range(options.rounds):
            rounds.append([contestant.step() for contestant in contestants.values()])
        for contestant in contestants.values():
            contestant.close()
    finally:
        if rounds:
            table = f"ranks {options.preset}, {batch_size} x {length}"
            print_rates(list(contestants), rounds, batch_size * length, table, record)


def _command(launcher: list[str], preset: str, batch_size: int) -> list[str]:
    return [*launcher, "-m", "tests.benchmarks.ranks", preset, str(batch_size)]


def _threads(count: int) -> dict[str, str]:
    """The environment of processes with so many threads each."""
    return {**os.environ, "OMP_NUM_THREADS": str(count)}


def _serve(preset: str, batch_size: str) -> None:
    """Make a step for each line that comes in; the other processes wait for the first, which reads the lines."""
    from train.distributed import ProcessGroup

    processes = ProcessGroup(os.environ, "gloo")
    step = make_trainer(preset, "auto", int(batch_size), processes)

    def with_all() -> float:
        processes.broadcast(True)
        return step()

    if processes.is_main:
        serve(with_all)
        processes.broadcast(False)
    else:
        while processes.broadcast(False):
            step()
    processes.close()


if __name__ == "__main__":
    _serve(*sys.argv[1:])
