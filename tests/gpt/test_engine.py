"""The engine against a plain uncached loop, and its promises about joining, leaving, failing and repeating."""

import dataclasses
import gc
import threading
import time

import pytest
import torch

from gpt.config import GPTConfig
from gpt.engine import Engine
from gpt.errors import BackendClosedError, BackendError, QueueFullError, RequestError
from gpt.model import GPT
from gpt.sampling import SamplingParams

CONFIG = GPTConfig(vocab_dim=61, sequence_dim=16, embed_dim=16, num_heads=2, num_layers=2)
GREEDY = SamplingParams(temperature=0.0)


@pytest.fixture(autouse=True)
def _one_thread():
    """Models this small gain nothing from a second thread, and lose much when the cores are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_model(config=CONFIG, seed=0):
    """A model whose greedy text wanders: with the weights it starts from, it would repeat one token."""
    torch.manual_seed(seed)
    model = GPT.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            large = "embedding" in name or name == "head.weight"
            parameter.normal_(std=1.0 if large else 0.5 if parameter.dim() > 1 else 0.1)
            if "norm" in name and name.endswith("weight"):
                parameter.add_(1)
    return model.eval()


def make_engine(model=None, **options):
    return Engine(model or make_model(), background=False, **options)


def prompt(length, seed=0):
    return torch.randint(61, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


def run(engine, *generations):
    """Step until there is nothing to do; the ids of each generation."""
    while engine.step():
        pass
    return [[token.token_id for token in generation] for generation in generations]


@torch.no_grad()
def uncached_greedy(model, ids, new_tokens):
    """The documented rule without a cache: the window grows to sequence_dim, then only its last half goes on."""
    capacity = model.config.sequence_dim
    window, generated = ids[-capacity:], []
    for _ in range(new_tokens):
        if len(window) > capacity:
            window = window[-max(1, capacity // 2) :]
        window.append(int(model(torch.tensor([window]))[0, -1].argmax()))
        generated.append(window[-1])
    return generated


VARIANTS = {
    "reference": CONFIG,
    "odd context": dataclasses.replace(CONFIG, sequence_dim=7),
    "context of one": dataclasses.replace(CONFIG, sequence_dim=1),
    "rotary": dataclasses.replace(CONFIG, rotary=True, qk_norm=True, bias=False, head_bias=False, norm_bias=False),
    "tied head": dataclasses.replace(CONFIG, tie_head=True, head_bias=False, qkv_bias=True),
}


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


def test_a_step_gives_every_stream_one_token_while_a_long_prompt_is_read_in_pieces():
    engine = make_engine(prefill_tokens=4)
    first = engine.submit(prompt(2), max_new_tokens=12)
    engine.step()
    long = engine.submit(prompt(15), max_new_tokens=2)
    for step in range(1, 4):
        engine.step()
        assert first._outputs.qsize() == 1 + step and long._outputs.qsize() == 0
    engine.step()  # the fourth piece, of 3 tokens
    assert first._outputs.qsize() == 5 and long._outputs.qsize() == 1


def test_eight_run_at_once_and_a_ninth_waits_for_a_place():
    engine = make_engine(max_streams=8)
    generations = [engine.submit(prompt(3, n), max_new_tokens=10) for n in range(9)]
    engine.step()
    assert (engine.active, engine.waiting) == (8, 1)
    assert [generation._outputs.qsize() for generation in generations] == [1] * 8 + [0]
    assert [len(tokens) for tokens in run(engine, *generations)] == [10] * 9


def test_cancelling_frees_the_place_within_one_step():
    engine = make_engine(max_streams=2)
    first, second, third = (engine.submit(prompt(3, n), GREEDY, 30) for n in range(3))
    engine.step()
    assert (engine.active, engine.waiting) == (2, 1)
    first.cancel()
    engine.step()
    assert (engine.active, engine.waiting) == (2, 0)
    assert list(first) == []
    wanted = [uncached_greedy(make_model(), prompt(3, n), 30) for n in (1, 2)]
    assert run(engine, second, third) == wanted


def test_cancelling_a_waiting_request_frees_its_place_in_the_queue():
    engine = make_engine(max_streams=1, max_queue=1)
    running, waiting = engine.submit(prompt(3)), engine.submit(prompt(3))
    with pytest.raises(QueueFullError):
        engine.submit(prompt(3))
    assert engine.waiting == 2
    waiting.cancel()
    assert engine.waiting == 1
    engine.submit(prompt(3)).cancel()
    running.cancel()
    assert engine.step() is False


def test_a_full_queue_refuses_in_words():
    engine = make_engine(max_streams=2, max_queue=1)
    for _ in range(3):
        engine.submit(prompt(3))
    with pytest.raises(QueueFullError, match=r"max_streams 2, max_queue 1\); try again"):
        engine.submit(prompt(3))
    engine.step()
    with pytest.raises(QueueFullError, match="2 requests are running and 1 are waiting"):
        engine.submit(prompt(3))


def failing_at(model, token_id):
    """The model, raising whenever it is fed the token."""
    forward = model.token_embedding.forward

    def raise_at(input_ids):
        if (input_ids == token_id).any():
            raise RuntimeError("out of memory")
        return forward(input_ids)

    model.token_embedding.forward = raise_at
    return model


def test_a_prompt_that_fails_does_not_take_the_others_with_it():
    model = make_model()
    wanted = uncached_greedy(model, [1, 2], 6)
    assert 60 not in wanted
    engine = make_engine(failing_at(model, 60))
    fine, failed, late = engine.submit([1, 2], GREEDY, 6), engine.submit([60], GREEDY), engine.submit([1, 2], GREEDY, 6)
    assert run(engine, fine, late) == [wanted, wanted]
    with pytest.raises(
        BackendError, match=r"the model failed at this request \(RuntimeError: out of memory\)"
    ) as caught:
        next(failed)
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert list(failed) == [] and engine.active == 0


def test_a_step_that_fails_ends_its_requests_and_the_engine_goes_on():
    model = make_model()
    ids, wanted = next(
        (prompt(2, seed), wanted)
        for seed in range(100)
        if len({*(wanted := uncached_greedy(model, prompt(2, seed), 6))[:3], *prompt(2, seed)}) == 5
    )
    engine = make_engine(failing_at(model, wanted[2]))
    first, second = engine.submit(ids, GREEDY, 6), engine.submit(ids, GREEDY, 2)
    while engine.step():
        pass
    assert [token.token_id for token in second] == wanted[:2]
    assert [next(first).token_id for _ in range(3)] == wanted[:3]
    with pytest.raises(BackendError):
        next(first)
    del model.token_embedding.forward  # the class's own again
    assert run(engine, engine.submit(ids, GREEDY, 6)) == [wanted]


def test_one_request_without_finite_logits_fails_alone_and_leaves_no_trace_in_its_row():
    model = make_model()
    with torch.no_grad():
        model.token_embedding.weight[60] = float("nan")
    wanted = uncached_greedy(model, [1, 2], 6)
    engine = make_engine(model, max_streams=2)
    failed, fine = engine.submit([*prompt(12, 5), 60], GREEDY), engine.submit([1, 2], GREEDY, 6)
    assert run(engine, fine) == [wanted]
    with pytest.raises(BackendError, match="not finite numbers"):
        next(failed)
    # Rows of different lengths: the shorter one's stale part is masked, and must not be NaN.
    both = engine.submit([1, 2], GREEDY, 6), engine.submit(prompt(14, 3), GREEDY, 6)
    assert run(engine, *both)[0] == wanted


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ids": []}, "the prompt has no tokens"),
        ({"ids": [3, 61]}, "the prompt has ids from 3 to 61; the model knows 0 to 60"),
        ({"ids": [-1]}, "the prompt has ids from -1"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0; give a whole number of at least 1"),
        ({"seed": -1}, "seed is -1; give a whole number from 0"),
        ({"seed": 2**63}, "seed is 9223372036854775808; give"),
        ({"logprobs": -1}, "logprobs is -1; give None or a whole number of at least 0"),
    ],
)
def test_bad_arguments_are_refused_in_words(arguments, message):
    with pytest.raises(RequestError, match=message):
        make_engine().submit(**{"ids": [1], **arguments})


@pytest.mark.parametrize("name", ["max_streams", "max_queue", "prefill_tokens", "num_threads"])
def test_bad_options_are_refused_in_words(name):
    with pytest.raises(RequestError, match=f"{name} is -1; give a whole number of at least"):
        make_engine(**{name: -1})


def test_the_background_thread_serves_eight_consumers_side_by_side():
    model = make_model()
    engine = Engine(model, max_streams=8, num_threads=1)
    texts = {}

    def consume(number):
        texts[number] = [token.token_id for token in engine.submit(prompt(4, number), GREEDY, 30)]

    consumers = [threading.Thread(target=consume, args=(number,)) for number in range(8)]
    for consumer in consumers:
        consumer.start()
    for consumer in consumers:
        consumer.join(30)
    engine.close()
    assert texts == {number: uncached_greedy(model, prompt(4, number), 30) for number in range(8)}


def test_closing_ends_open_streams_in_words_and_refuses_new_ones():
    engine = Engine(make_model(), max_streams=1, num_threads=1)
    running, waiting = engine.submit(prompt(3), max_new_tokens=10**6), engine.submit(prompt(3))
    next(running)
    engine.close()
    engine.close()
    for generation in (running, waiting):
        with pytest.raises(BackendClosedError, match="closed before the text was complete"):
            for _ in generation:
                pass
    with pytest.raises(BackendClosedError):
        engine.submit(prompt(3))


def test_closing_waits_for_the_step_under_way():
    model = make_model()
    forward, inside = model.token_embedding.forward, threading.Event()

    def slow(input_ids):
        inside.set()
        time.sleep(0.2)
        return forward(input_ids)

    model.token_embedding.forward = slow
    engine = Engine(model, num_threads=1)
    engine.submit(prompt(3))
    assert inside.wait(10)
    engine.close()
    assert engine._thread and not engine._thread.is_alive()


def test_cancelling_wakes_a_consumer_that_waits():
    engine = make_engine()
    generation = engine.submit(prompt(3))
    ended = threading.Event()

    def consume():
        list(generation)
        ended.set()

    consumer = threading.Thread(target=consume)
    consumer.start()
    time.sleep(0.02)
    generation.cancel()
    assert ended.wait(10)


def test_the_engine_leaves_the_weights_and_the_thread_number_as_they_are():
    model = make_model().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    threads = torch.get_num_threads()
    engine = make_engine(model, num_threads=1)
    run(engine, engine.submit(prompt(3)))
    assert not model.training and torch.get_num_threads() == threads
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_nothing_of_a_request_stays_behind():
    engine = make_engine()
    generation = engine.submit(prompt(3), SamplingParams(repetition_penalty=1.1), 5)
    run(engine, generation)
    gc.collect()
    assert engine._batch.sequences == [] and not engine._waiting and engine._batch._decoding == 0
