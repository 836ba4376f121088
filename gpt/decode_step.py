"""One token a row through the model, without what its modules cost by the call."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt.attention import MultiheadAttention
from gpt.block import SelfMultiheadAttentionBlock
from gpt.kv_cache import KVCache, LayerCache
from gpt.model import GPT
from gpt.rotary import apply_rotary, rotary_table
from gpt.static_cache import StaticCache, StaticLayer

DecodeStep = Callable[[Tensor, KVCache | StaticCache], Tensor]
_Layer = LayerCache | StaticLayer


def decode_step(model: GPT) -> DecodeStep:
    """A function like `GPT.hidden_states` with a cache that has room, for input_ids (R, 1), without dropout.

    The same computation, with the weights at hand: a token of the shakespeare configuration is some 80 operations of
    a few microseconds, and modules, their attributes and the choices that only training or masks need cost more than
    these. Seen on a CPU: 730 us with modules, 400 us so. The weights are the model's own, not copies.
    """
    capacity = model.config.sequence_dim
    blocks = [_block(block, capacity) for block in model.blocks if isinstance(block, SelfMultiheadAttentionBlock)]
    embed, norm = _embed(model), _norm(model.norm)

    def step(input_ids: Tensor, cache: KVCache | StaticCache) -> Tensor:
        x = embed(input_ids, cache)
        blocked = cache.causal_mask(1)
        mask = None if blocked is None else ~blocked  # here True attends
        layers: Sequence[_Layer] = cache.layers
        for block, layer in zip(blocks, layers, strict=True):
            x = block(x, layer, mask)
        cache.advance(1)
        return norm(x)

    return step


def _embed(model: GPT) -> DecodeStep:
    """Embedded tokens, with their positions where those are learned; (R, 1, E)."""
    tokens = model.token_embedding.weight
    if model.position_embedding is None:
        return lambda input_ids, cache: F.embedding(input_ids, tokens)
    positions = model.position_embedding.weight

    def embed(input_ids: Tensor, cache: KVCache | StaticCache) -> Tensor:
        if isinstance(cache, KVCache) and cache.uniform:
            at = positions[cache.lengths[0]]
        else:
            at = F.embedding(cache.positions(1), positions)
        return F.embedding(input_ids, tokens) + at

    return embed


_Project = Callable[[Tensor, _Layer], tuple[Tensor, Tensor, Tensor]]


def _block(block: SelfMultiheadAttentionBlock, capacity: int) -> Callable[[Tensor, _Layer, Tensor | None], Tensor]:
    attention = block.self_attn
    project, activation = _project(attention, capacity), block.activation
    norm1, norm2 = _norm(block.norm1), _norm(block.norm2)
    out_proj, linear1, linear2 = _linear(attention.out_proj), _linear(block.linear1), _linear(block.linear2)

    def step(x: Tensor, cache: _Layer, mask: Tensor | None) -> Tensor:
        q, k, v = project(norm1(x), cache)
        keys, values = cache.append(k, v)
        attended = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask)
        x = x + out_proj(attended.transpose(1, 2).flatten(2))  # (R, H, 1, D) -> (R, 1, E)
        return x + linear2(activation(linear1(norm2(x))))

    return step


def _project(attention: MultiheadAttention, capacity: int) -> _Project:
    """Queries, keys and values of self-attention, each (R, H, 1, D)."""
    weight, bias, width = attention.in_proj_weight, attention.in_proj_bias, attention.head_dim
    shape = (-1, 1, 3, attention.num_heads, width)

    def project(x: Tensor, cache: _Layer) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = F.linear(x, weight, bias).view(shape).permute(2, 0, 3, 1, 4).unbind(0)  # 3 x (R, H, 1, D)
        return q, k, v

    if not (attention.rotary or attention.qk_norm):
        return project
    rotary, qk_norm = attention.rotary, attention.qk_norm
    cos, sin = rotary_table(capacity, width, weight.device, weight.dtype) if rotary else (None, None)

    def project_changed(x: Tensor, cache: _Layer) -> tuple[Tensor, Tensor, Tensor]:
        qkv = F.linear(x, weight, bias).view(shape)
        qk = qkv[:, :, :2]  # (R, 1, 2, H, D)
        if qk_norm:
            qk = F.rms_norm(qk, (width,))
        if cos is not None and sin is not None:
            positions = cache.positions(1)
            qk = apply_rotary(qk, cos[positions][:, :, None, None], sin[positions][:, :, None, None])
        q, k = qk.permute(2, 0, 3, 1, 4).unbind(0)
        return q, k, qkv[:, :, 2].transpose(1, 2)

    return project_changed


def _linear(linear: nn.Linear) -> Callable[[Tensor], Tensor]:
    weight, bias = linear.weight, linear.bias
    return lambda x: F.linear(x, weight, bias)


def _norm(norm: nn.LayerNorm) -> Callable[[Tensor], Tensor]:
    shape, weight, bias, eps = norm.normalized_shape, norm.weight, norm.bias, norm.eps
    return lambda x: torch.layer_norm(x, shape, weight, bias, eps)
