"""A checkpoint as transformers' GPT2LMHeadModel: the same logits, also where the head has a bias.

That class has no place for one: it travels in a column of its own. GPT-2's class wants one width for all, so each head
is widened by one, and the stream from E to E' = H (D + 1) columns:

- whatever is written to the stream is centred and gets zeros behind it. Only LayerNorms read the stream, and they take
  its mean away anyhow, so centring changes nothing; and with zeros behind it the mean over E' columns is zero too;
- the variance over E' columns is E / E' of what it was: with gains scaled by sqrt(E / E') and an epsilon scaled by
  E / E', a LayerNorm gives what it gave, and zeros behind;
- queries are scaled by sqrt((D + 1) / D), since scores are divided by the root of the head's width;
- the final norm's gain is 0 and its bias 1 in the first new column, where the head's weights have its bias.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from gpt.config import GPTConfig
from gpt.model import GPT

# transformers' names of our activations.
ACTIVATIONS = {"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu", "relu_squared": "relu2"}


def gpt2_settings(config: GPTConfig) -> dict[str, Any]:
    """The config.json of the model's GPT2LMHeadModel."""
    width = config.num_heads * (config.head_dim + 1) if config.head_bias else config.embed_dim
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": config.vocab_dim,
        "n_positions": config.sequence_dim,
        "n_embd": width,
        "n_layer": config.num_layers,
        "n_head": config.num_heads,
        "n_inner": config.feedforward_dim or 4 * config.embed_dim,
        "activation_function": ACTIVATIONS[config.activation],
        "layer_norm_epsilon": config.layer_norm_eps * config.embed_dim / width,
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.dropout if config.attention_dropout is None else config.attention_dropout,
        "tie_word_embeddings": config.tie_head,
        "bos_token_id": None,
        "eos_token_id": None,
        "dtype": "float32",
    }


@torch.no_grad()
def gpt2_weights(model: GPT) -> dict[str, Tensor]:
    """The weights of the model's GPT2LMHeadModel, float32, by their names there."""
    config = model.config
    weights = {name: tensor.double() for name, tensor in model.state_dict().items()}
    widening = _Widening(config)
    embed, heads = config.embed_dim, config.num_heads
    found: dict[str, Tensor] = {
        "transformer.wte.weight": widening.writes(weights["token_embedding.weight"]),
        "transformer.wpe.weight": widening.writes(weights["position_embedding.weight"]),
    }

    def norm(ours: str, theirs: str) -> None:
        found[f"{theirs}.weight"] = widening.gain(weights[f"{ours}.weight"])
        found[f"{theirs}.bias"] = widening.pad(weights.get(f"{ours}.bias", torch.zeros(embed)), 0)

    for index in range(config.num_layers):
        ours, theirs = f"blocks.{index}", f"transformer.h.{index}"
        norm(f"{ours}.norm1", f"{theirs}.ln_1")
        norm(f"{ours}.norm2", f"{theirs}.ln_2")
        # (3E, E) and (3E): rows are queries, keys and values, head by head. Theirs are (in, out), as Conv1D has them.
        projection = weights[f"{ours}.self_attn.in_proj_weight"]
        bias = weights.get(f"{ours}.self_attn.in_proj_bias", torch.zeros(3 * embed))
        found[f"{theirs}.attn.c_attn.weight"] = widening.pad(widening.heads(projection, heads), 1).T
        found[f"{theirs}.attn.c_attn.bias"] = widening.heads(bias, heads)
        out = weights[f"{ours}.self_attn.out_proj.weight"].T  # (E in, E out), the inputs head by head
        found[f"{theirs}.attn.c_proj.weight"] = widening.writes(widening.values(out, heads))
        linear = weights[f"{ours}.linear1.weight"]
        found[f"{theirs}.mlp.c_fc.weight"] = widening.pad(linear, 1).T
        found[f"{theirs}.mlp.c_fc.bias"] = weights.get(f"{ours}.linear1.bias", torch.zeros(len(linear)))
        found[f"{theirs}.mlp.c_proj.weight"] = widening.writes(weights[f"{ours}.linear2.weight"].T)
        for layer, place in (("self_attn.out_proj", "attn.c_proj"), ("linear2", "mlp.c_proj")):
            found[f"{theirs}.{place}.bias"] = widening.writes(weights.get(f"{ours}.{layer}.bias", torch.zeros(embed)))
    norm("norm", "transformer.ln_f")
    if not config.tie_head:
        found["lm_head.weight"] = widening.pad(weights["head.weight"], 1)
    if config.head_bias:
        found["transformer.ln_f.bias"][embed] = 1.0
        found["lm_head.weight"][:, embed] = weights["head.bias"]
    return {name: tensor.float().contiguous() for name, tensor in found.items()}


class _Widening:
    """The way from E columns to E'; where the head has no bias, E' is E and nothing changes.

    Args:
        config: the model's shape.
    """

    def __init__(self, config: GPTConfig) -> None:
        self._wide = config.head_bias
        self._new = config.num_heads if config.head_bias else 0
        self._gain = math.sqrt(config.embed_dim / (config.embed_dim + self._new))
        self._query = math.sqrt((config.head_dim + 1) / config.head_dim)

    def pad(self, tensor: Tensor, dim: int) -> Tensor:
        """Zeros behind the columns of dimension `dim`."""
        shape = list(tensor.shape)
        shape[dim] = self._new
        return torch.cat([tensor, tensor.new_zeros(shape)], dim)

    def gain(self, tensor: Tensor) -> Tensor:
        """A LayerNorm's gain, (E) to (E')."""
        return self.pad(tensor * self._gain, 0)

    def writes(self, tensor: Tensor) -> Tensor:
        """What is written to the stream, its last dimension E to E': centred, then zeros."""
        return self.pad(tensor - tensor.mean(-1, keepdim=True), -1) if self._wide else tensor

    def heads(self, tensor: Tensor, num_heads: int) -> Tensor:
        """The rows of queries, keys and values, (3E, ...) to (3E', ...): a row of zeros behind each head's."""
        if not self._wide:
            return tensor
        parts = tensor.unflatten(0, (3, num_heads, -1)).clone()  # (3, H, D, ...)
        parts[0] *= self._query
        return torch.cat([parts, parts.new_zeros(3, num_heads, 1, *parts.shape[3:])], 2).flatten(0, 2)

    def values(self, tensor: Tensor, num_heads: int) -> Tensor:
        """The rows that attended values meet, (E, E) to (E', E): a row of zeros behind each head's."""
        if not self._wide:
            return tensor
        parts = tensor.unflatten(0, (num_heads, -1))
        return torch.cat([parts, parts.new_zeros(num_heads, 1, parts.shape[2])], 1).flatten(0, 1)
