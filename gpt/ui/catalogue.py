"""Catalogue: the checkpoints that the page offers, and which one is live."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path

from gpt.backends.swappable import SwappableBackend
from gpt.checkpoint_info import CheckpointInfo, damaged_checkpoints, list_checkpoints, read_info
from gpt.completion import BackendInfo, CompletionBackend
from gpt.errors import BackendClosedError, CheckpointError


class Catalogue:
    """The checkpoints in one folder, the one chosen at the start wherever it lies, and the live one.

    Args:
        backend: serves the page.
        root: folder of checkpoints.
        live: folder of the checkpoint that `backend` serves now.
        load: makes a backend of a checkpoint's folder; raises CheckpointError.
    """

    def __init__(
        self, backend: SwappableBackend, root: Path, live: Path, load: Callable[[Path], CompletionBackend]
    ) -> None:
        self.backend = backend
        self._root = root
        self._chosen = live.resolve()
        self._live = live.resolve()
        self._load = load
        self._swapping = threading.Lock()

    def entries(self) -> dict[str, CheckpointInfo]:
        """The checkpoints there are now, by the name that the page shows."""
        entries = {info.name: info for info in list_checkpoints(self._root)}
        if all(info.folder.resolve() != self._chosen for info in entries.values()):
            name = self._chosen.name if self._chosen.name not in entries else str(self._chosen)
            with contextlib.suppress(CheckpointError):  # it may have been deleted while it serves
                entries = {name: read_info(self._chosen, name)} | entries
        return entries

    def damaged(self) -> list[str]:
        """What is wrong with the folders that look like checkpoints and are none, a sentence each."""
        return damaged_checkpoints(self._root)

    def live(self) -> str:
        """The name of the live checkpoint, its folder's where that is gone from the list; or of a backend elsewhere."""
        info = self.info()
        if info.kind == "local":
            return self._local()
        return f"{info.name} ({info.device})" if info.device else info.name

    def _local(self) -> str:
        for name, info in self.entries().items():
            if info.folder.resolve() == self._live:
                return name
        return self._live.name

    def info(self) -> BackendInfo:
        """What the live backend is."""
        return self.backend.info()

    def use(self, name: str) -> None:
        """Load a checkpoint of the list and then serve with it.

        Raises:
            CheckpointError: it is not on the list or cannot be loaded; nothing has changed then.
            BackendClosedError: the application ends.
        """
        with self._swapping:
            entry = self.entries().get(name)
            if entry is None:
                raise CheckpointError(f"there is no checkpoint {name!r} any more; choose one from the list")
            loaded = self._load(entry.folder)
            try:
                self.backend.swap(loaded)
            except BackendClosedError:
                loaded.close()
                raise
            self._live = entry.folder.resolve()

    def use_elsewhere(self, backend: CompletionBackend) -> None:
        """Serve with a backend that is no checkpoint of this machine.

        Raises:
            BackendClosedError: the application ends; `backend` is left open.
        """
        with self._swapping:
            self.backend.swap(backend)

    def use_here(self) -> None:
        """Serve with the checkpoint of this machine that was live last; nothing changes where one is.

        Raises:
            CheckpointError, BackendClosedError: as `use`.
        """
        if self.info().kind != "local":
            self.use(self._local())
