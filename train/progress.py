"""Progress: one line on standard error that says how far a long preparation is."""

from __future__ import annotations

import sys
import time

SHOWN_EVERY_S = 0.2
# Where nobody looks on, in a log: a line for each of so many parts.
LOGGED_PARTS = 4


class Progress:
    """A line that is written over itself at a terminal, and a few lines elsewhere.

    Args:
        words: what is being done, as "Fetching NAME".
    """

    def __init__(self, words: str) -> None:
        self._words = words
        self._shown_at = 0.0
        self._logged = -1

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` of `total` is done."""
        share = done / total if total else 1.0
        if sys.stderr.isatty():
            if time.monotonic() - self._shown_at > SHOWN_EVERY_S or done >= total:
                self._shown_at = time.monotonic()
                print(f"\r{self._words}: {share:4.0%}", end="", file=sys.stderr, flush=True)
        elif (part := int(share * LOGGED_PARTS)) > self._logged:
            self._logged = part
            print(f"{self._words}: {part / LOGGED_PARTS:.0%}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """End the line."""
        if self._shown_at:
            print(file=sys.stderr)
