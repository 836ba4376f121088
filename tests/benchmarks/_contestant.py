"""Contestants: processes that do the same work in turn, so that what else the machine does meets them alike."""

from __future__ import annotations

import importlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

Work = Callable[[int], float | None]
"""Does a round's work, given its number; seconds to its first result, if that is of interest."""


class Contestant:
    """A process of its own, since native runtimes in one process disturb each other's threads.

    Args:
        module: has a function `make(*arguments) -> Work`; both are looked up in the process.
        arguments: of `make`, as text.

    Raises:
        ImportError: what it needs is not installed; the message is what the process said last.
    """

    def __init__(self, module: str, *arguments: str) -> None:
        command = [sys.executable, "-m", "tests.benchmarks._contestant", module, *arguments]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            self.measure(), self.measure()  # warm up
        except ValueError:
            said = self._process.communicate()[1].strip().splitlines()
            raise ImportError(said[-1] if said else "it ended without a word") from None

    def measure(self) -> tuple[float, float, float]:
        """Seconds of one round: by the clock, of processor time, and to the first result (0 if not of interest)."""
        assert self._process.stdin and self._process.stdout
        print(file=self._process.stdin, flush=True)
        clock, processor, first = self._process.stdout.readline().split()
        return float(clock), float(processor), float(first)

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def in_turn(contestants: Sequence[Contestant], rounds: int) -> list[list[tuple[float, float, float]]]:
    """What each measured, by contestant, the rounds in turn."""
    measured = [[contestant.measure() for contestant in contestants] for _ in range(rounds)]
    for contestant in contestants:
        contestant.close()
    return [list(column) for column in zip(*measured, strict=True)]


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """How many times our rate theirs is, given seconds: the median over the rounds."""
    return statistics.median(other / mine for mine, other in zip(ours, theirs, strict=True))


def serve(module: str, *arguments: str) -> None:
    """Do a round for each line that comes in; print its seconds."""
    work: Work = importlib.import_module(module).make(*arguments)
    for number, _ in enumerate(sys.stdin):
        started, started_processor = time.perf_counter(), time.process_time()
        first = work(number)
        print(time.perf_counter() - started, time.process_time() - started_processor, first or 0.0, flush=True)


if __name__ == "__main__":
    serve(*sys.argv[1:])
