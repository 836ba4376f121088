"""BPEDropout: the text itself in every pass, spelt as the tokenizer spells it or, with dropout, in many other ways."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from gpt.errors import ConfigError, UnknownCharacterError
from gpt.tokenizer import BPETokenizer, CharacterTokenizer, GPT2Tokenizer, Tokenizer
from tests.train.tiny_run import ROOT, SONNETS
from train.bpe_dropout import LONGEST, BPEDropout

TEXT = SONNETS.read_text(encoding="utf-8")
BPE = BPETokenizer.train(TEXT, 300)
GPT2 = GPT2Tokenizer((ROOT / "checkpoints" / "shakespeare" / "vocab.bpe").read_bytes())
# "ab" is learnt before "bc": (a, b) -> ab, (b, c) -> bc, (ab, c) -> abc
SMALL = BPETokenizer(["a", "b", "c", " ", "ab", "bc", "abc"], [("a", "b"), ("b", "c"), ("ab", "c")])


@pytest.fixture(params=["bpe", "gpt2"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return BPE if request.param == "bpe" else GPT2


def test_without_dropout_a_pass_is_what_the_tokenizer_encodes(tokenizer: Tokenizer) -> None:
    assert BPEDropout(tokenizer, TEXT, 0.0, 1)(0).tolist() == tokenizer.encode(TEXT)


def test_every_pass_is_the_text(tokenizer: Tokenizer) -> None:
    encode = BPEDropout(tokenizer, TEXT, 0.2, 1)
    for epoch in range(3):
        tokens = encode(epoch)
        assert tokens.dtype == torch.int64
        assert tokenizer.decode(tokens.tolist()) == TEXT


def test_gpt2_merges_bytes_also_inside_a_character() -> None:
    text = "Œuvre — naïve 🎭🎭 naïve\n\n  \n"
    assert BPEDropout(GPT2, text, 0.0, 1)(0).tolist() == GPT2.encode(text)
    assert GPT2.decode(BPEDropout(GPT2, text, 0.5, 1)(0).tolist()) == text


def test_passes_and_seeds_differ_and_come_again(tokenizer: Tokenizer) -> None:
    encode = BPEDropout(tokenizer, TEXT, 0.1, 1)
    first, second = encode(0), encode(1)
    assert not torch.equal(first, second)
    assert torch.equal(encode(0), first), "a pass that is taken up again has to be the same"
    assert not torch.equal(BPEDropout(tokenizer, TEXT, 0.1, 2)(0), first)


def test_the_merge_that_was_learnt_first_is_made_first() -> None:
    assert BPEDropout(SMALL, "abc bc", 0.0, 1)(0).tolist() == [6, 3, 5]
    # with "bc" learnt before "ab", nothing turns (a, bc) into one
    other = BPETokenizer(["a", "b", "c", "ab", "bc", "abc"], [("b", "c"), ("a", "b"), ("ab", "c")])
    assert BPEDropout(other, "abc", 0.0, 1)(0).tolist() == [0, 4]


def test_spellings_come_as_often_as_the_algorithm_says() -> None:
    """Of "abc" with p: a b c if both first merges are left out, a bc if only ab is, then ab c or abc."""
    p, count = 0.3, 20_000
    found = Counter(BPEDropout(SMALL, "abc " * count, p, 7)(0).tolist())
    # ab is made with 1 - p, and then left as it is with p; bc with p (1 - p); nothing with p * p
    expected = {6: (1 - p) * (1 - p), 4: (1 - p) * p, 5: p * (1 - p), 1: p * p}
    for token, share in expected.items():
        assert found[token] / count == pytest.approx(share, abs=5 * np.sqrt(share * (1 - share) / count))


def test_more_dropout_gives_more_tokens() -> None:
    lengths = [len(BPEDropout(BPE, TEXT, p, 1)(0)) for p in (0.0, 0.1, 0.5, 0.9)]
    assert lengths == sorted(set(lengths))
    assert len(BPEDropout(BPE, TEXT, 1.0, 1)(0)) == len(TEXT)


def test_tokens_that_the_text_itself_lacks_are_learnt_from() -> None:
    usual = set(GPT2.encode(TEXT))
    dropped = set(BPEDropout(GPT2, TEXT, 0.1, 1)(0).tolist())
    assert len(dropped - usual) > 500


def test_nothing_is_merged_across_pieces() -> None:
    for tokenizer in (BPE, GPT2):
        longest = max((tokenizer.decode([token]) for token in BPEDropout(tokenizer, TEXT, 0.1, 1)(0).tolist()), key=len)
        assert " " not in longest[1:]


@pytest.mark.parametrize("text", ["", "a", "\n", "a\n"])
def test_short_texts(text: str) -> None:
    tokens = BPEDropout(GPT2, text, 0.5, 1)(0)
    assert tokens.dtype == torch.int64
    assert GPT2.decode(tokens.tolist()) == text


def test_a_piece_of_any_length_is_merged_in_parts() -> None:
    text = "ab" * (3 * LONGEST) + " ab"
    tokens = BPEDropout(SMALL, text, 0.0, 1)(0).tolist()
    assert tokens == [4] * (3 * LONGEST) + [3, 4]
    assert SMALL.decode(BPEDropout(SMALL, text[:-4], 0.3, 1)(0).tolist()) == text[:-4]


def test_a_tokenizer_that_merges_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"bpe_dropout is 0\.1, but the tokenizer character merges nothing"):
        BPEDropout(CharacterTokenizer.train("abc"), "abc", 0.1, 1)


def test_an_unknown_character_is_named() -> None:
    with pytest.raises(UnknownCharacterError, match="'é'"):
        BPEDropout(BPE, "é", 0.1, 1)
