"""Sampling against an independent reference, written plainly, and against chi-square."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from gpt import sampling
from gpt.errors import BackendError, RequestError
from gpt.sampling import (
    Candidates,
    SamplingParams,
    Uniforms,
    candidates,
    distribution,
    draw,
    penalise,
    sample,
)

OFF = SamplingParams(temperature=1.0, top_k=0)
SEEN = {3: 0, 5: 2, 0: 1, 11: 4}

COMBINATIONS = {
    "off": OFF,
    "temperature": SamplingParams(temperature=0.5, top_k=0),
    "hot": SamplingParams(temperature=2.5, top_k=0),
    "top_k": SamplingParams(temperature=1.0, top_k=5),
    "top_p": SamplingParams(temperature=1.0, top_k=0, top_p=0.7),
    "min_p": SamplingParams(temperature=1.0, top_k=0, min_p=0.2),
    "top_k_top_p": SamplingParams(temperature=1.3, top_k=8, top_p=0.8),
    "top_k_min_p": SamplingParams(temperature=1.3, top_k=8, min_p=0.15),
    "top_p_min_p": SamplingParams(temperature=2.0, top_k=0, top_p=0.95, min_p=0.1),
    "all_filters": SamplingParams(temperature=1.7, top_k=9, top_p=0.9, min_p=0.12),
    "repetition": SamplingParams(temperature=1.0, top_k=0, repetition_penalty=1.8),
    "presence": SamplingParams(temperature=1.0, top_k=0, presence_penalty=1.5),
    "frequency": SamplingParams(temperature=1.0, top_k=0, frequency_penalty=-0.5),
    "everything": SamplingParams(
        temperature=1.5,
        top_k=9,
        top_p=0.9,
        min_p=0.1,
        repetition_penalty=1.4,
        presence_penalty=0.5,
        frequency_penalty=0.3,
    ),
}


def reference(logits, params, seen=None):
    """The distribution by the definition of each filter, over the whole row, with a full sort: probabilities (V,)."""
    x = np.array(logits.tolist())
    for token_id, count in (seen or {}).items():
        x[token_id] = (
            x[token_id] / params.repetition_penalty if x[token_id] > 0 else x[token_id] * params.repetition_penalty
        )
        x[token_id] -= (params.presence_penalty if count else 0) + params.frequency_penalty * count
    if params.temperature == 0:
        p = np.zeros(len(x))
        p[min(np.flatnonzero(x == x.max()))] = 1
        return p
    p = np.exp((x - x.max()) / params.temperature)
    p /= p.sum()
    order = np.lexsort((np.arange(len(x)), -x))  # of tied ones the lower id first
    if params.top_k:
        p[order[params.top_k :]] = 0
        p /= p.sum()
    if params.top_p < 1:
        reached = np.cumsum(p[order]) >= params.top_p
        kept = int(np.argmax(reached)) + 1 if reached.any() else len(p)
        p[order[kept:]] = 0
        p /= p.sum()
    p[p < params.min_p * p.max() * (1 - 1e-12)] = 0
    return p / p.sum()


def whole_row(ids, probabilities, vocab_dim):
    """A distribution over candidates as one over the vocabulary."""
    row = np.zeros(vocab_dim)
    row[ids] = probabilities
    return row


def chi_square_p_value(counts, expected):
    """The probability of a chi-square statistic at least as large, by Pearson's test; 0 if an impossible token came."""
    if counts[expected == 0].sum():
        return 0.0
    counts, expected = counts[expected > 0], expected[expected > 0] * counts.sum()
    if len(counts) == 1:
        return 1.0
    statistic = ((counts - expected) ** 2 / expected).sum()
    return torch.special.gammaincc(torch.tensor((len(counts) - 1) / 2), torch.tensor(statistic / 2)).item()


def small_row():
    return torch.randn(16, generator=torch.Generator().manual_seed(4)) * 1.5


def drawn_counts(logits, params, seen, draws=8000):
    row = candidates(penalise(logits, params, seen)[None], [params])[0]
    uniforms = Uniforms(torch.Generator().manual_seed(7))
    return np.bincount([draw(row, params, uniforms) for _ in range(draws)], minlength=len(logits))


@pytest.mark.parametrize("name", COMBINATIONS)
def test_draws_follow_the_analytic_distribution(name):
    params, logits = COMBINATIONS[name], small_row()
    expected = reference(logits, params, SEEN)
    assert chi_square_p_value(drawn_counts(logits, params, SEEN), expected) > 1e-3


def test_chi_square_would_see_a_slightly_wrong_temperature():
    logits = small_row()
    wrong = dataclasses.replace(OFF, temperature=0.9)
    assert chi_square_p_value(drawn_counts(logits, OFF, {}), reference(logits, wrong)) < 1e-6


def test_each_seed_of_many_gives_one_draw_of_the_distribution():
    logits = small_row()
    tokens = [sample(logits, OFF, torch.Generator().manual_seed(seed)) for seed in range(8000)]
    assert chi_square_p_value(np.bincount(tokens, minlength=16), reference(logits, OFF)) > 1e-3


LARGE = {
    **COMBINATIONS,
    "top_k_50": SamplingParams(),
    "top_k_1": SamplingParams(top_k=1),
    "top_k_thousands": SamplingParams(top_k=3000),
    "top_k_above_vocabulary": SamplingParams(top_k=10**6),
    "top_p_near_one": SamplingParams(temperature=1.0, top_k=0, top_p=0.99999),
    "top_p_tiny": SamplingParams(temperature=1.0, top_k=0, top_p=1e-9),
    "min_p_one": SamplingParams(temperature=1.0, top_k=0, min_p=1.0),
    "min_p_tiny": SamplingParams(temperature=1.0, top_k=0, min_p=1e-5),
    "cold": SamplingParams(temperature=1e-8, top_k=0),
    "greedy": SamplingParams(temperature=0.0),
}


@pytest.mark.parametrize("find", ["memory", "device"])
@pytest.mark.parametrize("name", LARGE)
def test_what_is_kept_is_right_at_50257_columns(name, find):
    params = LARGE[name]
    logits = torch.randn(50257, generator=torch.Generator().manual_seed(1)) * 3
    penalised = penalise(logits, params, SEEN)[None]
    found = candidates(penalised, [params]) if find == "memory" else sampling._device_candidates(penalised, [params])
    ids, probabilities = distribution(found[0], params)
    got, expected = whole_row(ids, probabilities, 50257), reference(logits, params, SEEN)
    assert (np.diff(ids) > 0).all() and abs(probabilities.sum() - 1) < 1e-12
    different = np.flatnonzero((got > 0) != (expected > 0))
    # Which token crosses top_p at 0.99999 depends on the last digit of a sum of 50,257 numbers.
    assert len(different) <= (2 if name == "top_p_near_one" else 0)
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-9)


@pytest.mark.parametrize("find", ["memory", "device"])
@pytest.mark.parametrize("vocab_dim", [1, 2, 63, 64, 65, 1000])
@pytest.mark.parametrize("k", [1, 2, 3, 50, 70])
def test_ties_never_widen_top_k_and_the_lower_ids_stay(vocab_dim, k, find):
    logits = (torch.randn(vocab_dim, generator=torch.Generator().manual_seed(2)) * 2).round() / 2
    params = SamplingParams(temperature=1.0, top_k=k)
    find = candidates if find == "memory" else sampling._device_candidates
    ids, _ = distribution(find(logits[None], [params])[0], params)
    order = sorted(range(vocab_dim), key=lambda i: (-logits[i].item(), i))
    assert ids.tolist() == sorted(order[:k])


def test_equal_logits_keep_exactly_k():
    params = SamplingParams(top_k=2)
    ids, probabilities = distribution(candidates(torch.zeros(1, 1000), [params])[0], params)
    assert ids.tolist() == [0, 1] and probabilities.tolist() == [0.5, 0.5]


@pytest.mark.parametrize(("p", "kept"), [(0.4, 1), (0.5, 1), (0.51, 2), (0.75, 2), (0.76, 3), (1.0, 4)])
def test_top_p_keeps_the_smallest_set_that_reaches_p(p, kept):
    logits = torch.tensor([0.125, 0.5, 0.25, 0.125]).log2() * math.log(2)
    row = Candidates(np.arange(4), logits.numpy())
    ids, _ = distribution(row, SamplingParams(temperature=1.0, top_k=0, top_p=p - 1e-6))
    assert ids.tolist() == sorted([1, 2, 0, 3][:kept])


def test_top_p_counts_its_probability_among_the_top_k():
    logits = np.log([0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1]).astype(np.float32)
    ids, _ = distribution(Candidates(np.arange(7), logits), SamplingParams(temperature=1.0, top_k=2, top_p=0.55))
    assert ids.tolist() == [0]  # 0.6 of the two that top-k left; of all seven it would need four


def test_rows_of_a_batch_keep_their_own_parameters():
    logits = torch.randn(len(LARGE), 5000, generator=torch.Generator().manual_seed(3))
    params = list(LARGE.values())
    for find in (candidates, sampling._device_candidates):
        together = find(logits, params)
        for i, p in enumerate(params):
            alone = distribution(candidates(logits[i : i + 1], [p])[0], p)
            for a, b in zip(distribution(together[i], p), alone, strict=True):
                np.testing.assert_array_equal(a, b)


def test_a_draw_takes_one_uniform_and_greedy_none():
    logits = small_row()
    generator, twin = torch.Generator().manual_seed(9), torch.Generator().manual_seed(9)
    sample(logits, SamplingParams(temperature=0.0), generator)
    assert torch.equal(generator.get_state(), twin.get_state())
    for params in COMBINATIONS.values():
        sample(logits, params, generator, SEEN)
        torch.rand((), generator=twin, dtype=torch.float64)
        assert torch.equal(generator.get_state(), twin.get_state())


@pytest.mark.parametrize(("uniform", "token_id"), [(0.0, 1), (0.5 - 1e-9, 1), (0.5 + 1e-9, 3), (1 - 2**-53, 3)])
def test_a_uniform_at_any_border_gives_a_token_that_has_a_probability(monkeypatch, uniform, token_id):
    monkeypatch.setattr(torch, "rand", lambda *size, **options: torch.full(size, uniform, dtype=torch.float64))
    logits = torch.tensor([-math.inf, 1.0, -math.inf, 1.0])
    assert sample(logits, OFF, torch.Generator()) == token_id


def test_a_rounding_error_does_not_exchange_two_nearly_equal_tokens():
    tokens = []
    for nudge in (-1e-6, 1e-6):
        logits = torch.tensor([1.0, 1.0 + nudge, 0.5])
        generator = torch.Generator().manual_seed(5)
        tokens.append([sample(logits, OFF, generator) for _ in range(500)])
    assert tokens[0] == tokens[1]


def test_sampling_leaves_its_logits_as_they_are():
    logits = small_row()
    before = logits.clone()
    for params in COMBINATIONS.values():
        sample(logits, params, torch.Generator().manual_seed(0), SEEN)
    assert torch.equal(logits, before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_logits_of_any_float_type_are_sampled(dtype):
    logits = small_row().to(dtype)
    assert sample(logits, SamplingParams(temperature=0.0), torch.Generator()) == int(logits.argmax())
    params = COMBINATIONS["everything"]
    assert sample(logits, params, torch.Generator().manual_seed(1), SEEN) in range(16)


def test_masked_tokens_are_never_drawn():
    logits = torch.full((200,), -math.inf)
    logits[[7, 90]] = torch.tensor([1.0, 2.0])
    for params in COMBINATIONS.values():
        generator = torch.Generator().manual_seed(0)
        assert {sample(logits, params, generator) for _ in range(50)} <= {7, 90}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("find", ["memory", "device"])
@pytest.mark.parametrize(
    "params", [SamplingParams(), OFF, SamplingParams(temperature=0.0), SamplingParams(top_k=0, min_p=0.1)]
)
def test_logits_that_are_not_numbers_are_refused_in_words(bad, params, find):
    logits = torch.full((1, 300), -math.inf) if bad == -math.inf else torch.zeros(1, 300)
    logits[0, 7] = bad
    find = candidates if find == "memory" else sampling._device_candidates
    with pytest.raises(BackendError, match="not finite numbers"):
        draw(find(logits, [params])[0], params, Uniforms(torch.Generator()))


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("temperature", -0.1, "from 0 to 10"),
        ("temperature", math.nan, "from 0 to 10"),
        ("temperature", math.inf, "from 0 to 10"),
        ("temperature", "1", "from 0 to 10"),
        ("temperature", True, "from 0 to 10"),
        ("temperature", 10**400, "from 0 to 10"),
        ("top_k", -1, "a whole number of at least 0"),
        ("top_k", 2.0, "a whole number of at least 0"),
        ("top_k", True, "a whole number of at least 0"),
        ("top_p", 0, "above 0, to 1"),
        ("top_p", 1.01, "above 0, to 1"),
        ("min_p", 1.01, "from 0 to 1"),
        ("min_p", None, "from 0 to 1"),
        ("repetition_penalty", 0, "above 0, to 10"),
        ("presence_penalty", 2.5, "from -2 to 2"),
        ("frequency_penalty", -2.5, "from -2 to 2"),
    ],
)
def test_a_parameter_out_of_range_is_refused_with_its_name_and_range(field, value, allowed):
    with pytest.raises(RequestError) as caught:
        SamplingParams(**{field: value})
    assert str(caught.value).startswith(f"{field} is {value!r}; ") and allowed in str(caught.value)


def test_whole_numbers_are_accepted_as_floats():
    params = SamplingParams(temperature=1, top_p=1, repetition_penalty=2)
    assert isinstance(params.temperature, float) and params.repetition_penalty == 2.0


@pytest.mark.parametrize("penalty", [5e-324, 1e-30, 10.0])
def test_the_most_extreme_repetition_penalties_leave_numbers(penalty):
    logits, seen = torch.tensor([0.0, 2.0, -3.0, 1.0, 0.0]), {0: 0, 1: 1, 2: 2}
    params = SamplingParams(repetition_penalty=penalty)
    assert penalise(logits, params, seen).isfinite().all()
    assert sample(logits, params, torch.Generator(), seen) in range(5)
