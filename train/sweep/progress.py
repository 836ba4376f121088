"""SweepProgress: how far a sweep is, and how long it will take, on standard error."""

from __future__ import annotations

import shutil
import statistics
import sys
import time
from pathlib import Path

from train.report import read_report

# What a run takes besides its training, until that is known: start, tokenizer, figures.
OVERHEAD_S = 15.0


class SweepProgress:
    """A line for each run, and at a terminal one below that moves.

    Args:
        count: the sweep's runs.
        missing: those that are not finished.
        budget_s: seconds of training of each; 0 if they are not known.
    """

    def __init__(self, count: int, missing: int, budget_s: float) -> None:
        self._count = count
        self._left = missing
        self._expected_s = budget_s + OVERHEAD_S if budget_s else None
        self._taken: list[float] = []
        self._name = ""
        self._began_at = 0.0

    def begin(self, name: str) -> None:
        """A run begins, or is taken up."""
        self._name, self._began_at = name, time.monotonic()
        self._show(f"{self._place()}{self._time_left()}")

    def tick(self, folder: Path, max_steps: int) -> None:
        """Look at its folder, where a person looks on."""
        if sys.stderr.isatty():
            report = read_report(folder)
            state = report.state if report.is_active else "starting"
            self._show(f"{self._place()}, {state}, step {report.step:,} of {max_steps:,}{self._time_left()}")

    def end(self, words: str) -> None:
        """The run has ended, as the words say."""
        place = self._place()
        self._taken.append(time.monotonic() - self._began_at)
        self._left -= 1
        self._expected_s = statistics.mean(self._taken)
        self._show(f"{place}: {words}", moves=False)

    def _place(self) -> str:
        return f"{self._count - self._left + 1} of {self._count}: {self._name}"

    def _time_left(self) -> str:
        if self._expected_s is None:
            return ""
        this_s = max(0.0, self._expected_s - (time.monotonic() - self._began_at))
        minutes = (this_s + (self._left - 1) * self._expected_s) / 60
        return f"; about {minutes:.0f} minutes left" if minutes >= 1.5 else "; about a minute left"

    def _show(self, text: str, *, moves: bool = True) -> None:
        if not sys.stderr.isatty():
            print(text, file=sys.stderr, flush=True)
            return
        width = shutil.get_terminal_size().columns - 1
        print(f"\r{(text[:width] if moves else text):<{width}}", end="" if moves else "\n", file=sys.stderr, flush=True)
