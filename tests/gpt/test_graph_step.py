"""The step that CUDA would record, on a CPU: recorded by a stand-in that does the work again when it is launched."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from gpt.decode_step import decode_step
from gpt.graph_step import GraphStep
from gpt.kv_cache import KVCache
from gpt.torch_rows import TorchRows
from tests.tiny_engine import CONFIG, GREEDY, make_engine, make_model, prompt, run, uncached_greedy

VARIANTS = {
    "reference": CONFIG,
    "rotary": dataclasses.replace(CONFIG, rotary=True, qk_norm=True, bias=False, head_bias=False),
    "norms alone": dataclasses.replace(CONFIG, qk_norm=True),
}


def record(work):
    """Into the same memory each time, as a graph does."""
    result = work().clone()
    return result, lambda: result.copy_(work())


@pytest.mark.parametrize("variant", VARIANTS)
@torch.inference_mode()
def test_rows_of_different_lengths_get_the_states_of_the_plain_step(variant):
    model = make_model(VARIANTS[variant])
    caches = [KVCache.from_config(model.config, 6) for _ in range(2)]
    for cache in caches:
        for row, length in enumerate((3, 9, 0, 5, 15, 16)):  # the last two are not decoded; the last one is full
            if length:
                model.hidden_states(torch.tensor([prompt(length, row)]), cache.rows(row, row + 1))
    graph = GraphStep(decode_step(model), caches[0], record)
    for ids in ([7, 8, 9], [1, 2, 3], [4, 5, 6, 7], [1]):
        expected = model.hidden_states(torch.tensor(ids)[:, None], caches[1].rows(0, len(ids)))[:, -1]
        torch.testing.assert_close(graph.decode(ids), expected, rtol=1e-4, atol=1e-5)
        assert caches[0].lengths == caches[1].lengths
    mine, others = ([*keys, *values] for keys, values in (cache.tensors for cache in caches))
    for row, length in enumerate(caches[1].lengths):
        for tensor, other in zip(mine, others, strict=True):
            torch.testing.assert_close(tensor[row, :, :length], other[row, :, :length], rtol=1e-4, atol=1e-5)


def test_each_number_of_rows_is_recorded_once():
    model = make_model()
    recorded = []

    def counting(work):
        recorded.append(work)
        return record(work)

    with torch.inference_mode():
        graph = GraphStep(decode_step(model), KVCache.from_config(CONFIG, 6), counting)
        for rows in (1, 2, 3, 4, 5, 6, 5, 3, 1):
            assert graph.decode([1] * rows).shape == (rows, CONFIG.embed_dim)
    assert len(recorded) == 4  # for 1, 2, 4 and 6


def rows_of(engine) -> TorchRows:
    assert isinstance(engine._batch._rows, TorchRows)
    return engine._batch._rows


def with_graph(engine, recorder):
    rows = rows_of(engine)
    rows._graph = GraphStep(rows._decode_step, rows._cache, recorder)
    return engine


def test_the_engines_text_is_the_same_also_past_the_context():
    model = make_model()
    engine = with_graph(make_engine(model, max_streams=5, prefill_tokens=4), record)
    lengths = (2, 9, 16, 30, 1, 7, 20)
    generations = [engine.submit(prompt(length), GREEDY, 40) for length in lengths]
    assert run(engine, *generations) == [uncached_greedy(model, prompt(length), 40) for length in lengths]


def test_what_cannot_be_recorded_is_launched_one_by_one_and_said(caplog):
    def refuse(work):
        raise RuntimeError("operation not permitted when stream is capturing")

    model = make_model()
    engine = with_graph(make_engine(model), refuse)
    assert run(engine, engine.submit(prompt(3), GREEDY, 20)) == [uncached_greedy(model, prompt(3), 20)]
    assert rows_of(engine)._graph is None
    [said] = caplog.messages
    assert said.startswith("the steps are not recorded as CUDA graphs (operation not permitted")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_engines_text_on_a_gpu_is_the_cpus(variant):
    model = make_model(VARIANTS[variant])
    wanted = [uncached_greedy(model, prompt(length), 40) for length in (2, 9, 30)]
    engine = make_engine(model.cuda())
    assert run(engine, *(engine.submit(prompt(length), GREEDY, 40) for length in (2, 9, 30))) == wanted
    assert rows_of(engine)._graph is not None
