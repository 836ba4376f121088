"""Corpus: the text a model learns from, by name or by path, verified and split.

Two corpora have names: "shakespeare" (Tiny Shakespeare, fetched once into the data folder and verified there) and
"sonnets" (Shakespeare's 154 sonnets, bundled). Anything else is the path of a UTF-8 text file.
"""

from __future__ import annotations

import hashlib
import os
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gpt.download import download
from gpt.errors import CorpusError
from train.hub_name import is_hub_name

NAMES = ("shakespeare", "sonnets")

# Less than this trains nothing.
MIN_CHARACTERS = 100

SHAKESPEARE_URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
SHAKESPEARE_BYTES = 1_115_394


@dataclass(frozen=True)
class Corpus:
    """A training text.

    Attributes:
        name: "shakespeare", "sonnets" or the file's name.
        text: the whole text, without a byte order mark, lines ending in one line feed.
        sha256: the hash of `text` in UTF-8; the file's own hash unless it had a mark or other line ends.
    """

    name: str
    text: str
    sha256: str

    def split(self, fraction: float = 0.9) -> tuple[str, str]:
        """The training text and the validation text: the first int(fraction * n) of the n characters, and the rest.

        Raises:
            CorpusError: one of the two would be empty.
        """
        cut = int(fraction * len(self.text))
        if not 0 < cut < len(self.text):
            raise CorpusError(
                f"the corpus {self.name} of {len(self.text):,} characters cannot be split at the fraction {fraction}: "
                "no training or no validation text would be left; give a longer text, or a fraction between 0 and 1"
            )
        return self.text[:cut], self.text[cut:]


def load_corpus(name_or_path: str | Path, data_root: Path, *, min_characters: int = 1) -> Corpus:
    """The corpus of this name, or the text in the file at this path.

    A name wins over a file of the same name, which "./shakespeare" reaches. In a file, a byte order mark is
    stripped, and CR LF and CR become LF, so that the same text trains the same model wherever it was typed.

    Args:
        name_or_path: one of NAMES, or the path of a UTF-8 text file.
        data_root: the folder that has, or gets, the named corpora.
        min_characters: the fewest characters that will do.

    Raises:
        CorpusError: the text is missing, cannot be fetched, read or decoded, is empty or too short.
    """
    name = str(name_or_path)
    if is_hub_name(name):
        raise CorpusError(
            f"the corpus {name} is a data set of the Hugging Face Hub, which may not fit in memory; only python -m "
            "train and python -m train.evaluate take one"
        )
    if name == "shakespeare":
        text = _decode(_read_shakespeare(data_root), name)
    elif name == "sonnets":
        text = _decode(_read(data_root / "sonnets.txt"), name)
    else:
        text = _decode(_read(Path(name_or_path)), name)
        name = Path(name_or_path).name
    if not text.strip():
        raise CorpusError(f"the corpus {name_or_path} is empty; give a text file with something to learn from")
    if len(text) < min_characters:
        raise CorpusError(
            f"the corpus {name_or_path} is too short: it has {len(text):,} characters, and training needs "
            f"{min_characters:,} at least; give a longer text"
        )
    return Corpus(name, text, hashlib.sha256(text.encode()).hexdigest())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise CorpusError(
            f"the corpus {path} is not there; give the path of a UTF-8 text file, or one of {', '.join(NAMES)}"
        ) from error
    except IsADirectoryError as error:
        raise CorpusError(f"the corpus {path} is a folder; give the path of one UTF-8 text file") from error
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        raise CorpusError(f"the corpus {path} cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _decode(content: bytes, name: str) -> str:
    """The text of a file; refuses what is no text, with the byte where that shows."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise CorpusError(f"the corpus {name} is in UTF-16, not UTF-8; save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # utf-8-sig counts positions behind the byte order mark
        position = error.start + (3 if content.startswith(b"\xef\xbb\xbf") else 0)
        raise CorpusError(
            f"the corpus {name} is not UTF-8: the byte {content[position]:#04x} at position {position:,}, counted from "
            "0, belongs to no character; save the text as UTF-8"
        ) from error
    if (position := content.find(b"\0")) >= 0:
        raise CorpusError(
            f"the corpus {name} is not a text: it has a null byte at position {position:,} (counted from 0); "
            "give a text file"
        )
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _read_shakespeare(data_root: Path) -> bytes:
    """Tiny Shakespeare from the data folder, fetched there first if it is not in it."""
    path = data_root / "shakespeare.txt"
    if not path.exists():
        try:
            _show(0)
            fetch_shakespeare(path, _show)
        finally:
            print(file=sys.stderr)
    content = _read(path)
    if (found := hashlib.sha256(content).hexdigest()) != SHAKESPEARE_SHA256:
        raise CorpusError(
            f"{path} is not Tiny Shakespeare: it has {len(content):,} bytes and sha256 {found} instead of "
            f"{SHAKESPEARE_BYTES:,} bytes and sha256 {SHAKESPEARE_SHA256}; delete it, and it is fetched again, "
            "or give your own text by its path"
        )
    return content


def _show(received: int) -> None:
    print(f"\rFetching Tiny Shakespeare: {received / SHAKESPEARE_BYTES:4.0%}", end="", file=sys.stderr, flush=True)


def fetch_shakespeare(path: Path, progress: Callable[[int], None]) -> None:
    """Download Tiny Shakespeare to `path`, which then holds all of it or does not exist.

    Args:
        path: where to.
        progress: told the bytes so far.

    Raises:
        CorpusError: it cannot be fetched or written; the message says what to do.
    """
    try:
        content = download(SHAKESPEARE_URL, sha256=SHAKESPEARE_SHA256, progress=progress)
    except OSError as error:
        raise CorpusError(
            f"{path} is not there, and Tiny Shakespeare could not be fetched from {SHAKESPEARE_URL} ({error}); fetch "
            f"that address on a machine with a network and save it as {path}, or train without a network with "
            "--data sonnets"
        ) from error
    # Beside the target and under a name of its own: another process may be fetching the same text now.
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise CorpusError(
            f"Tiny Shakespeare was fetched, but {path} cannot be written ({error.strerror}); free some space, or "
            "change the folder's rights"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
