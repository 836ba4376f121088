"""StopRequest: Ctrl-C and SIGTERM end a run between two steps, so that it can be saved."""

from __future__ import annotations

import contextlib
import os
import signal
import types
from collections.abc import Iterator


class StopRequest:
    """Whether Ctrl-C or SIGTERM asked for a stop; the second one raises KeyboardInterrupt at once.

    Args:
        tells: whether it says so on standard error.
    """

    def __init__(self, tells: bool) -> None:
        self.asked = False
        self._tells = tells

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take the two signals while the block runs."""
        before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def end_at_once(self) -> None:
        """Raise KeyboardInterrupt if a stop was asked for: where there is nothing to save yet."""
        if self.asked:
            raise KeyboardInterrupt

    def _ask(self, number: int, frame: types.FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        if self._tells:
            # Not print: the signal may come in the middle of one.
            with contextlib.suppress(OSError):
                os.write(2, b"\nstopping at the next step, and saving; once more ends at once\n")
