"""Relay: what blocking generators yield, for an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Generator
from typing import Generic, TypeVar

from starlette.requests import Request

Item = TypeVar("Item")


class Relay(Generic[Item]):
    """Runs generators, each in a thread of its own, and hands on what they yield; made where the event loop runs.

    Args:
        items: each is closed at its end, after an error, and within one of its steps after `close`.
    """

    def __init__(self, *items: Generator[Item, None, None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._arrived: asyncio.Queue[tuple[Item] | BaseException | None] = asyncio.Queue()
        self._closing = threading.Event()
        self._running = len(items)
        for one in items:
            threading.Thread(target=self._read, args=(one,), name="relay", daemon=True).start()

    def close(self) -> None:
        """Want nothing more. Closing twice, or at the end, is fine."""
        self._closing.set()

    async def items(self, idle_s: float) -> AsyncGenerator[Item | None, None]:
        """Yield what the generators yield as it comes, and None whenever `idle_s` seconds passed without anything.

        Raises:
            whatever one of them raised first.
        """
        while self._running:
            try:
                # Not asyncio.wait_for, which Python 3.11 lets forget that it was cancelled when an item comes just then
                async with asyncio.timeout(idle_s):
                    arrived = await self._arrived.get()
            except TimeoutError:
                yield None
                continue
            if arrived is None:
                self._running -= 1
                continue
            if isinstance(arrived, BaseException):
                raise arrived
            yield arrived[0]

    def _read(self, items: Generator[Item, None, None]) -> None:
        try:
            with contextlib.closing(items):
                for item in items:
                    self._put((item,))
                    if self._closing.is_set():
                        return
            self._put(None)
        except BaseException as error:  # handed to the reader, who raises it where somebody hears it
            self._put(error)

    def _put(self, arrived: tuple[Item] | BaseException | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody reads any more
            self._loop.call_soon_threadsafe(self._arrived.put_nowait, arrived)


async def disconnected(request: Request) -> None:
    """Wait until the client goes; for a request whose body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
