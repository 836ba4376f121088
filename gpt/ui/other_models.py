"""OtherModels: the checkpoints that texts are compared with, beside the live one."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator
from pathlib import Path

from gpt.atomic import identity
from gpt.completion import BackendInfo, CompletionBackend, CompletionChunk, CompletionRequest

MOST = 2
"""A comparison has two sides."""


class OtherModels:
    """Loads a checkpoint when a text is first asked of it, and keeps it until nobody compares any more.

    There are MOST at a time: another one takes the place of the one not asked for longest, and texts under way finish
    on that.

    Args:
        load: makes a backend of a checkpoint's folder; raises CheckpointError.
    """

    def __init__(self, load: Callable[[Path], CompletionBackend]) -> None:
        self._load = load
        self._visitors: set[str] = set()
        self._loaded: list[_Loaded] = []  # the one asked last comes last
        self._streams = 0
        # Reentrant: a garbage collection inside it may end a stream that was forgotten.
        self._lock = threading.RLock()

    def watch(self, visitor: str, *, compares: bool) -> None:
        """Remember whether this visitor compares; the last one who does not frees the models."""
        with self._lock:
            (self._visitors.add if compares else self._visitors.discard)(visitor)
            if not self._visitors:
                self._retire(self._loaded)

    def stream(self, folder: Path, request: CompletionRequest) -> Generator[CompletionChunk, None, None]:
        """Yield the completion by the checkpoint in `folder`, loading it first where it is not at hand.

        Raises:
            CheckpointError: it cannot be loaded; those at hand stay.
            GPTError: whatever the backend raises.
        """
        with self._lock:
            found = (folder, *identity(folder))  # a run's best is replaced by better ones
            loaded = next((one for one in self._loaded if one.found == found), None)
            if loaded is None:
                loaded = _Loaded(self._load(folder), found)
                stale = [one for one in self._loaded if one.found[0] == folder]
                self._retire(stale or self._loaded[: 1 - MOST])
            else:
                self._loaded.remove(loaded)
            self._loaded.append(loaded)
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
        """Free the models; texts under way end with BackendClosedError."""
        with self._lock:
            loaded, self._loaded = self._loaded, []
        for one in loaded:
            one.backend.close()

    def _retire(self, models: list[_Loaded]) -> None:
        """Let go of some models, each once its last text has ended."""
        for model in list(models):
            self._loaded.remove(model)
            model.retired = True
            model.close_if_unused()


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
        """Nothing to do: OtherModels frees the model."""
