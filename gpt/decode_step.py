"""One token a row through the model, without what its modules cost by the call."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt.attention import MultiheadAttention
from gpt.block import SelfMultiheadAttentionBlock
from gpt.kv_cache import KVCache, LayerCache
from gpt.model import GPT


def decode_step(model: GPT) -> Callable[[Tensor, KVCache], Tensor]:
    """A function like `GPT.hidden_states` with a cache that has room, for input_ids (R, 1), without dropout.

    The same computation, with the weights at hand: a token of the shakespeare configuration is some 80 operations of
    a few microseconds, and modules, their attributes and the choices that only training or masks need cost more than
    these. Seen on a CPU: 730 us with modules, 400 us so. The weights are the model's own, not copies.
    """
    blocks = [_block(block) for block in model.blocks if isinstance(block, SelfMultiheadAttentionBlock)]
    embed, norm = _embed(model), _norm(model.norm)

    def step(input_ids: Tensor, cache: KVCache) -> Tensor:
        x = embed(input_ids, cache)
        blocked = cache.causal_mask(1)
        mask = None if blocked is None else ~blocked  # here True attends
        for block, layer in zip(blocks, cache.layers, strict=True):
            x = block(x, layer, mask)
        cache.advance(1)
        return norm(x)

    return step


def _embed(model: GPT) -> Callable[[Tensor, KVCache], Tensor]:
    """Embedded tokens, with their positions where those are learned; (R, 1, E)."""
    tokens = model.token_embedding.weight
    if model.position_embedding is None:
        return lambda input_ids, cache: F.embedding(input_ids, tokens)
    positions = model.position_embedding.weight

    def embed(input_ids: Tensor, cache: KVCache) -> Tensor:
        at = positions[cache.lengths[0]] if cache.uniform else F.embedding(cache.positions(1), positions)
        return F.embedding(input_ids, tokens) + at

    return embed


_Project = Callable[[Tensor, LayerCache], tuple[Tensor, Tensor, Tensor]]


def _block(block: SelfMultiheadAttentionBlock) -> Callable[[Tensor, LayerCache, Tensor | None], Tensor]:
    attention = block.self_attn
    project, activation = _project(attention), block.activation
    norm1, norm2 = _norm(block.norm1), _norm(block.norm2)
    out_proj, linear1, linear2 = _linear(attention.out_proj), _linear(block.linear1), _linear(block.linear2)

    def step(x: Tensor, cache: LayerCache, mask: Tensor | None) -> Tensor:
        q, k, v = project(norm1(x), cache)
        keys, values = cache.append(k, v)
        attended = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask)
        x = x + out_proj(attended.transpose(1, 2).flatten(2))  # (R, H, 1, D) -> (R, 1, E)
        return x + linear2(activation(linear1(norm2(x))))

    return step


def _project(attention: MultiheadAttention) -> _Project:
    """Queries, keys and values of self-attention, each (R, H, 1, D)."""
    if attention.rotary or attention.qk_norm:
        return attention._project_packed
    weight, bias = attention.in_proj_weight, attention.in_proj_bias
    shape = (-1, 1, 3, attention.num_heads, attention.head_dim)

    def project(x: Tensor, cache: LayerCache) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = F.linear(x, weight, bias).view(shape).permute(2, 0, 3, 1, 4).unbind(0)  # 3 x (R, H, 1, D)
        return q, k, v

    return project


def _linear(linear: nn.Linear) -> Callable[[Tensor], Tensor]:
    weight, bias = linear.weight, linear.bias
    return lambda x: F.linear(x, weight, bias)


def _norm(norm: nn.LayerNorm) -> Callable[[Tensor], Tensor]:
    shape, weight, bias, eps = norm.normalized_shape, norm.weight, norm.bias, norm.eps
    return lambda x: torch.layer_norm(x, shape, weight, bias, eps)
