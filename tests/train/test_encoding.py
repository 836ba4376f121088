"""Encoding piece by piece: the same tokens, and a prompt that the vocabulary knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpt.errors import UnknownCharacterError
from gpt.tokenizer import BPETokenizer, CharacterTokenizer, Tokenizer, load_tokenizer
from train.encoding import encode_text, known_prompt

ROOT = Path(__file__).parents[2]
SONNETS = (ROOT / "data" / "sonnets.txt").read_text(encoding="utf-8")
TEXT = SONNETS[:30_000] + "\n\n\n  Caf\u00e9 don't  stop 1234,\tthe end  of  it\n" + SONNETS[30_000:40_000]


def tokenizers() -> list[Tokenizer]:
    return [
        CharacterTokenizer.train(TEXT),
        BPETokenizer.train(TEXT, 400),
        load_tokenizer(ROOT / "checkpoints" / "shakespeare"),
    ]


@pytest.mark.parametrize("tokenizer", tokenizers(), ids=lambda tokenizer: tokenizer.kind)
@pytest.mark.parametrize("piece_characters", [1, 7, 100, 5_000, 10**6])
def test_pieces_give_the_tokens_of_the_whole(tokenizer: Tokenizer, piece_characters: int) -> None:
    text = TEXT[:3000] if piece_characters < 100 else TEXT
    assert encode_text(tokenizer, text, piece_characters).tolist() == tokenizer.encode(text)


def test_nothing_encodes_to_nothing() -> None:
    assert encode_text(CharacterTokenizer("ab"), "").tolist() == []


def test_text_without_a_cut_is_one_piece() -> None:
    assert encode_text(CharacterTokenizer("\u6f22\u5b57"), "\u6f22\u5b57" * 50, 3).tolist() == [0, 1] * 50


def test_prompt_of_blanks_that_is_not_known_is_the_first_character() -> None:
    tokenizer = CharacterTokenizer("abc")
    assert known_prompt(tokenizer, "\n", "cab") == "c"
    assert known_prompt(tokenizer, "ab", "cab") == "ab"
    with pytest.raises(UnknownCharacterError, match="--sample-prompt"):
        known_prompt(tokenizer, "x", "cab")
