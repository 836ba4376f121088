"""The sample of a training run: repeatable, and without a trace in what trains."""

from __future__ import annotations

import pytest
import torch

from gpt.character_tokenizer import CharacterTokenizer
from gpt.config import GPTConfig
from gpt.model import GPT
from train.sample import sample

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
