"""What the filters keep of the next token's distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gpt.errors import BackendError
from gpt.next_token import FILTERS, NextToken
from gpt.sampling import SamplingParams, candidates, distribution

PROBABILITIES = [0.05, 0.4, 0.3, 0.15, 0.1]
LOGITS = torch.tensor(PROBABILITIES).log()


def next_token(count: int = 20) -> NextToken:
    return NextToken(LOGITS, "abcde".__getitem__, count)


def test_without_filters_all_are_drawn_as_they_are() -> None:
    kept = next_token().filter(SamplingParams(temperature=1, top_k=0))
    assert [token.text for token in kept.tokens] == list("bcdea")
    assert [token.drawn for token in kept.tokens] == pytest.approx(sorted(PROBABILITIES, reverse=True))
    assert kept.left == (5, 5, 5, 5) and kept.others == 0


def test_each_filter_takes_its_own_tokens() -> None:
    kept = next_token().filter(SamplingParams(temperature=1, top_k=4, top_p=0.8, min_p=0.6))
    # of four tokens 0.4 + 0.3 + 0.15 reach 0.8 of 0.95; 0.15 is below 0.6 of 0.4
    assert [token.removed_by for token in kept.tokens] == ["", "", "min_p", "top_p", "top_k"]
    assert kept.left == (5, 4, 3, 2) and len(FILTERS) == 4
    assert [token.drawn for token in kept.tokens] == pytest.approx([4 / 7, 3 / 7, 0, 0, 0])
    assert [token.probability for token in kept.tokens] == pytest.approx(sorted(PROBABILITIES, reverse=True))


@pytest.mark.parametrize("params", [SamplingParams(), SamplingParams(temperature=1.5, top_k=3, top_p=0.9, min_p=0.1)])
def test_what_is_kept_is_what_the_sampling_draws_from(params: SamplingParams) -> None:
    ids, probabilities = distribution(candidates(LOGITS[None], [params])[0], params)
    kept = next_token().filter(params)
    drawn = {token.text: token.drawn for token in kept.tokens if token.drawn}
    assert drawn == pytest.approx({"abcde"[n]: p for n, p in zip(ids, probabilities, strict=True)})


def test_temperature_zero_leaves_the_likeliest() -> None:
    kept = next_token().filter(SamplingParams(temperature=0))
    assert kept.left == (1, 1, 1, 1) and kept.tokens[0].drawn == 1
    assert {token.removed_by for token in kept.tokens[1:]} == {"temperature"}


def test_tokens_that_are_not_shown_are_counted() -> None:
    kept = next_token(2).filter(SamplingParams(temperature=1, top_k=4))
    assert len(kept.tokens) == 2 and kept.others == 2
    assert kept.others_drawn == pytest.approx(0.25 / 0.95)
    assert sum(token.drawn for token in kept.tokens) + kept.others_drawn == pytest.approx(1)


def test_logits_that_are_no_numbers_are_told() -> None:
    with pytest.raises(BackendError, match="not finite"):
        NextToken(torch.tensor([np.nan, 0.0]), str).filter(SamplingParams())
