"""MultiheadAttention: attention with the interface of torch.nn.MultiheadAttention, written to be read and to be fast.

Read `gpt.attention_slow` first: the same computation, head by head.

Shapes: B batch, S queries, T keys, E embed_dim, H num_heads, D = E / H head_dim.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt.errors import ConfigError
from gpt.kv_cache import LayerCache
from gpt.rotary import apply_rotary, rotary_table


class MultiheadAttention(nn.Module):
    """Scaled dot-product attention in several heads (Vaswani et al. 2017, section 3.2).

    Interface, parameter names and mask meanings are those of `torch.nn.MultiheadAttention`, whose weights load
    with `strict=True`. What differs: `batch_first` is True unless told otherwise; `is_causal` acts on its own
    instead of being a hint; a query whose every key is blocked gets zeros instead of NaN; there are no
    `add_bias_kv` and `add_zero_attn`; and there are the four arguments behind the star and the cache.

    Args:
        embed_dim: E, width of queries and of the result.
        num_heads: H; must divide embed_dim.
        dropout: probability of zeroing an attention weight in training.
        bias: biases on the query, key and value projections and on the output projection.
        kdim, vdim: widths of keys and values where they are not embed_dim's.
        batch_first: sequences come as (B, S, E); if False, as (S, B, E).
        qkv_bias: bias on the query, key and value projections alone; None means the same as `bias`.
        rotary: rotary positions (Su et al. 2021) on queries and keys; self-attention only.
        qk_norm: divide each head's queries and keys by their root mean square (Henry et al. 2020).

    Raises:
        ConfigError: num_heads does not divide embed_dim, dropout is not in [0, 1), or rotary and D is odd.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = True,
        *,
        qkv_bias: bool | None = None,
        rotary: bool = False,
        qk_norm: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if embed_dim < 1 or num_heads < 1 or embed_dim % num_heads:
            raise ConfigError(
                f"embed_dim is {embed_dim} and num_heads is {num_heads}; "
                "embed_dim must be a positive multiple of num_heads"
            )
        if not 0 <= dropout < 1:
            raise ConfigError(f"dropout is {dropout}; give a probability from 0 up to, not including, 1")
        if rotary and (embed_dim // num_heads) % 2:
            raise ConfigError(
                f"rotary needs an even head width, but embed_dim / num_heads = {embed_dim // num_heads}; "
                "choose other values of embed_dim and num_heads"
            )
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.head_dim = embed_dim // num_heads
        self.dropout = dropout
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self.batch_first = batch_first
        self.rotary = rotary
        self.qk_norm = qk_norm

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(*shape, device=device, dtype=dtype))

        self._packed = self.kdim == self.vdim == embed_dim
        if self._packed:  # one product gives queries, keys and values
            self.in_proj_weight = parameter(3 * embed_dim, embed_dim)
            self.register_parameter("q_proj_weight", None)
            self.register_parameter("k_proj_weight", None)
            self.register_parameter("v_proj_weight", None)
        else:
            self.register_parameter("in_proj_weight", None)
            self.q_proj_weight = parameter(embed_dim, embed_dim)
            self.k_proj_weight = parameter(embed_dim, self.kdim)
            self.v_proj_weight = parameter(embed_dim, self.vdim)
        if bias if qkv_bias is None else qkv_bias:
            self.in_proj_bias = parameter(3 * embed_dim)
        else:
            self.register_parameter("in_proj_bias", None)
        self.out_proj = nn.Linear(embed_dim, embed_dim, bias=bias, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier-uniform projections and zero biases, as in torch."""
        for weight in (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
            if weight is not None:
                nn.init.xavier_uniform_(weight)
        for bias in (self.in_proj_bias, self.out_proj.bias):
            if bias is not None:
                nn.init.zeros_(bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
        kv_cache: LayerCache | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend from queries to keys; give the result, and the attention weights where they are needed.

        Args:
            query: (B, S, E); (S, B, E) unless batch_first; or (S, E).
            key, value: (B, T, kdim) and (B, T, vdim), arranged like the query.
            key_padding_mask: (B, T), or (T) with an unbatched query; bool, True blocks a key for every query; or
                float, added to the scores.
            need_weights: also give the attention weights; the fused computation then cannot be used.
            attn_mask: (S, T) or (B * H, S, T); bool, True blocks; or float, added to the scores.
            average_attn_weights: give the weights' mean over the heads.
            is_causal: block the keys behind each query, aligned at the lower right: the last query attends to all keys.
            kv_cache: one layer's cache; the keys and values are appended to it and all of its keys are attended to.
                Needs batch_first, batched input and is_causal; goes without the two masks.

        Returns:
            output: shaped like the query.
            weights: None unless need_weights; else (B, S, T), or (B, H, S, T) if not averaged; without B for
            unbatched input. In training they are those after dropout, as in torch.

        Raises:
            ConfigError: the arguments do not go together.
        """
        batched = query.dim() == 3
        same = query is key and key is value
        if not batched:
            query, key, value = query.unsqueeze(0), key.unsqueeze(0), value.unsqueeze(0)
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        elif not self.batch_first:
            query, key, value = query.transpose(0, 1), key.transpose(0, 1), value.transpose(0, 1)
        if kv_cache is not None and (key_padding_mask is not None or attn_mask is not None or not is_causal):
            raise ConfigError("kv_cache was given with a mask or without is_causal; a cache goes with is_causal alone")
        if self.rotary and not same:
            raise ConfigError("rotary positions are for self-attention; pass the same tensor as query, key and value")

        dropout = self.dropout if self.training else 0.0
        q, k, v = self._project_packed(query, kv_cache) if same and self._packed else self._project(query, key, value)
        may_block_all = key_padding_mask is not None or attn_mask is not None or q.shape[2] > k.shape[2]
        if kv_cache is None:
            blocked, added = self._merge_masks(key_padding_mask, attn_mask, q, k.shape[2])
        else:
            # Over an empty cache plain causality is right, and its fused form is the fastest.
            blocked, added = kv_cache.causal_mask(q.shape[2]) if any(kv_cache.lengths) else None, None
            is_causal = not any(kv_cache.lengths)
            k, v = kv_cache.append(k, v)
        fused = not need_weights and self._use_fused(q, dropout)
        if is_causal and not (fused and blocked is None and added is None and q.shape[2] == k.shape[2]):
            causal = causal_mask(q.shape[2], k.shape[2], q.device)
            blocked = causal if blocked is None else blocked | causal
            is_causal = False

        weights = None
        if fused:
            mask = _fused_mask(blocked, added, q.dtype)
            output = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=is_causal)
        else:
            output, weights = _attend(q, k, v, blocked, added, dropout, may_block_all)
        output = self.out_proj(output.transpose(1, 2).flatten(2))  # (B, H, S, D) -> (B, S, E)

        if weights is not None:
            weights = weights.mean(dim=1) if average_attn_weights else weights
            weights = weights if need_weights else None
        if not batched:
            return output.squeeze(0), None if weights is None else weights.squeeze(0)
        return output if self.batch_first else output.transpose(0, 1), weights

    def _use_fused(self, q: Tensor, dropout: float) -> bool:
        """Whether `scaled_dot_product_attention` is the faster path, by measurement.

        On a CPU it falls back to something slow once dropout is asked for, and its backward in half precision is
        two to four times as slow as the written-out computation's.
        """
        if q.is_cuda:
            return True
        return dropout == 0 and not (
            torch.is_grad_enabled() and q.requires_grad and q.dtype in (torch.bfloat16, torch.float16)
        )

    def _project_packed(self, x: Tensor, kv_cache: LayerCache | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of self-attention from one product; each (B, H, S, D)."""
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias).unflatten(-1, (3, self.num_heads, self.head_dim))
        if not (self.qk_norm or self.rotary):
            q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (B, S, 3, H, D) -> 3 x (B, H, S, D)
            return q, k, v
        qk = qkv[:, :, :2]
        if self.qk_norm:
            qk = F.rms_norm(qk, (self.head_dim,))
        if self.rotary:
            qk = self._rotate(qk, None if kv_cache is None else kv_cache.lengths)
        q, k = qk.permute(2, 0, 3, 1, 4).unbind(0)
        return q, k, qkv[:, :, 2].transpose(1, 2)

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of cross-attention; (B, H, S, D), (B, H, T, D), (B, H, T, D)."""
        if self._packed:
            weights = self.in_proj_weight.chunk(3)
        else:
            weights = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        biases = (None, None, None) if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        q, k, v = (
            F.linear(x, weight, bias).unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)
            for x, weight, bias in zip((query, key, value), weights, biases, strict=True)
        )
        if self.qk_norm:
            q, k = F.rms_norm(q, (self.head_dim,)), F.rms_norm(k, (self.head_dim,))
        return q, k, v

    def _rotate(self, x: Tensor, starts: list[int] | None) -> Tensor:
        """Apply rotary positions to x (B, S, 2, H, D), row b beginning at position starts[b]."""
        length = x.shape[1]
        starts = starts or [0]
        end = max(starts) + length
        # The table's length is rounded up, so that a growing sequence does not ask for a new one at each token.
        cos, sin = rotary_table(max(64, 1 << (end - 1).bit_length()), self.head_dim, x.device, x.dtype)
        if min(starts) == max(starts):
            cos, sin = cos[starts[0] : end], sin[starts[0] : end]
        else:
            positions = torch.tensor(starts, device=x.device)[:, None] + torch.arange(length, device=x.device)
            cos, sin = cos[positions], sin[positions]
        return apply_rotary(x, cos[..., None, None, :], sin[..., None, None, :])

    def _merge_masks(
        self, key_padding_mask: Tensor | None, attn_mask: Tensor | None, q: Tensor, num_keys: int
    ) -> tuple[Tensor | None, Tensor | None]:
        """The masks as one bool mask (True blocks) and one float mask (added), each broadcastable to (B, H, S, T)."""
        batch, heads, num_queries, _ = q.shape
        blocked: Tensor | None = None
        added: Tensor | None = None
        for name, mask in (("key_padding_mask", key_padding_mask), ("attn_mask", attn_mask)):
            if mask is None:
                continue
            shape = tuple(mask.shape)
            if name == "key_padding_mask" and shape == (batch, num_keys):
                mask = mask[:, None, None, :]
            elif name == "attn_mask" and shape == (batch * heads, num_queries, num_keys):
                mask = mask.view(batch, heads, num_queries, num_keys)
            elif name == "key_padding_mask" or shape != (num_queries, num_keys):
                allowed = (
                    f"({batch}, {num_keys})"
                    if name == "key_padding_mask"
                    else f"({num_queries}, {num_keys}) or ({batch * heads}, {num_queries}, {num_keys})"
                )
                raise ConfigError(f"{name} has shape {shape}; with these queries and keys it must be {allowed}")
            if mask.dtype == torch.bool:
                blocked = mask if blocked is None else blocked | mask
            elif mask.is_floating_point():
                added = mask if added is None else added + mask
            else:
                raise ConfigError(
                    f"{name} has dtype {mask.dtype}; it must be bool (True blocks) or floating point (added)"
                )
        if added is not None:
            # A float mask blocks with -inf; telling so apart keeps a wholly blocked query at zeros.
            infinite = added.isneginf()
            blocked = infinite if blocked is None else blocked | infinite
        return blocked, added


@lru_cache(maxsize=8)
def causal_mask(num_queries: int, num_keys: int, device: torch.device) -> Tensor:
    """What causal queries must not see, (S, T) bool: True above the diagonal that ends at the lower right."""
    with torch.inference_mode(False):  # a mask made while generating must also serve training
        return torch.ones(num_queries, num_keys, dtype=torch.bool, device=device).triu_(num_keys - num_queries + 1)


def _fused_mask(blocked: Tensor | None, added: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """The mask for `scaled_dot_product_attention`, where a bool mask has the opposite meaning: True attends."""
    if added is None:
        return None if blocked is None else ~blocked
    return added.to(dtype) if blocked is None else added.to(dtype).masked_fill(blocked, -math.inf)


def _attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    blocked: Tensor | None,
    added: Tensor | None,
    dropout: float,
    may_block_all: bool,
) -> tuple[Tensor, Tensor]:
    """Softmax(q k^T / sqrt(D) + masks) v, written out.

    Args:
        may_block_all: a query may have every key blocked, so that its softmax is NaN and must be set to zeros.

    Returns:
        output: (B, H, S, D).
        weights: (B, H, S, T), after dropout.
    """
    scores = torch.matmul(q * (1.0 / math.sqrt(q.shape[-1])), k.transpose(-2, -1))
    if added is not None:
        scores = scores + added.to(scores.dtype)
    if blocked is not None:
        scores = scores.masked_fill(blocked, -math.inf)
    weights = torch.softmax(scores, dim=-1).to(v.dtype)
    if blocked is not None and may_block_all:
        weights = weights.masked_fill(blocked, 0.0)
    if dropout:
        weights = F.dropout(weights, dropout)
    return torch.matmul(weights, v), weights
