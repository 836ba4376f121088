"""The tokenizer of a run, and the tokens of its whole corpus, without much memory for a long text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from gpt.errors import UnknownCharacterError
from gpt.tokenizer import Tokenizer, build_tokenizer
from train.config import TrainConfig

# A vocabulary is fitted on the beginning of a longer text: the rest would change little, and take gigabytes.
FITTED_CHARACTERS = 10_000_000
PIECE_CHARACTERS = 1_000_000
LONGEST_PIECES = 4
# Between two words every tokenizer begins a new token: a cut there changes nothing.
CUT = re.compile(r"(?<=[a-z])(?= [a-z])")


def fresh_tokenizer(
    config: TrainConfig, train_text: str, alphabet: str, checkpoints_root: Path, tiktoken_cache: str | None
) -> Tokenizer:
    """The tokenizer of a run from nothing.

    Args:
        config: the run's settings.
        train_text: what a vocabulary is fitted on.
        alphabet: a text whose characters are known besides.
        checkpoints_root: where GPT-2's vocabulary is looked for first.
        tiktoken_cache: where it is looked for next.

    Raises:
        TokenizerError: the text does not fill the vocabulary, or GPT-2's is not to be had.
    """
    return build_tokenizer(
        config.tokenizer,
        train_text[:FITTED_CHARACTERS],
        config.vocab_dim if config.tokenizer == "bpe" else None,
        alphabet=alphabet,
        checkpoints_root=checkpoints_root,
        tiktoken_cache=tiktoken_cache,
    )


def encode_text(tokenizer: Tokenizer, text: str, piece_characters: int = PIECE_CHARACTERS) -> Tensor:
    """The tokens of `text`, (n,) int64, exactly as `tokenizer.encode` has them for the whole text.

    Args:
        tokenizer: encodes.
        text: to encode.
        piece_characters: what is encoded at once, at least; a piece ends between two words.

    Raises:
        UnknownCharacterError: the text has a character without a token.
    """
    pieces = [torch.tensor(tokenizer.encode(piece), dtype=torch.int64) for piece in text_pieces(text, piece_characters)]
    return torch.cat(pieces) if pieces else torch.empty(0, dtype=torch.int64)


def text_pieces(text: str, piece_characters: int = PIECE_CHARACTERS) -> Iterator[str]:
    """`text` in pieces of `piece_characters` at least, each of which ends between two words."""
    start = 0
    while start < len(text):
        cut = CUT.search(text, start + piece_characters)
        end = cut.start() if cut else len(text)
        yield text[start:end]
        start = end


def cut_pieces(pieces: Iterable[str], piece_characters: int = PIECE_CHARACTERS) -> Iterator[str]:
    """A text that comes in any pieces, in others that can be encoded on their own: each ends between two words.

    A text that has no such place for long, as Chinese, is cut all the same; a token there may be two.

    Args:
        pieces: together the text.
        piece_characters: what a piece has, at least.
    """
    waiting: list[str] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size <= piece_characters:
            continue
        text = "".join(waiting)
        while len(text) > piece_characters:
            cut = CUT.search(text, piece_characters)
            if cut is None and len(text) < LONGEST_PIECES * piece_characters:
                break
            end = cut.start() if cut else len(text)
            yield text[:end]
            text = text[end:]
        waiting, size = [text], len(text)
    if size:
        yield "".join(waiting)


def known_prompt(tokenizer: Tokenizer, prompt: str, train_text: str) -> str:
    """The prompt of a run's samples; in a text without line breaks, its first character in place of blanks.

    Raises:
        UnknownCharacterError: the prompt has a character that the text lacks.
    """
    try:
        tokenizer.encode(prompt)
    except UnknownCharacterError as error:
        if prompt.strip():
            raise UnknownCharacterError(f"--sample-prompt: {error}") from error
        return train_text[0]
    return prompt
