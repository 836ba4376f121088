"""SelfMultiheadAttentionBlock: one layer of the model, attention and feed-forward, each behind a LayerNorm.

Shapes: B batch, S sequence, E embed_dim, H num_heads.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt.attention import MultiheadAttention
from gpt.dropout import Dropout
from gpt.errors import ConfigError
from gpt.kv_cache import LayerCache


def _relu_squared(x: Tensor) -> Tensor:
    """relu(x) ** 2 (So et al. 2021, Primer)."""
    return F.relu(x).square()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "relu_squared": _relu_squared,
}


class SelfMultiheadAttentionBlock(nn.Module):
    """x + attention(norm1(x)), then x + feed-forward(norm2(x)): `torch.nn.TransformerEncoderLayer(norm_first=True)`.

    Parameter names are that layer's, whose weights load with `strict=True` and give the same outputs. What
    differs: batch_first is True, the activation is GELU and dim_feedforward 4 * E unless told otherwise, and
    dropout acts on the attention weights and on both branches' outputs, not inside the feed-forward.

    Args:
        embed_dim: E (there: d_model).
        num_heads: H (there: nhead).
        dim_feedforward: width inside the feed-forward; None means 4 * E.
        dropout: probability of zeroing, in training, on both branches' outputs.
        activation: "gelu", "gelu_tanh", "relu" or "relu_squared".
        layer_norm_eps: epsilon of both LayerNorms.
        bias: bias on the output projection and both feed-forward layers.
        attention_dropout: the attention weights' probability; None means `dropout`.
        qkv_bias: bias on the query, key and value projections; None means the same as `bias`.
        norm_bias: bias on both LayerNorms; None means the same as `bias`.
        rotary, qk_norm: as in MultiheadAttention.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dim_feedforward: int | None = None,
        dropout: float = 0.1,
        activation: str = "gelu",
        layer_norm_eps: float = 1e-5,
        bias: bool = True,
        *,
        attention_dropout: float | None = None,
        qkv_bias: bool | None = None,
        norm_bias: bool | None = None,
        rotary: bool = False,
        qk_norm: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ConfigError(f"activation is {activation!r}; choose one of {', '.join(ACTIVATIONS)}")
        dim_feedforward = 4 * embed_dim if dim_feedforward is None else dim_feedforward
        norm_bias = bias if norm_bias is None else norm_bias
        self.activation = ACTIVATIONS[activation]
        self.self_attn = MultiheadAttention(
            embed_dim,
            num_heads,
            dropout if attention_dropout is None else attention_dropout,
            bias,
            qkv_bias=qkv_bias,
            rotary=rotary,
            qk_norm=qk_norm,
            device=device,
            dtype=dtype,
        )
        self.linear1 = nn.Linear(embed_dim, dim_feedforward, bias=bias, device=device, dtype=dtype)
        self.linear2 = nn.Linear(dim_feedforward, embed_dim, bias=bias, device=device, dtype=dtype)
        self.norm1 = nn.LayerNorm(embed_dim, layer_norm_eps, bias=norm_bias, device=device, dtype=dtype)
        self.norm2 = nn.LayerNorm(embed_dim, layer_norm_eps, bias=norm_bias, device=device, dtype=dtype)
        self.dropout1 = Dropout(dropout)
        self.dropout2 = Dropout(dropout)

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
        kv_cache: LayerCache | None = None,
    ) -> Tensor:
        """Apply the block.

        Args:
            src: (B, S, E).
            src_mask: (S, S) or (B * H, S, S), as `attn_mask` of MultiheadAttention.
            src_key_padding_mask: (B, S), True where a key is padding.
            is_causal: each position sees itself and what stands before it; acts on its own.
            kv_cache: this layer's cache, whose tokens stand before src.

        Returns:
            (B, S, E).
        """
        return self.attend(src, src_mask, src_key_padding_mask, is_causal, kv_cache, need_weights=False)[0]

    def attend(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
        kv_cache: LayerCache | None = None,
        need_weights: bool = True,
    ) -> tuple[Tensor, Tensor | None]:
        """`forward`, giving also the attention weights of every head, (B, H, S, S), where they are needed."""
        x = self.norm1(src)
        attended, weights = self.self_attn(
            x,
            x,
            x,
            key_padding_mask=src_key_padding_mask,
            need_weights=need_weights,
            attn_mask=src_mask,
            average_attn_weights=False,
            is_causal=is_causal,
            kv_cache=kv_cache,
        )
        src = src + self.dropout1(attended)
        return src + self.dropout2(self.linear2(self.activation(self.linear1(self.norm2(src))))), weights
