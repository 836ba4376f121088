"""The compiled scores against `gpt.logprobs`, whose numbers and order they are."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from gpt.compiled.compiled_model import MAX_STEPS, CompiledModel, Row
from gpt.compiled.panel import WIDTH
from gpt.compiled.score import MAX_ALTERNATIVES, log_total, rank
from gpt.logprobs import logprobs
from tests.tiny_engine import CONFIG, make_model


def scored(row, count):
    """The total, and (id, log-probability) of the most probable."""
    padded = np.full(-(-len(row) // WIDTH) * WIDTH, -np.inf, np.float32)
    padded[: len(row)] = row
    maxima = padded.reshape(-1, WIDTH).max(axis=1)
    total, ids, logits = log_total(padded, maxima), np.zeros(count, np.int64), np.zeros(count)
    rank(padded, maxima, len(row), ids, logits)
    return total, list(zip(ids.tolist(), (logits - total).tolist(), strict=True))


def normal(size, spread):
    return torch.randn(size, generator=torch.Generator().manual_seed(size)) * spread


ROWS = {
    "one token": torch.tensor([3.0]),
    "a panel and a token": normal(65, 2.0),
    "a whole vocabulary": normal(50_257, 3.0),
    "nearly flat": normal(50_257, 0.01),
    "many tied": (normal(5000, 3.0) * 2).round() / 2,
    "all tied": torch.zeros(5000),
    "rising": torch.arange(5000) / 100,
    "falling": -torch.arange(5000) / 100,
    "far apart": normal(5000, 1000.0),
    "some that cannot be": normal(300, 2.0).where(torch.arange(300) % 7 < 2, -torch.inf),
    "few that can be": torch.zeros(300).where(torch.arange(300) % 100 == 5, -torch.inf),
}


@pytest.mark.parametrize("count", [0, 1, 6, MAX_ALTERNATIVES])
@pytest.mark.parametrize("name", ROWS)
def test_scores_are_pytorchs_in_its_order(name, count):
    row = ROWS[name]
    count = min(count, len(row))
    total, alternatives = scored(row.numpy(), count)
    [(logprob, expected)] = logprobs(row[None], [len(row) - 1], [count])
    exact = row.double().logsumexp(0).item()
    assert total == pytest.approx(exact, abs=1e-6, rel=2e-7)
    assert float(row[-1]) - total == pytest.approx(logprob, abs=1e-5, rel=1e-6)
    assert [token_id for token_id, _ in alternatives] == [token_id for token_id, _ in expected]
    assert [given for _, given in alternatives] == pytest.approx([given for _, given in expected], abs=1e-5, rel=1e-6)


def test_each_row_of_each_step_gets_as_many_alternatives_as_it_asks_for():
    config = dataclasses.replace(CONFIG, vocab_dim=300)
    model = make_model(config)
    counts = (-1, 0, 6, MAX_ALTERNATIVES)
    fast = CompiledModel(model, len(counts), 8, num_threads=2)
    settings, uniforms = (1.5, 0, 0.9, 0.0), np.linspace(0.05, 0.95, MAX_STEPS)
    rows = [Row(slot, 0, [slot], settings, uniforms, count) for slot, count in enumerate(counts)]
    _, drawn, scores = fast.advance(rows, MAX_STEPS)
    for row, count in enumerate(counts):
        ids = [row, *drawn[:, row].tolist()]
        with torch.inference_mode():
            expected = logprobs(model(torch.tensor([ids[:-1]]))[0], ids[1:], [max(count, 0)] * MAX_STEPS)
        for step in range(MAX_STEPS if count >= 0 else 0):
            logprob, alternatives = scores.score(step, row, count)
            assert logprob == pytest.approx(expected[step][0], abs=1e-4)  # the model's logits differ by rounding
            assert [given for given, _ in alternatives] == [given for given, _ in expected[step][1]]
            assert [p for _, p in alternatives] == pytest.approx([p for _, p in expected[step][1]], abs=1e-4)
    fast.close()


def test_logits_that_are_no_numbers_are_scored_without_harm():
    row = normal(300, 2.0)
    row[77] = torch.nan
    total, alternatives = scored(row.numpy(), 6)
    assert np.isnan(total) and len(alternatives) == 6
    scored(np.full(300, -np.inf, np.float32), 6)
