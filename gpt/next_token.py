"""NextToken: the distribution of the token that comes next, and what each filter of the sampling keeps of it.

The filters are `gpt.sampling`'s own, applied one after the other in its order, so what is told here is what is drawn.
The penalties are left out: they depend on what was written before.

Shapes: V is the vocabulary's dimension.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gpt.sampling import SamplingParams, candidates, distribution

FILTERS = ("temperature", "top_k", "top_p", "min_p")
"""In the order in which they act; temperature takes tokens away at 0 alone."""


class ShownToken(NamedTuple):
    """A token that may come next.

    Attributes:
        text: its text.
        probability: of the raw logits (temperature 1, no filter).
        drawn: the probability with which it is drawn after all filters; 0 where one took it away.
        removed_by: the filter that did, one of FILTERS; empty for none.
    """

    text: str
    probability: float
    drawn: float
    removed_by: str


@dataclass(frozen=True)
class Filtered:
    """What the filters keep.

    Attributes:
        tokens: the most probable ones, by falling probability.
        left: the number of tokens left after each of FILTERS.
        others: the number of tokens that can be drawn and are not among `tokens`.
        others_drawn: their probability together.
    """

    tokens: tuple[ShownToken, ...]
    left: tuple[int, ...]
    others: int
    others_drawn: float


class NextToken:
    """The distribution of one next token; made once for a text, and filtered as often as one likes.

    Args:
        logits: (V,).
        show: turns a token's id into the text that is shown.
        count: how many of the most probable tokens to show.
    """

    def __init__(self, logits: Tensor, show: Callable[[int], str], count: int = 20) -> None:
        self._logits = logits.detach().float().cpu().clone()
        probabilities = self._logits.double().softmax(-1).numpy()
        self._ids = np.argsort(-probabilities, kind="stable")[:count]
        self._probabilities: NDArray[np.float64] = probabilities[self._ids]
        self._texts = [show(int(token_id)) for token_id in self._ids]

    @property
    def vocab_dim(self) -> int:
        """The number of tokens there are."""
        return len(self._logits)

    def filter(self, params: SamplingParams) -> Filtered:
        """What the filters of `params` keep.

        Raises:
            BackendError: the logits are not finite numbers.
        """
        alone = SamplingParams(temperature=params.temperature, top_k=0)
        stages = [
            alone,
            replace(alone, top_k=params.top_k),
            replace(alone, top_k=params.top_k, top_p=params.top_p),
            replace(alone, top_k=params.top_k, top_p=params.top_p, min_p=params.min_p),
        ]
        removed_by = [""] * len(self._ids)
        left = []
        for name, stage in zip(FILTERS, stages, strict=True):
            ids, probabilities = distribution(candidates(self._logits[None], [stage])[0], stage)
            left.append(len(ids))
            for place in np.flatnonzero(~np.isin(self._ids, ids)):
                removed_by[place] = removed_by[place] or name
        drawn = dict(zip(ids.tolist(), probabilities.tolist(), strict=True))
        shown = tuple(
            ShownToken(text, float(probability), drawn.pop(int(token_id), 0.0), name)
            for token_id, text, probability, name in zip(
                self._ids, self._texts, self._probabilities, removed_by, strict=True
            )
        )
        return Filtered(shown, tuple(left), len(drawn), sum(drawn.values()))
