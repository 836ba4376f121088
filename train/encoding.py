"""The tokens of a whole corpus, encoded piece by piece, so that a long text takes little memory on the way."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from gpt.errors import UnknownCharacterError
from gpt.tokenizer import Tokenizer

PIECE_CHARACTERS = 1_000_000
# Between two words every tokenizer begins a new token: a cut there changes nothing.
CUT = re.compile(r"(?<=[a-z])(?= [a-z])")


def encode_text(tokenizer: Tokenizer, text: str, piece_characters: int = PIECE_CHARACTERS) -> Tensor:
    """The tokens of `text`, (n,) int64, exactly as `tokenizer.encode` has them for the whole text.

    Args:
        tokenizer: encodes.
        text: to encode.
        piece_characters: what is encoded at once, at least; a piece ends between two words.

    Raises:
        UnknownCharacterError: the text has a character without a token.
    """
    pieces = []
    start = 0
    while start < len(text):
        cut = CUT.search(text, start + piece_characters)
        end = cut.start() if cut else len(text)
        pieces.append(torch.tensor(tokenizer.encode(text[start:end]), dtype=torch.int64))
        start = end
    return torch.cat(pieces) if pieces else torch.empty(0, dtype=torch.int64)


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
