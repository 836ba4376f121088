"""The decode step against the model that it stands for."""

import dataclasses

import pytest
import torch

from gpt.config import GPTConfig
from gpt.decode_step import decode_step
from gpt.kv_cache import KVCache
from gpt.model import GPT

CONFIG = GPTConfig(vocab_dim=31, sequence_dim=12, embed_dim=24, num_heads=3, num_layers=2, dropout=0.5)
VARIANTS: dict[str, dict] = {
    "reference": {},
    "GPT-2's": {"tie_head": True, "head_bias": False, "qkv_bias": True, "activation": "gelu_tanh"},
    "rotary": {"rotary": True, "qk_norm": True, "bias": False, "norm_bias": False, "activation": "relu_squared"},
    "normalised": {"qk_norm": True, "qkv_bias": True},
    "relu": {"activation": "relu", "feedforward_dim": 40, "layer_norm_eps": 0.1},
}


@pytest.mark.parametrize("lengths", [(0,), (5,), (3, 3, 3), (1, 7, 4, 7)])
@pytest.mark.parametrize("variant", VARIANTS)
@torch.inference_mode()
def test_states_and_cache_are_those_of_the_model(variant, lengths):
    torch.manual_seed(0)
    config = dataclasses.replace(CONFIG, **VARIANTS[variant])
    model = GPT.from_config(config).eval()
    for parameter in model.parameters():
        parameter.normal_(std=0.5)
    caches = [KVCache.from_config(config, len(lengths)) for _ in range(2)]
    for cache in caches:
        for row, length in enumerate(lengths):
            if length:
                model.hidden_states(torch.arange(length)[None] + row, cache.rows(row, row + 1))
    step = decode_step(model)
    for _ in range(4):
        input_ids = torch.randint(31, (len(lengths), 1))
        states = step(input_ids, caches[0])
        torch.testing.assert_close(states, model.hidden_states(input_ids, caches[1]))
        assert states.shape == (len(lengths), 1, 24) and caches[0].lengths == caches[1].lengths
    for layer, expected in zip(caches[0].layers, caches[1].layers, strict=True):
        torch.testing.assert_close(layer._keys, expected._keys)
        torch.testing.assert_close(layer._values, expected._values)


@torch.inference_mode()
def test_weights_that_change_in_place_change_the_step():
    model = GPT.from_config(CONFIG).eval()
    step = decode_step(model)
    for parameter in model.parameters():
        parameter.normal_()
    input_ids = torch.tensor([[3]])
    caches = [KVCache.from_config(CONFIG, 1) for _ in range(2)]
    torch.testing.assert_close(step(input_ids, caches[0]), model.hidden_states(input_ids, caches[1]))
