"""Inspector: the checkpoint whose inside is looked at, loaded for that alone."""

from __future__ import annotations

import threading
from pathlib import Path

from gpt.atomic import identity
from gpt.checkpoint import Checkpoint, load_checkpoint
from gpt.inspection import TextInspection, inspect_text


class Inspector:
    """Loads a checkpoint when a text is first looked at with it, on the CPU, and keeps the newest one.

    The live backend's own model is left alone: it belongs to its engine, and may be exchanged at any moment.
    """

    def __init__(self) -> None:
        self._found: tuple[Path, int, int] | None = None
        self._checkpoint: Checkpoint | None = None
        self._lock = threading.Lock()

    def inspect(self, folder: Path, text: str) -> TextInspection:
        """What the checkpoint in `folder` makes of the text.

        Raises:
            CheckpointError: it cannot be loaded.
            RequestError, UnknownCharacterError: the text cannot be read.
        """
        with self._lock:
            found = (folder, *identity(folder))  # a run's best is replaced by better ones
            if self._checkpoint is None or self._found != found:
                self._checkpoint = load_checkpoint(folder)
                self._found = found
            checkpoint = self._checkpoint
            return inspect_text(checkpoint.model, checkpoint.tokenizer, text)
