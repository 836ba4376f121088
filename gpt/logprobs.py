"""Log-probabilities: how probable the model finds a token, and which it finds the most probable, whatever is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpt.sampling import SamplingParams, candidates

Score = tuple[float, tuple[tuple[int, float], ...]]
"""A token's log-probability (nats), and (id, log-probability) of the most probable ones at its place."""


class Scores(NamedTuple):
    """What a compiled call knows of each token that it drew, or left to be drawn.

    A log-probability is a raw logit less its row's total.

    Attributes:
        totals: (steps, B), the logarithm of the sum of the exponentials of a row's logits.
        chosen: (steps, B), the logit of the token that was drawn.
        ids: (steps, B, N), the most probable tokens, of tied ones the lower id first; of a row as many as it asked for.
        logits: (steps, B, N), theirs.
    """

    totals: NDArray[np.float64]
    chosen: NDArray[np.float64]
    ids: NDArray[np.int64]
    logits: NDArray[np.float64]

    def score(self, step: int, row: int, count: int, logit: float | None = None) -> Score:
        """The score of a token, with so many of the most probable ones; of one that was drawn later, by its logit."""
        total = float(self.totals[step, row])
        logprob = (float(self.chosen[step, row]) if logit is None else logit) - total
        ids = self.ids[step, row, :count].tolist()
        logits = (self.logits[step, row, :count] - total).tolist()
        return logprob, tuple(zip(ids, logits, strict=True))


def logprobs(logits: Tensor, token_ids: Sequence[int], counts: Sequence[int]) -> list[Score]:
    """Log-probabilities (nats) of one token a row, and of the row's most probable tokens.

    Args:
        logits: (B, V), raw.
        token_ids: B tokens.
        counts: how many of the most probable tokens to give, per row.

    Returns:
        for each row: its token's log-probability, and (id, log-probability) by falling probability, of tied ones
        the lower id first.
    """
    logits = logits.float()
    rows = torch.arange(len(token_ids), device=logits.device)
    chosen = logits[rows, torch.tensor(token_ids, device=logits.device)]
    totals = logits.logsumexp(-1)
    top = candidates(logits, [SamplingParams(temperature=1.0, top_k=max(1, count)) for count in counts])
    given = []
    for (ids, values), count, total, logprob in zip(
        top, counts, totals.tolist(), (chosen - totals).tolist(), strict=True
    ):
        order = np.argsort(-values, kind="stable")[:count]
        given.append((logprob, tuple((int(ids[i]), float(values[i]) - total) for i in order)))
    return given
