"""The engine's promises about many requests: joining, waiting, leaving, failing and closing."""

import gc
import threading
import time

import numpy as np
import pytest
import torch

from gpt.engine import Engine
from gpt.errors import BackendClosedError, BackendError, QueueFullError, RequestError
from gpt.sampling import SamplingParams
from tests import tiny_engine
from tests.tiny_engine import GREEDY, make_engine, make_model, prompt, run, uncached_greedy


@pytest.fixture(autouse=True, params=["PyTorch", "compiled"])
def path(request, monkeypatch):
    monkeypatch.setattr(tiny_engine, "COMPILED", request.param == "compiled")
    return request.param


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


by_torch = pytest.mark.parametrize("path", ["PyTorch"], indirect=True)


@pytest.mark.parametrize("path", ["compiled"], indirect=True)
def test_a_compiled_step_that_fails_ends_those_that_took_part_and_the_engine_goes_on(monkeypatch):
    model = make_model()
    engine = make_engine(model, max_streams=2)
    taking_part = [engine.submit([1, 2], GREEDY, 6), engine.submit([3], GREEDY, 6)]
    waiting = engine.submit([1, 2], GREEDY, 6)
    rows = engine._batch._rows
    with monkeypatch.context() as patch:
        patch.setattr(rows, "advance", lambda *arguments: [][0])
        engine.step()
    for generation in taking_part:
        with pytest.raises(BackendError, match="the model failed at this request"):
            next(generation)
    assert run(engine, waiting) == [uncached_greedy(model, [1, 2], 6)]


@pytest.mark.parametrize("path", ["compiled"], indirect=True)
def test_a_step_among_several_that_has_nothing_to_draw_from_ends_its_request_there(monkeypatch):
    engine = make_engine()
    generation = engine.submit([1, 2], GREEDY, 6)
    engine.step()
    next(generation)
    logits, drawn = np.zeros((1, 61), np.float32), np.array([[5], [-1], [6]])  # and the last step is fine
    monkeypatch.setattr(engine._batch, "_steps", lambda *arguments: 3)
    monkeypatch.setattr(engine._batch._rows, "advance", lambda *arguments: (logits, drawn, None))
    engine.step()
    assert next(generation).token_id == 5
    with pytest.raises(BackendError, match="not finite numbers"):
        next(generation)


def fail_at(engine, token_id, monkeypatch):
    """Let the engine's forward passes raise whenever they are fed the token."""

    def raising(forward):
        def raise_at(input_ids, cache):
            if (input_ids == token_id).any():
                raise RuntimeError("out of memory")
            return forward(input_ids, cache)

        return raise_at

    rows = engine._batch._rows
    for name in ("_hidden_states", "_decode_step"):
        monkeypatch.setattr(rows, name, raising(getattr(rows, name)))


@by_torch
def test_a_prompt_that_fails_does_not_take_the_others_with_it(monkeypatch):
    model = make_model()
    wanted = uncached_greedy(model, [1, 2], 6)
    assert 60 not in wanted
    engine = make_engine(model)
    fail_at(engine, 60, monkeypatch)
    fine, failed, late = engine.submit([1, 2], GREEDY, 6), engine.submit([60], GREEDY), engine.submit([1, 2], GREEDY, 6)
    assert run(engine, fine, late) == [wanted, wanted]
    with pytest.raises(
        BackendError, match=r"the model failed at this request \(RuntimeError: out of memory\)"
    ) as caught:
        next(failed)
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert list(failed) == [] and engine.active == 0


@by_torch
def test_a_step_that_fails_ends_its_requests_and_the_engine_goes_on(monkeypatch):
    model = make_model()
    ids, wanted = next(
        (prompt(2, seed), wanted)
        for seed in range(100)
        if len({*(wanted := uncached_greedy(model, prompt(2, seed), 6))[:3], *prompt(2, seed)}) == 5
    )
    engine = make_engine(model)
    fail_at(engine, wanted[2], monkeypatch)
    first, second = engine.submit(ids, GREEDY, 6), engine.submit(ids, GREEDY, 2)
    while engine.step():
        pass
    assert [token.token_id for token in second] == wanted[:2]
    assert [next(first).token_id for _ in range(3)] == wanted[:3]
    with pytest.raises(BackendError):
        next(first)
    monkeypatch.undo()
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
        make_engine(None, **{name: -1})


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


def test_closing_waits_for_the_step_under_way(monkeypatch):
    model = make_model()
    forward, inside = model.token_embedding.forward, threading.Event()

    def slow(input_ids):
        inside.set()
        time.sleep(0.2)
        return forward(input_ids)

    monkeypatch.setattr(model.token_embedding, "forward", slow)
    engine = Engine(model, num_threads=1, compiled=False)
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
