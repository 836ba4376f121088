"""HubText: the text of a data set of the Hugging Face Hub, fetched, verified, and read as a stream.

Which files: those of one kind, .parquet, .jsonl or .txt, whichever has the most bytes. Which part: files with "test" in
their path are left out; those with "validation", "valid", "val" or "dev" validate, the others train. Where no file
validates, the end of the text does: what is left after the training fraction, at most MAX_VALIDATION characters.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gpt.atomic import write_file
from gpt.errors import CorpusError, HubError
from gpt.hub.repository import Hub, Listing
from train.encoding import cut_pieces
from train.hub_files import SUFFIXES, read_pieces
from train.hub_name import HubName
from train.progress import Progress
from train.turns import in_turn

# The whole validation part is held in memory, and scored whole at the end of a run.
MAX_VALIDATION = 1_000_000
SOURCE_FILE = "source.json"
VALIDATION_WORDS = {"validation", "valid", "val", "dev"}
TEST_WORDS = {"test"}
WORD = re.compile(r"[a-z]+")


@dataclass(frozen=True)
class Source:
    """What is known of a data set once it was read through.

    Attributes:
        name: with its commit.
        train_files, validation_files: paths.
        train_characters, validation_characters: of all the text in them.
        alphabet: the distinct characters, sorted.
        sha256: of the training files' text and then the validation files', in UTF-8.
    """

    name: str
    train_files: list[str]
    validation_files: list[str]
    train_characters: int
    validation_characters: int
    alphabet: str
    sha256: str


class HubText:
    """The text of a data set.

    Args:
        name: with its commit.
        folder: of what is known of it and made from it.
        source: what is known.
        hub: what its files come from, if they are needed and not here any more.
    """

    def __init__(self, name: HubName, folder: Path, source: Source, hub: Hub) -> None:
        self.name = name
        self.folder = folder
        self.source = source
        self._hub = hub
        self._paths: dict[str, Path] = {}

    @classmethod
    def open(cls, data: str, data_root: Path, hub: Hub) -> HubText:
        """The data set that `data` names, with its commit; fetched and read through once, and then known.

        Raises:
            CorpusError: it cannot be fetched or kept, has no text, or the name has no commit.
        """
        name = HubName.parse(data)
        assert name.is_pinned
        folder = data_root / "hub" / name.slug
        try:
            with in_turn(folder, lambda: print(f"waiting for another process that prepares {name}", file=sys.stderr)):
                if (known := _read_source(folder)) is not None:
                    return cls(name, folder, known, hub)
                listing = _listed(hub, name)
                train_files, validation_files = choose_files(listing, name)
                paths = _fetched(hub, listing, [*train_files, *validation_files], name)
                source = _read_through(name, paths, train_files, validation_files)
                write_file(folder / SOURCE_FILE, json.dumps(asdict(source), indent=1) + "\n")
        except OSError as error:
            raise CorpusError(
                f"the corpus {name} cannot be kept in {folder} ({error.strerror or error}); free some space"
            ) from error
        text = cls(name, folder, source, hub)
        text._paths = paths
        return text

    def training_end(self, fraction: float) -> int:
        """The characters of the training part; what is left validates.

        Raises:
            CorpusError: one of the parts would be empty.
        """
        count = self.source.train_characters
        end = count if self.source.validation_files else max(int(fraction * count), count - MAX_VALIDATION)
        if end == 0 or (end == count and not self.source.validation_characters):
            raise CorpusError(
                f"the corpus {self.name} of {count:,} characters cannot be split at the fraction {fraction}: no "
                "training or no validation text would be left; give another --train-fraction or another data set"
            )
        return end

    def training_pieces(self, end: int) -> Iterator[str]:
        """The training part in pieces that can be encoded on their own."""
        return cut_pieces(_limited(self._read(self.source.train_files), end))

    def beginning(self, end: int) -> str:
        """The first `end` characters of the training files."""
        return "".join(_limited(self._read(self.source.train_files), end))

    def validation(self, end: int) -> str:
        """The validation part: of its own files, or behind the first `end` characters of the training files."""
        if self.source.validation_files:
            return "".join(_limited(self._read(self.source.validation_files), MAX_VALIDATION))
        return "".join(_skipped(self._read(self.source.train_files), end))

    def training_tail(self, end: int, characters: int = 200) -> str:
        """The last characters of the training part."""
        return "".join(_limited(_skipped(self._read(self.source.train_files), max(0, end - characters)), characters))

    def _read(self, files: list[str]) -> Iterator[str]:
        missing = [path for path in files if path not in self._paths]
        if missing:
            self._paths |= _fetched(self._hub, _listed(self._hub, self.name), missing, self.name)
        return read_pieces([(f"{self.name}: {path}", self._paths[path]) for path in files])


def pinned(data: str, data_root: Path, hub: Hub) -> str:
    """`data` with the commit that it means now, so that a run that goes on later learns the same text.

    Raises:
        CorpusError: it is no name of a data set, there is none of this name, or no answer; the message then names
            the commits of it that are here already.
    """
    name = HubName.parse(data)
    if name.is_pinned:
        return str(name)
    try:
        return str(name.at(_listed(hub, name).revision))
    except CorpusError as error:
        sources = [_read_source(path) for path in sorted((data_root / "hub").glob(f"{name.at('*').slug}"))]
        here = [source.name for source in sources if source is not None]
        raise CorpusError(f"{error}; or go on with what is here: {', '.join(here)}" if here else str(error)) from error


def choose_files(listing: Listing, name: HubName) -> tuple[list[str], list[str]]:
    """The paths of the training files and of the validation files, each sorted; CorpusError if there is nothing."""
    inside = [
        file
        for path, file in listing.files.items()
        if not name.folder or path == name.folder or path.startswith(f"{name.folder}/")
    ]
    sizes = {suffix: sum(file.size for file in inside if file.path.lower().endswith(suffix)) for suffix in SUFFIXES}
    suffix = max(sizes, key=lambda kind: sizes[kind])
    if not sizes[suffix]:
        some = ", ".join(sorted(file.path for file in inside)[:6]) or "nothing"
        raise CorpusError(
            f"the corpus {name} has no file that ends in {', '.join(SUFFIXES)} (it has {some}); choose another data "
            "set, or a folder of this one: hf:OWNER/NAME/FOLDER"
        )
    train_files, validation_files = [], []
    for path in sorted(file.path for file in inside if file.path.lower().endswith(suffix)):
        words = set(WORD.findall(path.lower()))
        if words & VALIDATION_WORDS:
            validation_files.append(path)
        elif not words & TEST_WORDS:
            train_files.append(path)
    if not train_files:
        raise CorpusError(f"the corpus {name} has files to validate and to test only; choose another data set")
    return train_files, validation_files


def _listed(hub: Hub, name: HubName) -> Listing:
    try:
        return hub.list_files(name.repository, name.revision or None, kind="dataset")
    except HubError as error:
        raise CorpusError(f"the corpus {name} cannot be had: {error}") from error


def _fetched(hub: Hub, listing: Listing, paths: list[str], name: HubName) -> dict[str, Path]:
    progress = Progress(f"Fetching {name.repository}")
    try:
        return hub.fetch(listing, paths, progress)
    except HubError as error:
        raise CorpusError(f"the corpus {name} cannot be had: {error}") from error
    finally:
        progress.close()


def _read_through(name: HubName, paths: dict[str, Path], train_files: list[str], validation_files: list[str]) -> Source:
    """Count what there is; CorpusError if there is no text in it."""
    digest, alphabet, counts, done = hashlib.sha256(), set[str](), [0, 0], 0
    total = sum(path.stat().st_size for path in paths.values())
    progress = Progress(f"Reading {name.repository}")

    def file_read(path: Path) -> None:
        nonlocal done
        done += path.stat().st_size
        progress(done, total)

    for part, files in enumerate((train_files, validation_files)):
        for piece in read_pieces([(f"{name}: {path}", paths[path]) for path in files], file_read):
            alphabet.update(piece)
            digest.update(piece.encode())
            counts[part] += len(piece)
    progress.close()
    if not any(character.strip() for character in alphabet):
        raise CorpusError(f"the corpus {name} is empty; choose another data set")
    letters = "".join(sorted(alphabet))
    return Source(str(name), train_files, validation_files, counts[0], counts[1], letters, digest.hexdigest())


def _read_source(folder: Path) -> Source | None:
    """What was found out earlier; None if that was not done, or is damaged."""
    try:
        fields: Any = json.loads((folder / SOURCE_FILE).read_text(encoding="utf-8"))
        return Source(**fields)
    except (OSError, ValueError, TypeError):
        return None


def _limited(pieces: Iterator[str], characters: int) -> Iterator[str]:
    """The first characters."""
    for piece in pieces:
        if characters <= 0:
            return
        yield piece[:characters]
        characters -= len(piece)


def _skipped(pieces: Iterator[str], characters: int) -> Iterator[str]:
    """What stands behind the first characters."""
    for piece in pieces:
        if len(piece) > characters:
            yield piece[characters:]
        characters = max(0, characters - len(piece))
