"""A checkpoint with rotary positions as transformers' LlamaForCausalLM or Qwen3ForCausalLM: the same logits.

Three things differ there, and each has an exact way:

- Their norms do not take the mean away. Whatever is written to the stream is centred instead, so that there is none.
- Their feed-forward multiplies two branches, activation(gate x) * (up x). With up = gate and relu that is relu squared,
  which needs no bias (Qwen3's has none); with a bias, up can be 0 x + 1, which leaves any activation (Llama's).
- Qwen3 normalises queries and keys with the epsilon of all its norms. Scaling queries and keys before that scales the
  epsilon, until it is ours.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from gpt.config import GPTConfig
from gpt.hub.gpt2_weights import ACTIVATIONS
from gpt.model import GPT
from gpt.rotary import BASE

# What torch's rms_norm adds when it is told nothing.
QK_NORM_EPS = torch.finfo(torch.float32).eps


def rotary_settings(config: GPTConfig) -> dict[str, Any]:
    """The config.json of the model's class: Qwen3's with normalised queries and keys, else Llama's."""
    settings: dict[str, Any] = {
        "architectures": ["Qwen3ForCausalLM" if config.qk_norm else "LlamaForCausalLM"],
        "model_type": "qwen3" if config.qk_norm else "llama",
        "vocab_size": config.vocab_dim,
        "max_position_embeddings": config.sequence_dim,
        "hidden_size": config.embed_dim,
        "intermediate_size": config.feedforward_dim or 4 * config.embed_dim,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_heads,
        "head_dim": config.head_dim,
        "hidden_act": "relu" if config.qk_norm else ACTIVATIONS[config.activation],
        "rms_norm_eps": config.layer_norm_eps,
        "rope_parameters": {"rope_type": "default", "rope_theta": BASE},
        "attention_bias": not config.qk_norm,
        "attention_dropout": config.dropout if config.attention_dropout is None else config.attention_dropout,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": None,
        "dtype": "float32",
    }
    return settings if config.qk_norm else settings | {"mlp_bias": True}


@torch.no_grad()
def rotary_weights(model: GPT) -> dict[str, Tensor]:
    """The weights of the model's class there, float32, by their names."""
    config = model.config
    weights = {name: tensor.double() for name, tensor in model.state_dict().items()}
    found = {
        "model.embed_tokens.weight": _centred(weights["token_embedding.weight"]),
        "model.norm.weight": weights["norm.weight"],
        "lm_head.weight": weights["head.weight"],
    }
    scale = math.sqrt(config.layer_norm_eps / QK_NORM_EPS) if config.qk_norm else 1.0
    for index in range(config.num_layers):
        ours, theirs = f"blocks.{index}", f"model.layers.{index}"
        found[f"{theirs}.input_layernorm.weight"] = weights[f"{ours}.norm1.weight"]
        found[f"{theirs}.post_attention_layernorm.weight"] = weights[f"{ours}.norm2.weight"]
        projections = weights[f"{ours}.self_attn.in_proj_weight"].chunk(3)
        for name, projection, factor in zip("qkv", projections, (scale, scale, 1.0), strict=True):
            found[f"{theirs}.self_attn.{name}_proj.weight"] = projection * factor
        found[f"{theirs}.self_attn.o_proj.weight"] = _centred(weights[f"{ours}.self_attn.out_proj.weight"].T).T
        gate = weights[f"{ours}.linear1.weight"]
        found[f"{theirs}.mlp.gate_proj.weight"] = gate
        found[f"{theirs}.mlp.up_proj.weight"] = gate.clone() if config.qk_norm else torch.zeros_like(gate)
        found[f"{theirs}.mlp.down_proj.weight"] = _centred(weights[f"{ours}.linear2.weight"].T).T
        if config.qk_norm:
            for name in "qk":
                found[f"{theirs}.self_attn.{name}_norm.weight"] = torch.ones(config.head_dim)
            continue
        zeros = torch.zeros(config.embed_dim)
        biases = weights.get(f"{ours}.self_attn.in_proj_bias", torch.zeros(3 * config.embed_dim)).chunk(3)
        for name, bias in zip("qkv", biases, strict=True):
            found[f"{theirs}.self_attn.{name}_proj.bias"] = bias
        found[f"{theirs}.self_attn.o_proj.bias"] = _centred(weights.get(f"{ours}.self_attn.out_proj.bias", zeros))
        found[f"{theirs}.mlp.gate_proj.bias"] = weights.get(f"{ours}.linear1.bias", torch.zeros(len(gate)))
        found[f"{theirs}.mlp.up_proj.bias"] = torch.ones(len(gate))
        found[f"{theirs}.mlp.down_proj.bias"] = _centred(weights.get(f"{ours}.linear2.bias", zeros))
    return {name: tensor.float().contiguous() for name, tensor in found.items()}


def _centred(tensor: Tensor) -> Tensor:
    """Without the mean of its last dimension, which is the stream's."""
    return tensor - tensor.mean(-1, keepdim=True)
