"""Top-k and top-p against a full sort, where a sample tells little about where the border is."""

from __future__ import annotations

import numpy as np
import pytest

from gpt.filters import top_k, top_p


def values_of(seed: int = 0):
    return np.random.default_rng(seed).normal(size=20_000)


PATTERN = np.arange(20_000) % 39 == 0  # the tokens that are sampled first
VALUES = {
    "normal": values_of(),
    "few": values_of()[:100],
    "flat": values_of() * 0.01,
    "rising": np.arange(20_000) / 2000,
    "falling": -np.arange(20_000) / 2000,
    "all tied": np.zeros(20_000),
    "many tied": (values_of() * 2).round() / 2,
    "the sample is low": np.where(PATTERN, -3.0, values_of()),
    "the sample is high": np.where(PATTERN, 5.0 + values_of(1) / 100, values_of()),
    "the sample is one value": np.where(PATTERN, 0.5, values_of()),
    "steep": values_of() * 8,
    "some that cannot be": np.where(values_of(2) > 0, values_of(), -np.inf),
}


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("part", [1e-9, 0.01, 0.3, 0.5, 0.9, 0.999, 1 - 1e-9])
def test_top_p_keeps_the_smallest_set_that_reaches_p_of_tied_ones_the_first(name, part):
    weights = np.exp(VALUES[name] - VALUES[name].max())
    order = np.argsort(-weights, kind="stable")
    reached = weights[order].cumsum()
    kept = np.sort(order[: int(reached.searchsorted(part * reached[-1])) + 1])
    found = top_p(weights, part).nonzero()[0]
    if len(found) == len(kept):
        assert found.tolist() == kept.tolist()
    else:  # which of two crosses depends on the last digits of a sum
        assert len(set(found) ^ set(kept)) == 1 or part == 1 - 1e-9
        assert abs(weights[found].sum() - weights[kept].sum()) < 1e-10 * reached[-1] + 2 * weights[kept].min()


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("part", [0.0001, 0.01, 0.3, 0.5, 0.9, 0.999])
def test_top_k_keeps_exactly_k_of_tied_ones_the_first(name, part):
    logits = VALUES[name].astype(np.float32)
    k = max(1, int(part * len(logits)))
    expected = np.sort(np.argsort(-logits, kind="stable")[:k])
    assert top_k(logits, k).nonzero()[0].tolist() == expected.tolist()
