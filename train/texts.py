"""TextStore: the texts that a visitor brought, kept so that a run on one can go on after any end."""

from __future__ import annotations

import re
from pathlib import Path

from gpt.atomic import write_file
from gpt.errors import CorpusError
from train.corpus import MIN_CHARACTERS, Corpus, load_corpus

MAX_BYTES = 200_000_000
SUFFIX = ".txt"


class TextStore:
    """Texts in one folder, a file each.

    Args:
        root: the folder; it is made when the first text comes.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        """The texts there are."""
        return sorted(path.stem for path in self.root.glob(f"*{SUFFIX}") if not path.name.startswith("."))

    def path(self, name: str) -> Path:
        """The file of the text `name`."""
        return self.root / (name + SUFFIX)

    def add(self, file: Path, wish: str) -> str:
        """Keep the text in `file`.

        Args:
            file: a UTF-8 text file.
            wish: what to call it; letters, digits, dots, dashes and underscores of it are kept. A name that another
                text has gets a number.

        Returns:
            its name; the one that it has already if the same text was brought before.

        Raises:
            CorpusError: it is no text to train on, or cannot be kept; nothing was written.
        """
        if (size := file.stat().st_size) > MAX_BYTES:
            raise CorpusError(
                f"the text has {size:,} bytes; give at most {MAX_BYTES:,}, or train on it with python -m train --data"
            )
        try:
            corpus = load_corpus(file, file.parent, min_characters=MIN_CHARACTERS)
        except CorpusError as error:  # the file may lie wherever uploads do; the visitor knows its name alone
            raise CorpusError(str(error).replace(f"the corpus {file}", f"the text {wish}")) from error
        name = self._name(corpus, wish)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            if not self.path(name).exists():
                write_file(self.path(name), corpus.text)
        except OSError as error:
            raise CorpusError(
                f"the text cannot be kept in {self.root} ({error.strerror}); free some space, or change its rights"
            ) from error
        return name

    def _name(self, corpus: Corpus, wish: str) -> str:
        """A free name, or that of the same text."""
        stem = re.sub(r"[^\w.-]+", "-", wish.removesuffix(SUFFIX)).strip("-.")[:48] or "text"
        number, name = 1, stem
        while self.path(name).exists() and load_corpus(self.path(name), self.root).sha256 != corpus.sha256:
            number += 1
            name = f"{stem}-{number}"
        return name
