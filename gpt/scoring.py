"""Scoring: the log-probabilities of a text that is there already, each token's given those before it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from gpt.logprobs import Score, logprobs
from gpt.model import GPT

BATCH_SIZE = 8
"""Windows at a time: of 64 tokens each they have 512 rows of logits."""


def score_tokens(model: GPT, ids: Sequence[int], alternatives: int = 0) -> Iterator[list[Score]]:
    """Score ids[1:], each once; the first token has nothing before it, and no score.

    A text longer than sequence_dim is read in windows at a stride of half of it, so that each token has at least half
    a context before it, as the sliding protocol of `train.metrics.window_nats` has it; where ids[1:] fill one window,
    that is the block protocol's.

    Args:
        model: in evaluation mode.
        ids: at least one token of the model's vocabulary.
        alternatives: the number of most probable tokens to give at each place.

    Yields:
        the scores of the next tokens, a batch of windows at a time.
    """
    count = len(ids) - 1
    size = min(model.config.sequence_dim, count)
    stride = max(1, size // 2)
    spans = [(0, size)] if count else []  # (first position, tokens scored at the window's end)
    while spans and spans[-1][0] + size < count:
        start = min(spans[-1][0] + stride, count - size)
        spans.append((start, start - spans[-1][0]))
    tokens = torch.tensor(ids, device=model.head.weight.device)
    for index in range(0, len(spans), BATCH_SIZE):
        batch = spans[index : index + BATCH_SIZE]
        scores: list[Score] = []
        with torch.inference_mode():
            states = model.hidden_states(torch.stack([tokens[start : start + size] for start, _ in batch]))
            for row, (start, scored) in zip(states, batch, strict=True):  # row: (size, E)
                targets = ids[start + 1 + size - scored : start + 1 + size]
                scores += logprobs(model.head(row[size - scored :]), targets, [alternatives] * scored)
        yield scores
