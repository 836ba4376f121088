"""Attention head by head, as plainly as it can be written: read this first, then `gpt.attention`.

A query asks, the keys answer how well they fit, and the result is the mean of the values weighted by the answers
(Vaswani et al. 2017, equation 1). Each of the H heads does it by itself on its own D = E / H columns of the projected
queries, keys and values:

    head_h = softmax(Q_h K_h^T / sqrt(D) + mask) V_h
    output = concatenate(head_1, ..., head_H) W_o^T + b_o

`gpt.attention` computes the same for all heads at once. The tests hold it to the result, the weights and the gradients
of what stands here.

Shapes: B batch, S queries, T keys, E embed_dim, H num_heads, D = E / H head_dim.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SlowMultiheadAttention(nn.Module):
    """What `gpt.attention.MultiheadAttention` computes, in a loop over the heads, without dropout and without a cache.

    The parameters have that class's names and shapes, so weights load from one into the other with `strict=True`.

    Args:
        embed_dim: E, width of queries and of the result.
        num_heads: H; divides embed_dim.
        bias: bias on the output projection.
        kdim, vdim: widths of keys and values where they are not embed_dim's.
        qkv_bias: bias on the query, key and value projections; None means the same as `bias`.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        bias: bool = True,
        kdim: int | None = None,
        vdim: int | None = None,
        qkv_bias: bool | None = None,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = embed_dim // num_heads
        if kdim is None and vdim is None:  # one tensor holds the three matrices, one below the other
            self.in_proj_weight: nn.Parameter | None = nn.Parameter(torch.empty(3 * embed_dim, embed_dim))
        else:
            self.in_proj_weight = None
            self.q_proj_weight = nn.Parameter(torch.empty(embed_dim, embed_dim))
            self.k_proj_weight = nn.Parameter(torch.empty(embed_dim, kdim or embed_dim))
            self.v_proj_weight = nn.Parameter(torch.empty(embed_dim, vdim or embed_dim))
        has_bias = bias if qkv_bias is None else qkv_bias
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * embed_dim)) if has_bias else None
        self.out_proj = nn.Linear(embed_dim, embed_dim, bias=bias)
        for name, parameter in self.named_parameters():
            if name.endswith("proj_weight"):
                nn.init.xavier_uniform_(parameter)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Attend from queries to keys. Self-attention is the case query = key = value.

        Args:
            query: (B, S, E).
            key, value: (B, T, kdim) and (B, T, vdim).
            key_padding_mask: (B, T); bool, True blocks a key for every query; or float, added to the scores.
            attn_mask: (S, T) or (B * H, S, T); bool, True blocks; or float, added to the scores.
            is_causal: block the keys behind each query; the last query stands at the last key.

        Returns:
            output: (B, S, E).
            weights: (B, H, S, T); how much of each value goes into each query's result.
        """
        # Three linear maps: what is asked, what answers, and what is passed on.
        (w_q, b_q), (w_k, b_k), (w_v, b_v) = self._projections()
        queries = F.linear(query, w_q, b_q)  # (B, S, E)
        keys = F.linear(key, w_k, b_k)  # (B, T, E)
        values = F.linear(value, w_v, b_v)  # (B, T, E)
        blocked, added = self._masks(queries, keys, key_padding_mask, attn_mask, is_causal)  # (B, H, S, T) both

        heads, weights = [], []
        for h in range(self.num_heads):
            columns = slice(h * self.head_dim, (h + 1) * self.head_dim)
            q = queries[:, :, columns]  # (B, S, D)
            k = keys[:, :, columns]  # (B, T, D)
            v = values[:, :, columns]  # (B, T, D)

            # A dot product of D terms has a standard deviation of sqrt(D); divided by it, the softmax stays soft.
            scores = q @ k.transpose(1, 2) / math.sqrt(self.head_dim)  # (B, S, D) x (B, D, T) -> (B, S, T)
            # exp(-inf) = 0: a blocked key gets no weight, and the others share it all.
            scores = (scores + added[:, h]).masked_fill(blocked[:, h], -math.inf)
            attention = scores.softmax(dim=-1)  # (B, S, T), each row sums to 1
            # A row with every key blocked would be 0 / 0; it attends to nothing.
            attention = attention.masked_fill(blocked[:, h], 0.0)

            heads.append(attention @ v)  # (B, S, T) x (B, T, D) -> (B, S, D)
            weights.append(attention)
        return self.out_proj(torch.cat(heads, dim=-1)), torch.stack(weights, dim=1)  # (B, S, E), (B, H, S, T)

    def _projections(self) -> list[tuple[Tensor, Tensor | None]]:
        """Matrix (E, width in) and bias (E) of the queries, of the keys and of the values."""
        if self.in_proj_weight is not None:
            weights = self.in_proj_weight.chunk(3)
        else:
            weights = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        biases = (None, None, None) if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        return list(zip(weights, biases, strict=True))

    def _masks(
        self,
        queries: Tensor,
        keys: Tensor,
        key_padding_mask: Tensor | None,
        attn_mask: Tensor | None,
        is_causal: bool,
    ) -> tuple[Tensor, Tensor]:
        """All masks as one: where attention is blocked (bool), and what is added to the scores; (B, H, S, T) both."""
        batch, num_queries, num_keys = queries.shape[0], queries.shape[1], keys.shape[1]
        shape = (batch, self.num_heads, num_queries, num_keys)
        blocked = queries.new_zeros(shape, dtype=torch.bool)
        added = queries.new_zeros(shape)
        masks = []
        if key_padding_mask is not None:
            masks.append(key_padding_mask.view(batch, 1, 1, num_keys))  # the same for every head and query
        if attn_mask is not None:
            masks.append(attn_mask if attn_mask.dim() == 2 else attn_mask.view(shape))
        if is_causal:
            masks.append(torch.ones_like(blocked[0, 0]).triu(num_keys - num_queries + 1))
        for mask in masks:
            if mask.dtype == torch.bool:
                blocked = blocked | mask
            else:
                added = added + mask
        return blocked | added.isneginf(), added
