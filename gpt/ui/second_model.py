"""SecondModel: the checkpoint that a text is compared with, beside the live one."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator
from pathlib import Path

from gpt.atomic import identity
from gpt.completion import BackendInfo, CompletionBackend, CompletionChunk, CompletionRequest


class SecondModel:
    """Loads a checkpoint when a text is first asked of it, and keeps it until nobody compares any more.

    There is one at a time: asking for another exchanges it, and texts under way finish on the old one.

    Args:
        load: makes a backend of a checkpoint's folder; raises CheckpointError.
    """

    def __init__(self, load: Callable[[Path], CompletionBackend]) -> None:
        self._load = load
        self._visitors: set[str] = set()
        self._loaded: _Loaded | None = None
        self._streams = 0
        # Reentrant: a garbage collection inside it may end a stream that was forgotten.
        self._lock = threading.RLock()

    def watch(self, visitor: str, *, compares: bool) -> None:
        """Remember whether this visitor compares; the last one who does not frees the model."""
        with self._lock:
            (self._visitors.add if compares else self._visitors.discard)(visitor)
            if not self._visitors:
                self._retire()

    def stream(self, folder: Path, request: CompletionRequest) -> Generator[CompletionChunk, None, None]:
        """Yield the completion by the checkpoint in `folder`, loading it first where it is not the one at hand.

        Raises:
            CheckpointError: it cannot be loaded; the one at hand stays.
            GPTError: whatever the backend raises.
        """
        with self._lock:
            found = (folder, *identity(folder))  # a run's best is replaced by better ones
            if self._loaded is None or self._loaded.found != found:
                backend = self._load(folder)
                self._retire()
                self._loaded = _Loaded(backend, found)
            loaded = self._loaded
            loaded.streams += 1
            self._streams += 1
        try:
            with contextlib.closing(loaded.backend.stream(request)) as chunks:
                yield from chunks
        finally:
            with self._lock:
                loaded.streams -= 1
                self._streams -= 1
                loaded.close_if_unused()

    def is_busy(self) -> bool:
        """Whether a text is being written."""
        return self._streams > 0

    def close(self) -> None:
        """Free the model; texts under way end with BackendClosedError."""
        with self._lock:
            loaded, self._loaded = self._loaded, None
        if loaded is not None:
            loaded.backend.close()

    def _retire(self) -> None:
        """Let go of the model once its last text has ended."""
        if self._loaded is not None:
            self._loaded.retired = True
            self._loaded.close_if_unused()
            self._loaded = None


class _Loaded:
    """A loaded backend, what it was loaded from, and the number of its open streams."""

    def __init__(self, backend: CompletionBackend, found: tuple[Path, int, int]) -> None:
        self.backend = backend
        self.found = found
        self.streams = 0
        self.retired = False

    def close_if_unused(self) -> None:
        """Free the model once nothing new can come and nothing is under way."""
        if self.retired and not self.streams:
            self.backend.close()


class Compared:
    """A checkpoint as a CompletionBackend that is looked up, and loaded, only when a text is asked of it.

    Args:
        name: the checkpoint's.
        stream: looks it up and streams its completion.
    """

    def __init__(
        self, name: str, stream: Callable[[CompletionRequest], Generator[CompletionChunk, None, None]]
    ) -> None:
        self._name = name
        self.stream = stream

    def info(self) -> BackendInfo:
        """What is known before it is loaded: its name."""
        return BackendInfo("local", self._name)

    def close(self) -> None:
        """Nothing to do: SecondModel frees the model."""
