"""Catalogue: the checkpoints that the page offers, and which one is live."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection, Generator, Mapping
from pathlib import Path
from typing import BinaryIO

from gpt.backends.swappable import SwappableBackend
from gpt.checkpoint_info import CheckpointInfo, damaged_checkpoints, list_checkpoints, read_card, read_info
from gpt.checkpoint_store import CheckpointStore, pack_checkpoint
from gpt.completion import BackendInfo, CompletionBackend, CompletionChunk, CompletionRequest
from gpt.errors import BackendClosedError, CheckpointError
from gpt.hub.repository import Progress
from gpt.ui.other_models import Compared, OtherModels


class Catalogue:
    """The checkpoints in one folder, the one chosen at the start wherever it lies, and the live one.

    Args:
        backend: serves the page.
        root: folder of checkpoints.
        live: folder of the checkpoint that `backend` serves now.
        load: makes a backend of a checkpoint's folder; raises CheckpointError.
        shipped: names of checkpoints that keep their names and stay.
        is_busy: whether a training run works in a run's folder, besides what its lock tells.

    Attributes:
        others: the checkpoints that texts are compared with.
    """

    def __init__(
        self,
        backend: SwappableBackend,
        root: Path,
        live: Path,
        load: Callable[[Path], CompletionBackend],
        *,
        shipped: Collection[str] = (),
        is_busy: Callable[[Path], bool] = lambda _: False,
    ) -> None:
        self.backend = backend
        self.others = OtherModels(load)
        self._store = CheckpointStore(root, shipped=shipped, is_busy=is_busy)
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
            entry = self._entry(name)
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

    def folder(self, name: str) -> tuple[str, Path]:
        """The name and the folder of a checkpoint of the list, or of the live one for an empty name.

        Raises:
            CheckpointError: it is not on the list, or what is live is no checkpoint of this machine.
        """
        if not name and self.info().kind != "local":
            raise CheckpointError(f"{self.live()} is no checkpoint of this machine; choose one from the list")
        entry = self._entry(name or self._local())
        return entry.name, entry.folder

    def compared(self, name: str) -> CompletionBackend:
        """A checkpoint of the list, to write with beside the live one.

        Its stream raises CheckpointError where it is not on the list any more, or cannot be loaded.
        """

        def stream(request: CompletionRequest) -> Generator[CompletionChunk, None, None]:
            folder = self._entry(name).folder
            if folder.resolve() == self._live and self.info().kind == "local":
                yield from self.backend.stream(request)
            else:
                yield from self.others.stream(folder, request)

        return Compared(name, stream)

    def protections(self, entries: Mapping[str, CheckpointInfo]) -> dict[str, str]:
        """Why checkpoints can be neither renamed nor deleted, a clause by name; empty for those that can."""
        return {
            name: self._store.protection(name) if self._is_ours(entry) else "it lies outside the folder of checkpoints"
            for name, entry in entries.items()
        }

    def runs(self, entries: Mapping[str, CheckpointInfo]) -> set[str]:
        """The names of those checkpoints that are the best of a run, whose folder holds more."""
        return {name for name, entry in entries.items() if self._is_ours(entry) and self._store.is_run(entry)}

    def card(self, name: str) -> str:
        """The model card of a checkpoint of the list; CheckpointError if it is not there or cannot be read."""
        return read_card(self._entry(name).folder)

    def rename(self, old: str, new: str) -> None:
        """Give a checkpoint of the list another name, the live one too: it goes on serving.

        Raises:
            CheckpointError: it is not on the list, must keep its name, or cannot be called so.
        """
        with self._swapping:
            before = self._ours(old, "renamed").folder.resolve()
            self._store.rename(old, new)
            after = self._store.find(new).folder.resolve()
            self._live = after if self._live == before else self._live
            self._chosen = after if self._chosen == before else self._chosen

    def delete(self, name: str) -> None:
        """Delete a checkpoint of the list, with its whole run where it is the best of one.

        Raises:
            CheckpointError: it is not on the list, or must stay, as the live one must.
        """
        with self._swapping:
            if self._ours(name, "deleted").folder.resolve() == self._live:
                raise CheckpointError(f"the checkpoint {name!r} is live; use another one first, then delete it")
            self._store.delete(name)

    def pack(self, name: str, file: BinaryIO) -> None:
        """Write a checkpoint of the list as a zip; CheckpointError if that cannot be done."""
        pack_checkpoint(self._entry(name).folder, Path(name).name, file)

    def unpack(self, archive: BinaryIO, called: str) -> str:
        """Add the checkpoint of a zip to the list; its name.

        Raises:
            CheckpointError: the zip holds anything but a checkpoint; nothing was written then.
        """
        return self._store.unpack(archive, called)

    def bring(self, repository: str, progress: Progress) -> str:
        """Add what a repository of the Hugging Face Hub holds to the list, a checkpoint or a GPT-2; its name here.

        Args:
            repository: its name there.
            progress: told the bytes that have arrived and those of all files; what it raises ends the download.

        Raises:
            HubError: there is no such repository, it holds no such model, or no answer.
            CheckpointError: what it holds is damaged; nothing was written then.
        """
        from gpt.hub.exchange import bring_checkpoint
        from gpt.hub.repository import Hub

        return bring_checkpoint(Hub(), self._store, repository, progress=progress, tiktoken_cache=None)

    def is_busy(self) -> bool:
        """Whether this machine writes a text, by the live checkpoint or by others beside it."""
        return (self.info().kind == "local" and self.backend.is_busy()) or self.others.is_busy()

    def close(self) -> None:
        """Free the models; texts under way end with BackendClosedError."""
        self.backend.close()
        self.others.close()

    def _entry(self, name: str) -> CheckpointInfo:
        entry = self.entries().get(name)
        if entry is None:
            raise CheckpointError(f"there is no checkpoint {name!r} any more; choose one from the list")
        return entry

    def _is_ours(self, entry: CheckpointInfo) -> bool:
        """Whether a checkpoint lies in the folder of checkpoints, and not where the command line said."""
        return entry.folder in (self._root / entry.name, self._root / entry.name / "best")

    def _ours(self, name: str, done: str) -> CheckpointInfo:
        entry = self._entry(name)
        if not self._is_ours(entry):
            raise CheckpointError(f"the checkpoint {name!r} lies outside {self._root} and cannot be {done} here")
        return entry
