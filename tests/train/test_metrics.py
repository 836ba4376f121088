"""Figures: every token scored once, in the windows that the protocol says, against a naive loop."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import train.metrics
from gpt.bpe_tokenizer import BPETokenizer
from gpt.character_tokenizer import CharacterTokenizer
from gpt.config import GPTConfig
from gpt.model import GPT
from train.metrics import nanogpt_nats, token_nats, validation_tokens, window_nats

SIZE, VOCAB = 6, 13


@pytest.fixture(scope="module")
def model() -> GPT:
    """Random weights, large enough that context matters."""
    torch.manual_seed(2)
    config = GPTConfig(vocab_dim=VOCAB, sequence_dim=SIZE, embed_dim=8, num_heads=2, num_layers=1, dropout=0.0)
    made = GPT.from_config(config).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(8)
    return made


def text(length: int) -> Tensor:
    """A context token and `length` tokens to score."""
    return torch.randint(VOCAB, (length + 1,), generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def nats_of(model: GPT, tokens: Tensor, first: int, index: int) -> float:
    """-log p of the token at `index`, given those from `first` on."""
    logits = model(tokens[None, first:index])[0, -1].double()
    return float(F.cross_entropy(logits[None], tokens[index : index + 1]))


def block_first(index: int, count: int) -> int:
    """Where the context of token `index` begins when the windows do not overlap; the last one ends with the text."""
    window = (index - 1) // SIZE * SIZE
    return window if window + SIZE <= count else count - SIZE


@pytest.mark.parametrize("count", [SIZE, SIZE + 1, 2 * SIZE - 1, 2 * SIZE, 4 * SIZE, 4 * SIZE + 3])
def test_block_is_the_naive_loop(model: GPT, count: int) -> None:
    tokens = text(count)
    expected = sum(nats_of(model, tokens, block_first(index, count), index) for index in range(1, count + 1))
    assert window_nats(model, tokens, SIZE, batch_size=3) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [SIZE, SIZE + 1, SIZE + 3, 4 * SIZE, 4 * SIZE + 1])
def test_sliding_is_the_naive_loop(model: GPT, count: int, stride: int) -> None:
    tokens, expected = text(count), 0.0
    for index in range(1, count + 1):
        moves = max(0, math.ceil((index - SIZE) / stride))  # windows until the first that reaches the token
        expected += nats_of(model, tokens, min(moves * stride, count - SIZE), index)
    assert window_nats(model, tokens, stride, batch_size=2) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("stride", [1, 3, SIZE, 100])
@pytest.mark.parametrize("count", [1, 2, SIZE - 1])
def test_text_shorter_than_a_window_is_scored_with_all_its_context(model: GPT, count: int, stride: int) -> None:
    tokens = text(count)
    expected = sum(nats_of(model, tokens, 0, index) for index in range(1, count + 1))
    assert window_nats(model, tokens, stride) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("count", range(1, 21))
@pytest.mark.parametrize("stride", [1, 2, 3, 4, SIZE])
def test_each_token_is_scored_once(model: GPT, monkeypatch: pytest.MonkeyPatch, count: int, stride: int) -> None:
    """Token i counts 2^i nats, so that the total says which tokens were scored, and float64 holds it exactly."""

    def powers(model: GPT, windows: Tensor) -> Tensor:
        return 2.0 ** windows[:, 1:].double()

    monkeypatch.setattr(train.metrics, "token_nats", powers)
    tokens = torch.arange(count + 1)
    assert window_nats(model, tokens, stride, batch_size=4) == 2.0 ** (count + 1) - 2


def test_progress_counts_the_tokens(model: GPT) -> None:
    seen: list[tuple[int, int]] = []
    window_nats(model, text(50), 3, batch_size=4, progress=lambda done, count: seen.append((done, count)))
    assert seen[-1] == (50, 50)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


def test_token_nats_are_cross_entropies_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(4)
    large = GPT.from_config(GPTConfig(vocab_dim=50257, sequence_dim=64, embed_dim=4, num_heads=1, num_layers=1)).eval()
    windows = torch.randint(50257, (5, 41))
    rows: list[int] = []
    whole = large.head.forward

    def head(hidden: Tensor) -> Tensor:
        rows.append(len(hidden))
        return whole(hidden)

    monkeypatch.setattr(large.head, "forward", head)
    nats = token_nats(large, windows)
    monkeypatch.undo()
    assert nats.shape == (5, 40)
    assert nats.dtype == torch.float32
    assert sum(rows) == 200
    assert max(rows) * 50257 <= 2**23
    with torch.no_grad():
        expected = F.cross_entropy(large(windows[:, :-1]).mT, windows[:, 1:], reduction="none")
    torch.testing.assert_close(nats, expected)


def test_nanogpt_is_the_naive_loop(model: GPT) -> None:
    tokens, tokenizer = text(40), CharacterTokenizer("abcdefghijklm")
    nats = nanogpt_nats(model, tokens, tokenizer, seed=9, batches=2)
    generator = torch.Generator().manual_seed(9)
    expected, characters = 0.0, 0
    for _ in range(2):
        for start in torch.randint(len(tokens) - SIZE, (64,), generator=generator).tolist():
            window = tokens[start : start + SIZE + 1]
            with torch.no_grad():
                expected += float(F.cross_entropy(model(window[None, :-1])[0], window[1:], reduction="sum"))
            characters += SIZE
    assert nats == pytest.approx(expected / characters, rel=1e-5)
    assert nats == nanogpt_nats(model, tokens, tokenizer, seed=9, batches=2)


def test_nanogpt_divides_by_characters_not_tokens(model: GPT) -> None:
    class Double:
        """Every token is two characters."""

        def decode(self, ids: list[int]) -> str:
            return "xy" * len(ids)

    tokens = text(40)
    stub: Any = Double()
    single = nanogpt_nats(model, tokens, CharacterTokenizer("abcdefghijklm"), batches=1)
    assert nanogpt_nats(model, tokens, stub, batches=1) == pytest.approx(single / 2)


CORPUS = "the cat sat on the mat; " * 40


@pytest.mark.parametrize(
    "tokenizer", [CharacterTokenizer.train(CORPUS), BPETokenizer.train(CORPUS, 20)], ids=["character", "bpe"]
)
def test_validation_text_stands_behind_the_training_texts_last_token(tokenizer: Any) -> None:
    train_text, validation_text = CORPUS + "the", " mat sat"
    tokens = validation_tokens(tokenizer, train_text, validation_text)
    assert tokens[0] == tokenizer.encode(train_text)[-1]
    assert tokenizer.decode(tokens[1:].tolist()) == validation_text
