"""Products of 8-bit whole numbers: against the same rounding done in torch, and what stays the same to the bit."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from gpt import load_checkpoint
from gpt.compiled.compiled_model import CompiledModel, Row
from gpt.compiled.panel import VNNI
from gpt.engine import Engine
from gpt.errors import ConfigError
from gpt.model import GPT
from tests.gpt.compiled.test_compiled_model import GREEDY, VARIANTS, ids_of, make, read
from tests.tiny_engine import GREEDY as GREEDILY
from tests.tiny_engine import make_model, prompt, run

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.skipif(not VNNI, reason="this processor lacks AVX-512 VNNI")


def rounded(values: Tensor) -> Tensor:
    """Each row at the nearest of 255 steps between its largest magnitude and its opposite, to the nearest even one."""
    scale = values.abs().amax(-1, keepdim=True) / 127
    return torch.where(scale > 0, (values / scale).round() * scale, 0)


def linear_of_whole_numbers(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    product = (rounded(x).double() @ rounded(weight).double().T).float()
    return product if bias is None else product + bias


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name not in ("one head", "large eps")])
def test_logits_are_those_of_rounded_weights_and_rounded_rows(variant, monkeypatch):
    model = make(VARIANTS[variant])
    ids = ids_of(model.config, model.config.sequence_dim)
    with torch.inference_mode():
        exact = model(torch.tensor([ids]))[0].numpy()
        monkeypatch.setattr(functional, "linear", linear_of_whole_numbers)
        expected = model(torch.tensor([ids]))[0].numpy()
    fast = CompiledModel(model, 1, len(ids), int8=True)
    logits = np.stack([read(fast, [token], place=place) for place, token in enumerate(ids)])
    fast.close()
    # Where a number lies in the middle between two steps, the last bit of a sum decides which it takes.
    assert np.median(np.abs(logits - expected)) < 1e-6 and np.median(np.abs(logits - exact)) > 1e-4


def test_a_row_is_the_same_to_the_bit_whatever_runs_beside_it_and_on_any_threads():
    config = dataclasses.replace(VARIANTS["reference"], vocab_dim=20_000, embed_dim=130, num_heads=13, sequence_dim=40)
    model = make(config)
    wanted = None
    for num_threads in (1, 2, 5):
        fast = CompiledModel(model, 8, 64, num_threads, int8=True)
        alone = read(fast, ids_of(config, 6, 3), 3)
        rows = [Row(slot, 0, ids_of(config, 6, slot), (0.8, 50, 0.9, 0.01), [0.3]) for slot in range(7)]
        for _ in range(5):
            logits = fast.advance(rows)[0]
        assert np.array_equal(logits[3], alone) and (wanted is None or np.array_equal(logits, wanted))
        wanted = logits.copy()
        fast.close()


def test_what_is_no_number_stays_in_its_row_and_a_row_of_zeros_is_one():
    model = make(dataclasses.replace(VARIANTS["reference"], vocab_dim=300))
    with torch.no_grad():
        model.token_embedding.weight[7] = torch.nan
        for name in ("weight", "bias"):
            model.get_parameter(f"blocks.0.linear1.{name}").zero_()  # what the second multiplies is then zero
    fast = CompiledModel(model, 8, 64, int8=True)
    fine = read(fast, [3, 4], 5)
    logits, drawn, _ = fast.advance([Row(0, 0, [7], GREEDY, [0.5]), Row(1, 0, [3, 4], GREEDY, [0.5])])
    assert np.isfinite(fine).all() and np.isnan(logits[0]).all()
    assert drawn.tolist() == [[-1, int(fine.argmax())]] and np.array_equal(logits[1], fine)
    fast.close()


def test_an_engine_that_is_asked_for_it_takes_it_from_the_first_token_on():
    model = make_model()
    engine = Engine(model, background=False, int8=True)
    assert engine.path == "compiled, int8"
    texts = run(engine, *(engine.submit(prompt(3), GREEDILY, 40) for _ in range(2)))
    assert texts[0] == texts[1] and len(texts[0]) == 40
    engine.close()


@pytest.mark.parametrize("name", ["laptop", "shakespeare", "verse"])
def test_shipped_checkpoint_predicts_nearly_the_same(name):
    checkpoint = load_checkpoint(ROOT / "checkpoints" / name)
    model: GPT = checkpoint.model
    text = (ROOT / "data" / "sonnets.txt").read_text(encoding="utf-8")
    ids = checkpoint.tokenizer.encode(re.sub(r"[^A-Za-z ,.;:!?\n]", "", text))[:1000]
    context = model.config.sequence_dim
    divergences, agreed = list[float](), list[bool]()
    fast = CompiledModel(model.eval(), 1, 1, int8=True)
    for start in range(0, len(ids) - context, context):
        piece = ids[start : start + context]
        with torch.inference_mode():
            exact = model(torch.tensor([piece]))[0].log_softmax(-1)
        logits = torch.stack([torch.tensor(read(fast, [token], place=place)) for place, token in enumerate(piece)])
        divergences += (
            functional.kl_div(logits.log_softmax(-1), exact, reduction="none", log_target=True).sum(1).tolist()
        )
        agreed += (logits.argmax(1) == exact.argmax(1)).tolist()
    fast.close()
    assert np.mean(divergences) < 0.001 and np.mean(agreed) > 0.95


def test_it_cannot_be_had_without_the_compiled_path():
    with pytest.raises(ConfigError, match="only the compiled path has int8"):
        Engine(make_model(), int8=True, compiled=False)


def test_a_processor_without_it_is_told_so(monkeypatch):
    monkeypatch.setattr("gpt.compiled.compiled_model.VNNI", False)
    with pytest.raises(ConfigError, match="int8 needs a processor with AVX-512 VNNI, which this one lacks"):
        Engine(make_model(), int8=True, background=False)
