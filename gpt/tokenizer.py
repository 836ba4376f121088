"""Tokenizers: what turns text into ids and ids into text, how one is made, and how it is loaded.

There are three kinds: GPT-2's byte-pair encoding, single characters, and a byte-pair encoding trained on the corpus.
A tokenizer is saved inside the checkpoint whose model was trained with it, whole: loading one asks neither the
network nor a cache. The libraries behind two of the kinds are imported when such a tokenizer is made, so that a
program that uses another kind does not wait for them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from gpt.bpe_tokenizer import BPETokenizer
from gpt.character_tokenizer import CharacterTokenizer
from gpt.errors import TokenizerError
from gpt.gpt2_tokenizer import VOCABULARY_FILE, GPT2Tokenizer
from gpt.vocabulary import TOKENIZER_FILE

__all__ = [
    "FILES",
    "KINDS",
    "BPETokenizer",
    "CharacterTokenizer",
    "GPT2Tokenizer",
    "Tokenizer",
    "build_tokenizer",
    "load_tokenizer",
    "read_identity",
    "read_kind",
]

KINDS = ("gpt2", "character", "bpe")
FILES = (TOKENIZER_FILE, VOCABULARY_FILE)


class Tokenizer(Protocol):
    """What turns text into ids and ids into text; an id outside 0 .. vocab_dim - 1 raises TokenizerError."""

    @property
    def kind(self) -> str:
        """One of KINDS."""
        ...

    @property
    def vocab_dim(self) -> int:
        """The number of tokens."""
        ...

    def encode(self, text: str) -> list[int]:
        """The ids of `text`; UnknownCharacterError if it has a character without a token."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`; bytes that are no whole character become U+FFFD."""
        ...

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """The exact UTF-8 bytes of `ids`, which may begin or end inside a character."""
        ...

    def save(self, folder: Path) -> None:
        """Write the tokenizer's files, of FILES, into `folder`, for `load_tokenizer`."""
        ...


def build_tokenizer(
    kind: str,
    text: str,
    vocab_dim: int | None = None,
    *,
    alphabet: str = "",
    checkpoints_root: Path,
    tiktoken_cache: Path | str | None = None,
) -> Tokenizer:
    """The tokenizer of a fresh run.

    Args:
        kind: one of KINDS.
        text: the training part of the corpus.
        vocab_dim: number of tokens; a trained BPE needs it, the other kinds have their own and refuse another.
        alphabet: a text whose characters are known besides: the whole corpus, so that its validation part can be
            encoded, although nothing else is learnt from that part.
        checkpoints_root: where GPT-2's vocabulary is looked for first.
        tiktoken_cache: where it is looked for next, as in `GPT2Tokenizer.fetch`.

    Raises:
        TokenizerError: the kind is unknown, vocab_dim does not fit it, or GPT-2's vocabulary is not to be had.
    """
    if kind == "bpe":
        if vocab_dim is None:
            raise TokenizerError("vocab_dim is not given; the bpe tokenizer needs the number of tokens, such as 1024")
        return BPETokenizer.train(text, vocab_dim, alphabet)
    tokenizer: Tokenizer
    if kind == "gpt2":
        tokenizer = GPT2Tokenizer.fetch(checkpoints_root, tiktoken_cache)
    elif kind == "character":
        tokenizer = CharacterTokenizer.train(text + alphabet)
    else:
        raise TokenizerError(f"the tokenizer's kind is {kind!r}; choose one of {', '.join(KINDS)}")
    if vocab_dim not in (None, tokenizer.vocab_dim):
        raise TokenizerError(
            f"vocab_dim is {vocab_dim}, but the {kind} tokenizer has {tokenizer.vocab_dim} tokens for this text; "
            "leave vocab_dim out, or choose the bpe tokenizer"
        )
    return tokenizer


def load_tokenizer(folder: Path | str) -> Tokenizer:
    """The tokenizer that was saved in `folder`.

    Raises:
        TokenizerError: a file is missing or is not what `save` wrote.
    """
    folder = Path(folder)
    description = _read_description(folder)
    kind = description["kind"]
    try:
        if kind == "gpt2":
            return GPT2Tokenizer.load(folder)
        if kind == "character":
            return CharacterTokenizer(description["characters"])
        return BPETokenizer(description["vocabulary"], description["merges"], description["split_pattern"])
    except OSError as error:
        raise TokenizerError(f"{error.filename} is missing ({error.strerror}); copy the checkpoint again") from error
    except (ValueError, TypeError, KeyError) as error:
        raise TokenizerError(
            f"{folder / TOKENIZER_FILE} is no saved {kind} tokenizer ({error!r}); copy the checkpoint again"
        ) from error


def read_kind(folder: Path | str) -> str:
    """The kind of the tokenizer saved in `folder`, without loading it; TokenizerError if there is none."""
    return str(_read_description(Path(folder))["kind"])


def read_identity(folder: Path | str) -> str:
    """What two folders have in common whose tokenizers cut every text alike: the kind, and a hash of the files.

    Raises:
        TokenizerError: there is no tokenizer in `folder`, or it cannot be read.
    """
    folder, digest = Path(folder), hashlib.sha256()
    kind = read_kind(folder)
    for name in FILES:
        try:
            digest.update((folder / name).read_bytes())
        except FileNotFoundError:
            continue  # not every kind has each
        except OSError as error:
            raise TokenizerError(f"{folder / name} cannot be read ({error.strerror}); copy it again") from error
    return f"{kind} {digest.hexdigest()[:16]}"


def _read_description(folder: Path) -> dict[str, Any]:
    """The fields of tokenizer.json, of which "kind" is one of KINDS."""
    path = folder / TOKENIZER_FILE
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TokenizerError(f"{path} cannot be read ({error.strerror}); copy the checkpoint again") from error
    except (ValueError, RecursionError) as error:
        raise TokenizerError(f"{path} is not JSON ({error}); copy the checkpoint again") from error
    if not isinstance(description, dict) or description.get("kind") not in KINDS:
        raise TokenizerError(f"{path} is not a saved tokenizer: its kind is none of {', '.join(KINDS)}")
    return description
