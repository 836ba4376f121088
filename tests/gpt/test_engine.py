"""The engine's text against a plain uncached loop, its penalties, its log-probabilities, and what a seed repeats."""

import dataclasses

import pytest
import torch

from gpt.sampling import SamplingParams
from tests import tiny_engine
from tests.tiny_engine import CONFIG, GREEDY, make_engine, make_model, prompt, run, uncached_greedy

VARIANTS = {
    "reference": CONFIG,
    "odd context": dataclasses.replace(CONFIG, sequence_dim=7),
    "context of one": dataclasses.replace(CONFIG, sequence_dim=1),
    "rotary": dataclasses.replace(CONFIG, rotary=True, qk_norm=True, bias=False, head_bias=False, norm_bias=False),
    "tied head": dataclasses.replace(CONFIG, tie_head=True, head_bias=False, qkv_bias=True),
}


@pytest.fixture(autouse=True, params=["PyTorch", "compiled"])
def path(request, monkeypatch):
    monkeypatch.setattr(tiny_engine, "COMPILED", request.param == "compiled")
    return request.param


@pytest.mark.parametrize("prefill_tokens", [1, 5, 128])
@pytest.mark.parametrize("length", [1, 6, 15, 16, 17, 40])
@pytest.mark.parametrize("variant", VARIANTS)
def test_greedy_equals_the_uncached_loop_also_past_the_context(variant, length, prefill_tokens):
    model = make_model(VARIANTS[variant])
    engine = make_engine(model, prefill_tokens=prefill_tokens)
    [tokens] = run(engine, engine.submit(prompt(length), GREEDY, 45))
    assert tokens == uncached_greedy(model, prompt(length), 45)


def test_requests_that_join_and_leave_at_any_time_do_not_touch_each_other():
    model = make_model()
    engine = make_engine(model, max_streams=3, prefill_tokens=4)
    wanted, generations = [], []
    for number in range(20):
        length, new_tokens = 1 + number * 7 % 23, 1 + number * 11 % 37
        generations.append(engine.submit(prompt(length, number), GREEDY, new_tokens))
        wanted.append(uncached_greedy(model, prompt(length, number), new_tokens))
        for _ in range(number % 4):
            engine.step()
    assert run(engine, *generations) == wanted
    assert engine.active == 0


def test_a_request_repeats_alone_and_beside_seven_others():
    model = make_model()
    params = SamplingParams(temperature=1.0, top_k=20, top_p=0.95, repetition_penalty=1.2)
    engine = make_engine(model)
    [alone] = run(engine, engine.submit(prompt(5), params, 60, seed=7))
    engine = make_engine(model)
    others = [engine.submit(prompt(3 + n, n), SamplingParams(), 20 + 5 * n, seed=n) for n in range(4)]
    engine.step()
    repeated = engine.submit(prompt(5), params, 60, seed=7)
    others += [engine.submit(prompt(3 + n, n), GREEDY, 20 + 5 * n) for n in range(3)]
    assert run(engine, repeated, *others)[0] == alone
    assert run(engine, engine.submit(prompt(5), params, 60, seed=8))[0] != alone


def test_a_drawn_seed_is_reported_and_repeats_the_request():
    engine = make_engine()
    first, second = engine.submit(prompt(4)), engine.submit(prompt(4))
    assert first.seed != second.seed
    [tokens, again] = run(engine, first, engine.submit(prompt(4), seed=first.seed))
    assert tokens == again


def test_the_last_token_says_that_the_length_was_reached():
    engine = make_engine()
    generation = engine.submit(prompt(4), max_new_tokens=3)
    run(engine)
    tokens = list(generation)
    assert [token.finish_reason for token in tokens] == [None, None, "length"]
    assert tokens[0].logprob is None and tokens[0].alternatives == ()
    assert list(generation) == [] and generation.prompt_tokens == 4


@torch.no_grad()
def penalised_greedy(model, ids, new_tokens, params):
    """Greedy within the context, with the penalties by their definition."""
    window = list(ids)
    while len(window) < len(ids) + new_tokens:
        logits = model(torch.tensor([window]))[0, -1]
        for token_id in set(window):
            factor = params.repetition_penalty
            logits[token_id] = logits[token_id] / factor if logits[token_id] > 0 else logits[token_id] * factor
        for token_id in set(window[len(ids) :]):
            count = window[len(ids) :].count(token_id)
            logits[token_id] -= params.presence_penalty + count * params.frequency_penalty
        window.append(int(logits.argmax()))
    return window[len(ids) :]


@pytest.mark.parametrize(
    "penalties",
    [{"repetition_penalty": 1.5}, {"presence_penalty": 1.0}, {"frequency_penalty": 0.6}, {"frequency_penalty": -2.0}],
)
def test_penalties_count_the_prompt_and_the_completion(penalties):
    model = make_model()
    params = SamplingParams(temperature=0.0, **penalties)
    engine = make_engine(model)
    prompts = [prompt(3, seed) for seed in range(8)]
    plain = run(engine, *(engine.submit(ids, GREEDY, 13) for ids in prompts))
    tokens = run(engine, *(engine.submit(ids, params, 13) for ids in prompts))
    assert tokens == [penalised_greedy(model, ids, 13, params) for ids in prompts] != plain


@torch.no_grad()
def test_logprobs_are_those_of_the_raw_logits():
    model = make_model()
    engine = make_engine(model)
    hot = SamplingParams(temperature=3.0, top_k=0, repetition_penalty=1.5)
    asked = [engine.submit(prompt(4, n), hot, 8, seed=n, logprobs=n) for n in (0, 3, 20)]
    unasked = engine.submit(prompt(4, 9), hot, 8)
    run(engine)
    for count, generation in zip((0, 3, 20), asked, strict=True):
        ids = prompt(4, count)
        for token in generation:
            expected = model(torch.tensor([ids]))[0, -1].log_softmax(0)
            assert token.logprob == pytest.approx(expected[token.token_id].item(), abs=1e-4)
            values, best = expected.topk(count)
            assert [i for i, _ in token.alternatives] == best.tolist()
            assert [p for _, p in token.alternatives] == pytest.approx(values.tolist(), abs=1e-4)
            ids.append(token.token_id)
    assert all(token.logprob is None for token in unasked)
