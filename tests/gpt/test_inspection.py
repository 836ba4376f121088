"""What a model makes of a text, against the plain model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gpt.character_tokenizer import CharacterTokenizer
from gpt.config import GPTConfig
from gpt.errors import RequestError, UnknownCharacterError
from gpt.gpt2_tokenizer import GPT2Tokenizer
from gpt.inspection import GUESSES, MAX_TOKENS, TextInspection, inspect_text
from gpt.sampling import SamplingParams
from tests.tiny_engine import make_model

TOKENIZER = CharacterTokenizer("".join(chr(code) for code in range(65, 126)))
MODEL = make_model()


def look(text: str) -> TextInspection:
    return inspect_text(MODEL, TOKENIZER, text)


@torch.no_grad()
def test_losses_and_guesses_are_the_plain_models() -> None:
    seen = look("HELLO")
    logits = MODEL(torch.tensor([TOKENIZER.encode("HELLO")]))[0]
    logprobs = logits.log_softmax(-1)
    assert seen.tokens == tuple("HELLO") and seen.left_out == 0 and seen.characters == 4
    assert seen.logprobs[0] is None and seen.ranks[0] is None
    for place in range(1, 5):
        token_id = TOKENIZER.encode("HELLO")[place]
        assert seen.logprobs[place] == pytest.approx(float(logprobs[place - 1, token_id]), abs=1e-5)
        order = logprobs[place - 1].argsort(descending=True).tolist()
        assert seen.ranks[place] == order.index(token_id) + 1
    for place, guesses in enumerate(seen.guesses[-1]):
        top = logprobs[place].exp().topk(GUESSES)
        assert [guess.text for guess in guesses] == [TOKENIZER.decode([n]) for n in top.indices.tolist()]
        assert [guess.probability for guess in guesses] == pytest.approx(top.values.tolist(), abs=1e-5)


@torch.no_grad()
def test_every_layer_is_read_through_norm_and_head() -> None:
    seen = look("HELLO")
    assert MODEL.position_embedding is not None
    x = MODEL.token_embedding(torch.tensor([TOKENIZER.encode("HELLO")])) + MODEL.position_embedding.weight[:5]
    states = [x]
    for block in MODEL.blocks:
        x = block(x, is_causal=True)
        states.append(x)
    assert len(seen.guesses) == len(states) == MODEL.config.num_layers + 1
    for guesses, state in zip(seen.guesses, states, strict=True):
        best = MODEL.head(MODEL.norm(state))[0].argmax(-1)
        assert [row[0].text for row in guesses] == list(TOKENIZER.decode(best.tolist()))


def test_attention_is_a_distribution_over_what_came_before() -> None:
    seen = look("HELLO")
    assert seen.attention.shape == (2, 2, 5, 5)
    np.testing.assert_allclose(seen.attention.sum(-1), 1, rtol=1e-5)
    assert (np.triu(seen.attention, 1) == 0).all() and seen.attention.std() > 0.01


def test_a_long_text_is_read_from_its_last_tokens_on() -> None:
    text = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    seen, last = look(text), look(text[-16:])
    assert seen.left_out == 10 and seen.tokens == tuple(text[-16:]) and seen.logprobs == last.logprobs
    config = GPTConfig(vocab_dim=61, sequence_dim=512, embed_dim=16, num_heads=2, num_layers=1, rotary=True)
    assert len(inspect_text(make_model(config), TOKENIZER, "AB" * 100).tokens) == MAX_TOKENS


def test_one_token_has_a_next_one_and_no_loss() -> None:
    seen = look("A")
    assert seen.logprobs == (None,) and seen.characters == 0 and seen.attention.shape == (2, 2, 1, 1)
    assert seen.next_token.filter(SamplingParams()).tokens


def test_text_that_cannot_be_read_is_refused_in_words() -> None:
    with pytest.raises(RequestError, match="the text is empty"):
        look("")
    with pytest.raises(UnknownCharacterError):
        look("HELLO \N{SNOWMAN}")


def test_parts_of_characters_are_shown_as_bytes() -> None:
    tokenizer = GPT2Tokenizer.load(Path(__file__).parents[2] / "checkpoints" / "shakespeare")
    config = GPTConfig(vocab_dim=50257, sequence_dim=16, embed_dim=8, num_heads=2, num_layers=1)
    seen = inspect_text(make_model(config), tokenizer, "\N{SNOWMAN}")
    assert "".join(seen.tokens) == "\\xe2\\x98\\x83"
