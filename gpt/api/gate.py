"""Gate: how many requests are worked on at once, and how many wait."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque

from gpt.api.metrics import Metrics
from gpt.api.refusal import Refusal


class Gate:
    """Lets requests in, in the order in which they came; for one event loop.

    Args:
        metrics: told how many run and wait.
        max_running, max_waiting: requests.
    """

    def __init__(self, metrics: Metrics, max_running: int = 16, max_waiting: int = 64) -> None:
        self._metrics = metrics
        self._max_running, self._max_waiting = max_running, max_waiting
        self._running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> None:
        """Wait for a place, which `leave` gives back; cancelling gives up waiting.

        Raises:
            Refusal: 429, too many wait already.
        """
        if self._running < self._max_running:
            self._running += 1
        else:
            if len(self._waiting) >= self._max_waiting:
                raise Refusal(
                    429,
                    f"{self._running} requests are running and {len(self._waiting)} are waiting, which is all that is "
                    "taken; try again in a moment",
                    code="rate_limit_exceeded",
                )
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            self._show()
            try:
                await turn  # the place is handed over, never free in between
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self.leave()
                else:
                    with contextlib.suppress(ValueError):
                        self._waiting.remove(turn)
                    self._show()
                raise
        self._show()

    def leave(self) -> None:
        """Give the place to whoever waits longest."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                break
        else:
            self._running -= 1
        self._show()

    def _show(self) -> None:
        self._metrics.running.set(self._running)
        self._metrics.waiting.set(len(self._waiting))
