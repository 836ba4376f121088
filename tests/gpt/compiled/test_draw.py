"""The compiled draw against `gpt.sampling`: same number, same token."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from gpt.compiled.draw import NONE, choose
from gpt.compiled.panel import WIDTH
from gpt.sampling import SamplingParams, Uniforms, candidates, distribution, draw

VOCABULARY = 5000  # more than a quarter of its panels is below the larger top_k
FILTERS = [
    {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
    for temperature, top_k, top_p, min_p in itertools.product((0.3, 1.0, 5.0), (0, 5, 400), (1.0, 0.9), (0.0, 0.05))
]


class Given(Uniforms):
    """One number that is given."""

    def __init__(self, number: float) -> None:
        self._number = number

    def take(self) -> float:
        return self._number


def chosen(row, params, uniform):
    padded = np.full(-(-len(row) // WIDTH) * WIDTH, -np.inf, np.float32)
    padded[: len(row)] = row
    maxima = padded.reshape(-1, WIDTH).max(axis=1)
    return choose(padded, maxima, params.temperature, params.top_k, params.top_p, params.min_p, uniform)


def row_of(size, seed=0, spread=3.0):
    row = torch.randn(size, generator=torch.Generator().manual_seed(seed)) * spread
    return row.numpy().astype(np.float32)


@pytest.mark.parametrize("spread", [0.01, 3.0])
@pytest.mark.parametrize("filters", FILTERS, ids=str)
def test_the_same_number_gives_the_same_token(filters, spread):
    params, row = SamplingParams(**filters), row_of(VOCABULARY, spread=spread)
    found = candidates(torch.from_numpy(row)[None], [params])[0]
    _, probabilities = distribution(found, params)
    borders = probabilities.cumsum()
    uniforms = torch.rand(200, generator=torch.Generator().manual_seed(1), dtype=torch.float64).tolist()
    for uniform in uniforms:
        if np.abs(borders - uniform).min() > 2e-6:  # not within rounding of a border
            assert chosen(row, params, uniform) == draw(found, params, Given(uniform))


WHOLE = {
    "normal": row_of(50_257),
    "nearly flat": row_of(50_257, spread=0.01),
    "many tied": (row_of(50_257) * 2).round() / 2,
    "some out of reach": np.where(row_of(50_257, 1) > 0, row_of(50_257), np.float32(-1e30)),
    "one far above": np.where(np.arange(50_257) == 7, np.float32(1e30), row_of(50_257)),
    "zeros of both signs": np.where(row_of(50_257) > 0, np.float32(-0.0), np.float32(0.0)),
    "below zeros of both signs": np.minimum(row_of(50_257), np.where(row_of(50_257, 2) > 0, 0.0, -0.0)),
}


@pytest.mark.parametrize(
    "filters",
    [
        {"top_k": 190},
        {"top_k": 1000},
        {"top_k": 20_000, "top_p": 0.9},
        {"top_k": 45_000, "min_p": 0.01},
        {"top_k": 0, "top_p": 0.5},
        {"top_k": 0, "top_p": 0.99, "min_p": 0.001},
        {"top_k": 0, "min_p": 0.2},
        {"top_k": 0, "min_p": 1e-5},
        {"top_k": 3000, "top_p": 0.9, "min_p": 0.01, "temperature": 2.5},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", WHOLE)
def test_the_same_tokens_are_kept_of_a_whole_vocabulary(name, filters):
    params, row = SamplingParams(**filters), WHOLE[name].astype(np.float32)
    ids, probabilities = distribution(candidates(torch.from_numpy(row)[None], [params])[0], params)
    borders = probabilities.cumsum()
    # Where tens of thousands are kept, which token crosses top_p depends on the last digits of a sum.
    allowed = 1e-6 + (2 * probabilities.min() if params.top_p < 1 else 0)
    for uniform in np.concatenate((np.linspace(0, 1, 97)[:-1], [1 - 2**-53])):
        place = int(np.searchsorted(ids, chosen(row, params, uniform)))
        assert ids[place] == chosen(row, params, uniform)
        assert borders[place] - probabilities[place] - allowed <= uniform <= borders[place] + allowed


@pytest.mark.parametrize("top_p", [0.9, 1 - 1e-9])
def test_top_p_keeps_none_of_the_tied_tokens_that_top_k_took_away(top_p):
    row, params = (row_of(VOCABULARY) * 2).round() / 2, SamplingParams(top_k=3000, top_p=top_p, temperature=8.0)
    ids, probabilities = distribution(candidates(torch.from_numpy(row)[None], [params])[0], params)
    middles = (probabilities.cumsum() - probabilities / 2)[::37]
    assert [chosen(row, params, uniform) for uniform in middles] == ids[::37].tolist()
    assert chosen(row, params, 1 - 2**-53) == ids[-1]


@pytest.mark.parametrize("uniform", [0.0, 0.3, 1 - 2**-53])
def test_rounding_leaves_no_token_that_was_taken_away(uniform):
    """Each block's sum is rounded on its own; the number may fall between it and what is added one by one."""
    row = row_of(50_257, spread=0.5)
    for top_p in np.linspace(0.001, 0.999, 40):
        params = SamplingParams(top_k=0, top_p=float(top_p))
        ids, _ = distribution(candidates(torch.from_numpy(row)[None], [params])[0], params)
        lowest = np.sort(row[ids])[0] - 1e-4  # which one crosses is rounding's to say
        assert row[chosen(row, params, uniform)] >= lowest


def test_many_equal_tokens_at_the_border_are_kept_in_their_order():
    row = np.zeros(VOCABULARY, np.float32)
    row[[7, 4000]] = 3.0
    for params in (SamplingParams(temperature=1.0, top_k=0, top_p=0.5), SamplingParams(temperature=1.0, top_k=700)):
        found = candidates(torch.from_numpy(row)[None], [params])[0]
        ids, probabilities = distribution(found, params)
        middles = (probabilities.cumsum() - probabilities / 2)[::37]
        assert [chosen(row, params, uniform) for uniform in middles] == ids[::37].tolist()
        assert chosen(row, params, 1 - 2**-53) == ids[-1]


@pytest.mark.parametrize("filters", FILTERS, ids=str)
def test_every_token_that_is_left_can_be_drawn_and_no_other(filters):
    params, row = SamplingParams(**filters), row_of(40)
    ids, probabilities = distribution(candidates(torch.from_numpy(row)[None], [params])[0], params)
    middles, likely = probabilities.cumsum() - probabilities / 2, probabilities > 1e-6
    assert [chosen(row, params, uniform) for uniform in middles[likely]] == ids[likely].tolist()
    assert chosen(row, params, 0.0) == ids[0] and chosen(row, params, 1 - 2**-53) == ids[-1]


@pytest.mark.parametrize(
    "filters", [{}, {"top_k": 0}, {"top_k": 0, "top_p": 0.8}, {"top_k": 0, "min_p": 0.02}], ids=str
)
def test_draws_follow_the_distribution(filters):
    params, row, draws = SamplingParams(**filters), row_of(16, seed=4, spread=1.5), 20_000
    ids, probabilities = distribution(candidates(torch.from_numpy(row)[None], [params])[0], params)
    uniforms = torch.rand(draws, generator=torch.Generator().manual_seed(7), dtype=torch.float64).tolist()
    counts = np.bincount([chosen(row, params, uniform) for uniform in uniforms], minlength=16)
    assert counts[ids].sum() == draws
    statistic = float((np.square(counts[ids] - draws * probabilities) / (draws * probabilities)).sum())
    rest = torch.special.gammaincc(torch.tensor((len(ids) - 1) / 2), torch.tensor(statistic / 2)).item()
    assert rest > 1e-3  # chi-square


@pytest.mark.parametrize("top_k", [1, 2, 3, 0])
def test_of_tied_tokens_the_first_are_kept(top_k):
    row = np.array([0.0, 2.0, 2.0, 2.0, -1.0], np.float32)
    params = SamplingParams(temperature=1.0, top_k=top_k, top_p=1.0 if top_k else 0.5)
    ids, _ = distribution(candidates(torch.from_numpy(row)[None], [params])[0], params)
    assert {chosen(row, params, uniform) for uniform in np.linspace(0, 0.999, 50)} == set(ids.tolist())


@pytest.mark.parametrize("temperature", [0.0, 1e-4, 1e-30])
def test_the_lowest_temperatures_take_the_best(temperature):
    row = row_of(VOCABULARY, seed=3)
    for filters in ({"top_k": 0}, {"top_k": 50}, {"top_k": 0, "top_p": 0.9}, {"top_k": 0, "min_p": 0.5}):
        params = SamplingParams(temperature=temperature, **filters)
        assert chosen(row, params, 0.7) == int(row.argmax())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("filters", [{}, {"temperature": 0.0}, {"top_k": 0}, {"top_k": 0, "min_p": 0.1}], ids=str)
def test_nothing_is_drawn_from_what_is_no_number(bad, filters):
    row = row_of(300)
    row[77] = bad
    assert chosen(row, SamplingParams(**filters), 0.5) == NONE
    assert chosen(np.full(300, -np.inf, np.float32), SamplingParams(**filters), 0.5) == NONE


def test_a_token_that_cannot_be_is_never_drawn():
    row = np.array([-np.inf, 1.0, -np.inf, 1.0], np.float32)
    params = SamplingParams(temperature=1.0, top_k=0)
    assert [chosen(row, params, u) for u in (0.0, 0.49, 0.51, 1 - 2**-53)] == [1, 1, 3, 3]
