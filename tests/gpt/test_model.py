"""GPT: its counts, transformers' GPT-2 with the same weights, the cache, and what must never depend on what."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import nn

import gpt
from gpt.config import GPTConfig
from gpt.errors import ConfigError
from gpt.kv_cache import KVCache
from gpt.model import GPT

SMALL = GPTConfig(vocab_dim=11, sequence_dim=8, embed_dim=12, num_heads=3, num_layers=2, dropout=0.0)
CONFIGS = {
    "reference": SMALL,
    "modern": dataclasses.replace(
        SMALL,
        activation="relu_squared",
        bias=False,
        norm_bias=False,
        head_bias=False,
        rotary=True,
        qk_norm=True,
        attention_dropout=0.0,
        feedforward_dim=20,
    ),
    "tied": dataclasses.replace(SMALL, tie_head=True, head_bias=False, qkv_bias=True, activation="gelu_tanh"),
}
WIDE: dict[str, Any] = {"vocab_dim": 300, "sequence_dim": 64, "embed_dim": 96, "num_heads": 4, "num_layers": 8}
ALL = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def random_model(config: GPTConfig, dtype: torch.dtype = torch.float64) -> GPT:
    """A model whose every parameter is large enough to matter."""
    torch.manual_seed(0)
    model = GPT.from_config(config, dtype=dtype).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    return model


def random_ids(*shape: int) -> torch.Tensor:
    return torch.randint(SMALL.vocab_dim, shape)


@pytest.mark.parametrize(
    ("sizes", "parameters"), [((50257, 100, 78, 13, 4), 8_193_457), ((50257, 1024, 768, 12, 12), 163_059_793)]
)
def test_model_has_exactly_the_reference_number_of_parameters(sizes: tuple[int, ...], parameters: int) -> None:
    names = ("vocab_dim", "sequence_dim", "embed_dim", "num_heads", "num_layers")
    fields: dict[str, Any] = dict(zip(names, sizes, strict=True))
    model = GPT.from_config(GPTConfig(**fields), device="meta")
    assert model.num_parameters() == parameters


def test_package_hands_out_its_names() -> None:
    assert gpt.GPT is GPT and gpt.GPTConfig is GPTConfig
    assert {name for name in gpt.__all__ if getattr(gpt, name).__name__ == name} == set(gpt.__all__)
    with pytest.raises(AttributeError, match="module 'gpt' has no attribute 'Transformer'"):
        _ = gpt.Transformer


GPT2_NAMES = {
    "h.": "blocks.",
    "attn.c_attn.": "self_attn.in_proj_",
    "attn.c_proj": "self_attn.out_proj",
    "mlp.c_fc": "linear1",
    "mlp.c_proj": "linear2",
    "wte": "token_embedding",
    "wpe": "position_embedding",
    "ln_f": "norm",
    "ln_": "norm",
}


def from_gpt2(name: str, tensor: torch.Tensor) -> tuple[str, torch.Tensor]:
    """Our name and arrangement of one of transformers' tensors: its Conv1D (c_...) keeps weights transposed."""
    transposed = ".c_" in name and name.endswith("weight")
    for theirs, ours in GPT2_NAMES.items():
        name = name.replace(theirs, ours)
    return name, tensor.T if transposed else tensor


def test_model_equals_transformers_gpt2() -> None:
    """Logits and the gradients of every parameter."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocab_size": 61, "n_positions": 16, "n_embd": 24, "n_layer": 3, "n_head": 4}
    theirs = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)).eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    fields: dict[str, Any] = {"vocab_dim": 61, "sequence_dim": 16, "embed_dim": 24, "num_heads": 4, "num_layers": 3}
    switches: dict[str, Any] = {"activation": "gelu_tanh", "qkv_bias": True, "tie_head": True, "head_bias": False}
    ours = GPT.from_config(GPTConfig(**fields, **switches)).eval()
    state = dict(from_gpt2(name, parameter) for name, parameter in theirs.transformer.named_parameters())
    ours.load_state_dict(state | {"head.weight": theirs.lm_head.weight}, strict=True)
    assert ours.num_parameters() == theirs.num_parameters()

    input_ids = torch.randint(61, (3, 16))
    logits, expected = ours(input_ids), theirs(input_ids).logits
    assert expected.std() > 0.3
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    for output in (logits, expected):
        output.log_softmax(-1)[:, :, 7].mean().backward()
    for name, parameter in theirs.transformer.named_parameters():
        assert parameter.grad is not None
        name, gradient = from_gpt2(name, parameter.grad)
        torch.testing.assert_close(
            ours.get_parameter(name).grad, gradient, rtol=1e-3, atol=1e-4, msg=f"{name}: {{}}".format
        )


@ALL
def test_cached_logits_equal_uncached_for_every_chunking(config: GPTConfig) -> None:
    model = random_model(config)
    input_ids = random_ids(2, 6)
    expected = model(input_ids)
    for cuts in range(2**5):  # bit i: a chunk ends behind token i
        ends = [i + 1 for i in range(5) if cuts >> i & 1] + [6]
        cache = KVCache.from_config(config, 2, dtype=torch.float64)
        chunks = [model(input_ids[:, start:end], cache) for start, end in zip([0, *ends], ends, strict=False)]
        assert cache.lengths == [6, 6]
        torch.testing.assert_close(torch.cat(chunks, dim=1), expected)


@ALL
def test_cached_rows_of_different_lengths_equal_uncached_ones(config: GPTConfig) -> None:
    model = random_model(config)
    texts = [random_ids(1, 8) for _ in range(3)]
    cache = KVCache.from_config(config, 3, dtype=torch.float64)
    lengths = (4, 0, 2)
    for row, length in enumerate(lengths):
        if length:
            model(texts[row][:, :length], cache.rows(row, row + 1))
    for new in (1, 2, 1):
        starts = cache.lengths
        logits = model(
            torch.cat([text[:, start : start + new] for text, start in zip(texts, starts, strict=True)]), cache
        )
        for row, start in enumerate(starts):
            torch.testing.assert_close(logits[row], model(texts[row][:, : start + new])[0, start:])
    assert cache.lengths == [8, 4, 6]


@ALL
def test_a_later_token_changes_no_earlier_logits(config: GPTConfig) -> None:
    model = random_model(config)
    input_ids = random_ids(1, 8)
    logits = model(input_ids)
    for position in range(8):
        changed = input_ids.clone()
        changed[0, position] = (changed[0, position] + 1) % config.vocab_dim
        difference = (model(changed) - logits).abs().amax(dim=-1)[0]
        assert difference[:position].eq(0).all()
        assert difference[position:].gt(0).all()


@ALL
def test_rows_of_a_batch_do_not_touch_each_other(config: GPTConfig) -> None:
    model = random_model(config)
    input_ids = random_ids(4, 8)
    logits = model(input_ids)
    for row in range(4):
        torch.testing.assert_close(model(input_ids[row : row + 1]), logits[row : row + 1])
    changed = input_ids.clone()
    changed[2] = (changed[2] + 1) % config.vocab_dim
    assert (model(changed) != logits).flatten(1).any(dim=1).tolist() == [False, False, True, False]


def test_a_rotary_model_sees_distances_not_positions() -> None:
    """With one block, the same last three tokens behind blocked ones give the same logits wherever they stand."""
    model = random_model(dataclasses.replace(CONFIGS["modern"], num_layers=1))
    last = random_ids(1, 3)
    logits = model(last)
    x = model.token_embedding(torch.cat((random_ids(1, 40), last), dim=1))
    padding = torch.arange(43)[None] < 40
    shifted = model.head(model.norm(model.blocks[0](x, src_key_padding_mask=padding, is_causal=True)))
    torch.testing.assert_close(shifted[:, 40:], logits)


@ALL
def test_inspect_agrees_with_forward(config: GPTConfig) -> None:
    model = random_model(config)
    input_ids = random_ids(2, 5)
    seen = model.inspect(input_ids)
    torch.testing.assert_close(seen.logits, model(input_ids))
    torch.testing.assert_close(model.head(model.norm(seen.hidden_states[-1])), seen.logits)
    torch.testing.assert_close(model.hidden_states(input_ids), model.norm(seen.hidden_states[-1]))
    assert [tuple(states.shape) for states in seen.hidden_states] == [(2, 5, 12)] * 3
    assert len(seen.attention_weights) == 2
    for weights in seen.attention_weights:
        assert weights.shape == (2, 3, 5, 5)
        assert weights.triu(1).eq(0).all()
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 5, dtype=torch.float64))


def test_zero_init_predicts_uniformly_and_changes_nothing_on_the_way() -> None:
    model = GPT.from_config(dataclasses.replace(CONFIGS["modern"], zero_init=True))
    seen = model.inspect(random_ids(2, 8))
    assert seen.logits.eq(0).all()
    assert torch.equal(seen.hidden_states[0], seen.hidden_states[-1])
    wide = GPT.from_config(GPTConfig(**WIDE, zero_init=True))
    deviations = {name: parameter.std().item() for name, parameter in wide.named_parameters() if parameter.dim() == 2}
    for name, deviation in deviations.items():
        expected = 1 / math.sqrt(3 * 96)
        if name.endswith(("out_proj.weight", "linear2.weight", "head.weight")):
            expected = 0.0
        elif "embedding" in name:
            expected = 0.02
        assert deviation == pytest.approx(expected, rel=0.05), name


def test_initial_weights_have_gpt2_standard_deviations() -> None:
    torch.manual_seed(0)
    for name, parameter in GPT.from_config(GPTConfig(**WIDE, qkv_bias=True)).named_parameters():
        if name.endswith("bias"):
            assert parameter.eq(0).all(), name
        elif "norm" in name:
            assert parameter.eq(1).all(), name
        else:
            scaled = name.endswith(("out_proj.weight", "linear2.weight"))
            assert parameter.std().item() == pytest.approx(0.02 / 4 if scaled else 0.02, rel=0.05), name
            assert abs(parameter.mean().item()) < 5 * parameter.std().item() / math.sqrt(parameter.numel()), name


def test_model_drops_the_embedding_in_training() -> None:
    model = GPT.from_config(dataclasses.replace(SMALL, dropout=0.5))
    nn.init.ones_(model.token_embedding.weight)
    seen = model.inspect(random_ids(20, 8)).hidden_states[0]
    assert 0.4 < seen.eq(0).float().mean() < 0.6
    assert model.eval().inspect(random_ids(20, 8)).hidden_states[0].ne(0).all()


def test_model_refuses_more_than_sequence_dim_tokens() -> None:
    model = random_model(SMALL)
    assert model(random_ids(1, 8)).shape == (1, 8, 11)
    with pytest.raises(ConfigError, match="the sequence has 9 tokens, but sequence_dim is 8; pass fewer tokens"):
        model(random_ids(1, 9))
    cache = KVCache.from_config(SMALL, 1, capacity=20, dtype=torch.float64)
    model(random_ids(1, 7), cache)
    with pytest.raises(ConfigError, match="the sequence has 9 tokens, but sequence_dim is 8"):
        model(random_ids(1, 2), cache)
    assert cache.lengths == [7]
    rotary = random_model(CONFIGS["modern"])
    assert rotary(random_ids(1, 9)).shape == (1, 9, 11)  # turning has no end; only a cache's room has
    with pytest.raises(ConfigError, match="the cache has room for 8 tokens a row, but 9 are needed"):
        rotary(random_ids(1, 9), KVCache.from_config(CONFIGS["modern"], 1, dtype=torch.float64))


@ALL
def test_model_refuses_a_cache_with_another_number_of_rows(config: GPTConfig) -> None:
    cache = KVCache.from_config(config, 2, dtype=torch.float64)
    with pytest.raises(ConfigError, match="input_ids has 1 rows, but the cache has 2; pass one row of ids for each"):
        random_model(config)(random_ids(1, 3), cache)


@ALL
def test_state_dict_loads_strictly_into_a_fresh_model(config: GPTConfig) -> None:
    model = random_model(config)
    fresh = GPT.from_config(config, dtype=torch.float64).eval()
    input_ids = random_ids(2, 8)
    assert not torch.equal(fresh(input_ids), model(input_ids))
    fresh.load_state_dict(model.state_dict(), strict=True)
    assert torch.equal(fresh(input_ids), model(input_ids))
    deeper = GPT.from_config(dataclasses.replace(config, num_layers=3), dtype=torch.float64)
    with pytest.raises(RuntimeError, match=r"Missing key\(s\) in state_dict: \"blocks.2"):
        deeper.load_state_dict(model.state_dict(), strict=True)


def test_a_tied_head_is_the_embedding() -> None:
    model = random_model(CONFIGS["tied"])
    assert model.head.weight is model.token_embedding.weight
    untied = GPT.from_config(dataclasses.replace(CONFIGS["tied"], tie_head=False))
    assert untied.num_parameters() - model.num_parameters() == 11 * 12


def test_fresh_weights_repeat_under_a_seed() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(5)
        states.append(GPT.from_config(SMALL).state_dict())
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name])
