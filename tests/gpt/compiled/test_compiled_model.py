"""The compiled step against the model itself, and what of it is the same to the bit."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from gpt.compiled.compiled_model import MAX_STEPS, CompiledModel, Row
from gpt.config import ACTIVATIONS
from gpt.model import GPT
from tests.tiny_engine import CONFIG, make_model

GREEDY = (0.0, 0, 1.0, 0.0)
VARIANTS = {
    "reference": CONFIG,
    "several panels": dataclasses.replace(CONFIG, vocab_dim=1000, embed_dim=78, num_heads=13, sequence_dim=40),
    "rotary": dataclasses.replace(CONFIG, rotary=True),
    "rotary with norms": dataclasses.replace(CONFIG, rotary=True, qk_norm=True),
    "learned with norms": dataclasses.replace(CONFIG, qk_norm=True),
    "without biases": dataclasses.replace(CONFIG, bias=False, norm_bias=False, head_bias=False),
    "tied, with query bias": dataclasses.replace(CONFIG, tie_head=True, head_bias=False, qkv_bias=True),
    "narrow feed-forward": dataclasses.replace(CONFIG, feedforward_dim=10),
    "one head": dataclasses.replace(CONFIG, num_heads=1, vocab_dim=64),
    "large eps": dataclasses.replace(CONFIG, layer_norm_eps=0.5),
    **{name: dataclasses.replace(CONFIG, activation=name) for name in ACTIVATIONS},
}
HALF = ("float32", "half precision")


def make(config, stored="float32") -> GPT:
    model = make_model(config)
    if stored == "half precision":
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(parameter.half())
    return model


@contextmanager
def compiled(model: GPT, *, max_slots: int = 8, num_threads: int = 1) -> Iterator[CompiledModel]:
    made = CompiledModel(model, max_slots, 64, num_threads)
    try:
        yield made
    finally:
        made.close()


def ids_of(config, length: int, seed: int = 0) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    ids: list[int] = torch.randint(config.vocab_dim, (length,), generator=generator).tolist()
    return ids


def read(model: CompiledModel, ids, slot=0, place=0):
    """A copy of the logits behind the last of the ids."""
    return model.advance([Row(slot, place, ids, GREEDY, [0.5])])[0][0].copy()


@pytest.mark.parametrize("stored", HALF)
@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_are_the_models(variant, stored):
    model = make(VARIANTS[variant], stored)
    ids = ids_of(model.config, model.config.sequence_dim)
    with torch.inference_mode():
        expected = model(torch.tensor([ids]))[0].numpy()
    with compiled(model) as fast:
        logits = np.stack([read(fast, [token], place=place) for place, token in enumerate(ids)])
    scale = np.abs(expected).max()
    np.testing.assert_allclose(logits, expected, rtol=0, atol=3e-5 * max(1, scale))
    assert logits.argmax(1).tolist() == expected.argmax(1).tolist()


@pytest.mark.parametrize("stored", HALF)
@pytest.mark.parametrize("variant", ["reference", "several panels", "rotary with norms"])
def test_a_row_is_the_same_to_the_bit_however_it_is_read_and_whatever_runs_beside_it(variant, stored):
    model = make(VARIANTS[variant], stored)
    ids = ids_of(model.config, 15)
    with compiled(model) as fast:
        at_once = read(fast, ids, slot=1)
        in_pieces = [read(fast, ids[start:end], 2, start) for start, end in ((0, 1), (1, 6), (6, 15))][-1]
        read(fast, ids[:9], 3)
        beside = [Row(slot, 0, ids_of(model.config, slot, slot), GREEDY, [0.5]) for slot in range(4, 8)]
        logits, *_ = fast.advance([beside[0], Row(3, 9, ids[9:], GREEDY, [0.5]), *beside[1:]])
        assert np.array_equal(in_pieces, at_once) and np.array_equal(logits[1], at_once)


def test_threads_that_share_a_step_change_no_bit():
    config = dataclasses.replace(CONFIG, vocab_dim=20_000, embed_dim=128, sequence_dim=40)
    model = make(config)
    wanted = None
    for num_threads in (1, 2, 5):  # more than most machines that run this have cores
        with compiled(model, num_threads=num_threads) as fast:
            rows = [Row(slot, 0, ids_of(config, 6, slot), (0.8, 50, 0.9, 0.01), [0.3]) for slot in range(8)]
            fast.wake()
            for _ in range(20):
                logits, drawn, _ = fast.advance(rows)
            assert wanted is None or (np.array_equal(logits, wanted[0]) and np.array_equal(drawn, wanted[1]))
            wanted = wanted or (logits.copy(), drawn.copy())


def test_several_steps_at_once_are_as_many_single_ones():
    model = make(CONFIG)
    uniforms, settings = np.linspace(0.05, 0.95, MAX_STEPS), (1.5, 0, 1.0, 0.0)
    with compiled(model) as fast:
        drawn = fast.advance([Row(0, 0, [5], settings, uniforms)], MAX_STEPS)[1][:, 0].tolist()
        single = [5]
        for step in range(MAX_STEPS):
            row = Row(1, step, single[-1:], settings, uniforms[step : step + 1])
            single.append(int(fast.advance([row])[1][0, 0]))
    assert drawn == single[1:] and len(set(drawn)) > 3


def test_a_row_that_wants_nothing_is_read_and_gets_no_logits():
    model = make(CONFIG)
    with compiled(model) as fast:
        logits, drawn, _ = fast.advance([Row(0, 0, [1, 2], None, []), Row(1, 0, [3], GREEDY, [0.5])])
        assert logits.shape == (1, CONFIG.vocab_dim) and drawn.shape == (1, 1)
        logits, *_ = fast.advance([Row(0, 0, [1, 2, 3], None, [])])
        assert logits.shape == (0, CONFIG.vocab_dim)
        assert np.array_equal(read(fast, [4], 0, 3), read(fast, [1, 2, 3, 4], 2))


def test_a_temperature_below_zero_leaves_the_draw_to_the_caller():
    model = make(CONFIG)
    with compiled(model) as fast:
        assert fast.advance([Row(0, 0, [3], (-1.0, 0, 1.0, 0.0), [0.5])])[1].tolist() == [[-1]]


def test_logits_that_are_no_numbers_are_seen_and_stay_in_their_row():
    config = dataclasses.replace(CONFIG, vocab_dim=300)
    model = make(config)
    with torch.no_grad():
        model.token_embedding.weight[7] = torch.nan
    with compiled(model) as fast:
        fine = read(fast, [3, 4], 5)
        logits, drawn, _ = fast.advance([Row(0, 0, [7], GREEDY, [0.5]), Row(1, 0, [3, 4], GREEDY, [0.5])])
        assert drawn.tolist() == [[-1, int(fine.argmax())]] and np.array_equal(logits[1], fine)
        fast.erase(0)
        assert np.array_equal(read(fast, [3, 4], 0), fine)


def test_the_weights_are_copied_and_closing_twice_is_fine():
    model = make(CONFIG)
    fast = CompiledModel(model, 2, 8, num_threads=2)
    before = read(fast, [1, 2, 3])
    with torch.no_grad():
        model.head.weight.zero_()
    assert np.array_equal(read(fast, [1, 2, 3]), before)
    fast.close()
    fast.close()


def test_closing_ends_every_helper_whatever_it_was_about_to_do():
    for _ in range(50):
        fast = CompiledModel(make(CONFIG), 1, 8, num_threads=6)
        fast.wake()
        fast.close()
        assert not any(helper.is_alive() for helper in fast._helpers)


def test_what_is_kept_on_disk_is_found_by_the_whole_packages_sources():
    """numba looks at the file of the entry alone; the number of all sources is in the entry's key."""
    from gpt.compiled.kernel import SOURCES
    from gpt.compiled.step import advance

    assert advance.py_func.__closure__[0].cell_contents == SOURCES
