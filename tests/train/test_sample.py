"""The sample of a training run: repeatable, and without a trace in what trains."""

from __future__ import annotations

import pytest
import torch

from gpt.bpe_tokenizer import BPETokenizer
from gpt.character_tokenizer import CharacterTokenizer
from gpt.config import GPTConfig
from gpt.model import GPT
from train.sample import sample, sample_texts

TOKENIZER = CharacterTokenizer("abcdefgh")


@pytest.fixture
def model() -> GPT:
    torch.manual_seed(1)
    config = GPTConfig(vocab_dim=8, sequence_dim=5, embed_dim=8, num_heads=2, num_layers=1, dropout=0.5)
    made = GPT.from_config(config)
    with torch.no_grad():
        made.head.weight.mul_(200)  # else it would draw every letter alike
    return made


def test_sample_repeats_by_its_seed(model: GPT) -> None:
    first = sample(model, TOKENIZER, "ab", 30, seed=4)
    assert len(first) == 30
    assert first == sample(model, TOKENIZER, "ab", 30, seed=4)
    assert first != sample(model, TOKENIZER, "ab", 30, seed=5)


def test_sample_leaves_training_as_it_was(model: GPT) -> None:
    state = torch.get_rng_state()
    model.train()
    sample(model, TOKENIZER, "ab", 3)
    assert model.training
    assert all(module.training for module in model.modules())
    model.eval()
    sample(model, TOKENIZER, "ab", 3)
    assert not model.training
    assert torch.equal(torch.get_rng_state(), state)


def test_sample_follows_the_model_past_its_context(model: GPT) -> None:
    """Near temperature zero it is the greedy text, of which each token sees the last five."""
    model.eval()
    ids = TOKENIZER.encode("ab")
    for _ in range(12):
        ids.append(int(model(torch.tensor([ids[-5:]]))[0, -1].argmax()))
    assert sample(model, TOKENIZER, "ab", 12, temperature=1e-4) == TOKENIZER.decode(ids[2:])


def test_sample_of_no_tokens_is_empty_and_of_no_prompt_is_not(model: GPT) -> None:
    assert sample(model, TOKENIZER, "ab", 0) == ""
    assert len(sample(model, TOKENIZER, "", 4)) == 4


def test_texts_follow_the_model_past_its_context(model: GPT) -> None:
    """At temperature 0: a full context gives way to its last half, as in the engine."""
    model.eval()
    ids = TOKENIZER.encode("abc")
    seen = ids[-2:]
    for _ in range(20):
        seen = seen if len(seen) <= 5 else ids[-2:]
        ids.append(int(model(torch.tensor([seen]))[0, -1].argmax()))
        seen = [*seen, ids[-1]]
    assert sample_texts(model, TOKENIZER, "abc", 2, 20, temperature=0) == [TOKENIZER.decode(ids[3:])] * 2


def test_texts_repeat_by_their_seed_whatever_is_drawn_beside_them(model: GPT) -> None:
    model.eval()
    texts = sample_texts(model, TOKENIZER, "ab", 3, 30, seed=4)
    assert [len(text) for text in texts] == [30, 30, 30]
    assert len(set(texts)) == 3
    assert texts[1:] == sample_texts(model, TOKENIZER, "ab", 2, 30, seed=5)
    assert texts[0][:7] == sample_texts(model, TOKENIZER, "ab", 1, 7, seed=4)[0]


def test_texts_are_drawn_at_their_temperature_from_the_top_k(model: GPT) -> None:
    model.eval()
    assert sample_texts(model, TOKENIZER, "ab", 1, 30, top_k=1) == sample_texts(
        model, TOKENIZER, "ab", 1, 30, temperature=0
    )
    even = sample_texts(model, TOKENIZER, "ab", 1, 400, temperature=10, top_k=0)[0]
    sharp = sample_texts(model, TOKENIZER, "ab", 1, 400, temperature=0.5, top_k=0)[0]
    assert min(map(even.count, "abcdefgh")) > max(1, min(map(sharp.count, "abcdefgh")))


def test_texts_have_as_many_characters_whatever_a_token_has() -> None:
    torch.manual_seed(1)
    tokenizer = BPETokenizer.train("so long as men can breathe or eyes can see " * 9, 40, "")
    config = GPTConfig(vocab_dim=tokenizer.vocab_dim, sequence_dim=8, embed_dim=8, num_heads=2, num_layers=1)
    texts = sample_texts(GPT.from_config(config).eval(), tokenizer, "so", 4, 50)
    assert [len(text) for text in texts] == [50] * 4
