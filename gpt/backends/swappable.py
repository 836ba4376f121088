"""SwappableBackend: the live backend, exchanged while it serves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from typing import TypeVar

from gpt.completion import (
    BackendInfo,
    CompletionBackend,
    CompletionChunk,
    CompletionRequest,
    ScoredToken,
    ScoringBackend,
)
from gpt.errors import BackendClosedError, RequestError

Item = TypeVar("Item")


class _Use:
    """A backend and the number of its open streams."""

    def __init__(self, backend: CompletionBackend) -> None:
        self.backend = backend
        self.streams = 0


class SwappableBackend:
    """Passes requests to the backend that is live when they come; a CompletionBackend, for any number of threads.

    Args:
        backend: the first one.
    """

    def __init__(self, backend: CompletionBackend) -> None:
        self._live = _Use(backend)
        self._retired: set[_Use] = set()  # replaced, with streams still open
        self._closed = False
        # Reentrant: a garbage collection inside it may end a stream that was forgotten.
        self._lock = threading.RLock()

    def swap(self, backend: CompletionBackend) -> None:
        """Send new requests to `backend` from now on; the old one is closed when its last stream ends.

        Load it first: then a failure changes nothing.

        Raises:
            BackendClosedError: this was closed; `backend` is left open.
        """
        with self._lock:
            if self._closed:
                raise BackendClosedError("the application is shutting down; no checkpoint can be put to use any more")
            old, self._live = self._live, _Use(backend)
            unused = not old.streams
            if not unused:
                self._retired.add(old)
        if unused:
            old.backend.close()

    def stream(self, request: CompletionRequest) -> Generator[CompletionChunk, None, None]:
        """Yield the live backend's chunks; what it raises at once is raised at once."""
        return self._open(lambda backend: backend.stream(request), CompletionChunk(""))

    def score(self, request: CompletionRequest) -> Generator[tuple[ScoredToken, ...], None, None]:
        """Yield the prompt's tokens as the live backend scores them.

        Raises:
            RequestError: it cannot score, or as ScoringBackend says.
        """

        def scores(backend: CompletionBackend) -> Generator[tuple[ScoredToken, ...], None, None]:
            if not isinstance(backend, ScoringBackend):
                raise RequestError(
                    f"the log-probabilities of a prompt are not to be had from {backend.info().name}, which runs "
                    "elsewhere; choose a checkpoint of this machine"
                )
            return backend.score(request)

        return self._open(scores, ())

    def info(self) -> BackendInfo:
        """What the live backend is."""
        return self._live.backend.info()

    def is_busy(self) -> bool:
        """Whether a stream is open."""
        with self._lock:
            return any(use.streams for use in (self._live, *self._retired))

    def close(self) -> None:
        """Close the live backend and those that still finish streams. Closing twice is fine."""
        with self._lock:
            self._closed = True
            uses = [self._live, *self._retired]
            self._retired.clear()
        for use in uses:
            use.backend.close()

    def _open(
        self, begin: Callable[[CompletionBackend], Generator[Item, None, None]], first: Item
    ) -> Generator[Item, None, None]:
        """What the live backend begins to yield; the backend stays open as long as it does."""
        with self._lock:
            use = self._live
            use.streams += 1
        try:
            inner = begin(use.backend)
        except BaseException:
            self._release(use)
            raise
        items = self._items(use, inner, first)
        next(items)
        return items

    def _items(self, use: _Use, inner: Generator[Item, None, None], first: Item) -> Generator[Item, None, None]:
        """One item that `_open` takes, so that a generator which is closed before its first one counts too."""
        try:
            yield first
            yield from inner
        finally:
            inner.close()
            self._release(use)

    def _release(self, use: _Use) -> None:
        with self._lock:
            use.streams -= 1
            last = use in self._retired and not use.streams
            if last:
                self._retired.remove(use)
        if last:
            use.backend.close()
