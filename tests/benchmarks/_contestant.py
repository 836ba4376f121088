"""Contestants: processes that do the same work in turn, so that what else the machine does meets them alike."""

from __future__ import annotations

import importlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.benchmarks._record import Record

Peer = tuple[str, str, int]
"""Runtime, variant and number of threads."""
Work = Callable[[int], float | None]
"""Does a round's work, given its number; seconds to its first result, if that is of interest."""


class ContestantError(RuntimeError):
    """A contestant's process has ended before its time."""


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
        self._name = " ".join(arguments)
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            self.measure(), self.measure()  # warm up
        except ContestantError as error:
            raise ImportError(str(error)) from None

    def measure(self) -> tuple[float, float, float]:
        """Seconds of one round: by the clock, of processor time, and to the first result (0 if not of interest).

        Raises:
            ContestantError: the process has ended; the message is what it said last.
        """
        assert self._process.stdin and self._process.stdout
        try:
            print(file=self._process.stdin, flush=True)
            clock, processor, first = self._process.stdout.readline().split()
        except (BrokenPipeError, ValueError):
            said = self._process.communicate()[1].strip().splitlines()
            raise ContestantError(said[-1] if said else f"{self._name} ended without a word") from None
        return float(clock), float(processor), float(first)

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def gather(module: str, wanted: Sequence[Peer], record: Record, *arguments: str) -> dict[Peer, Contestant]:
    """The peers that can run here, warm; as many get ready at a time as there are cores.

    Args:
        module: whose `make` takes a peer's runtime, variant and threads, and the arguments behind them.
        wanted: in the order of the result.
        record: is told which are missing.
        arguments: more of them.
    """

    def start(peer: Peer) -> Contestant | str:
        try:
            return Contestant(module, *(str(part) for part in peer), *arguments)
        except ImportError as error:
            return str(error)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        started = dict(zip(wanted, pool.map(start, wanted), strict=True))
    reasons = {f"{name} {variant}": found for (name, variant, _), found in started.items() if isinstance(found, str)}
    for name, reason in reasons.items():
        record.missing(name, reason)
    return {peer: found for peer, found in started.items() if isinstance(found, Contestant)}


def in_turn(contestants: Mapping[Peer, Contestant], rounds: int, seconds: dict[Peer, list[float]]) -> None:
    """Let them take turns, then end them; every complete round adds a number to each one's `seconds`."""
    for _ in range(rounds):
        measured = {peer: contestant.measure()[0] for peer, contestant in contestants.items()}
        for peer, clock in measured.items():
            seconds.setdefault(peer, []).append(clock)
    for contestant in contestants.values():
        contestant.close()


def at_their_best(seconds: Mapping[Peer, list[float]]) -> dict[tuple[str, str], tuple[int, list[float]]]:
    """By runtime and variant the number of threads with the lowest median, and its seconds."""
    best: dict[tuple[str, str], tuple[int, list[float]]] = {}
    for (name, variant, threads), measured in seconds.items():
        kept = best.get((name, variant))
        if kept is None or statistics.median(measured) < statistics.median(kept[1]):
            best[name, variant] = threads, measured
    return best


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
