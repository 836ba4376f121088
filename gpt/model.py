"""GPT: token embeddings and positions, blocks, a final LayerNorm, a head (Radford et al. 2019).

The legend of shapes for the whole project: B batch, S sequence, E embed_dim, H num_heads, D = E / H head_dim,
V vocab_dim.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gpt.block import SelfMultiheadAttentionBlock
from gpt.config import GPTConfig
from gpt.dropout import Dropout
from gpt.errors import ConfigError
from gpt.kv_cache import KVCache


@dataclass(frozen=True)
class Inspection:
    """What `GPT.inspect` saw.

    Attributes:
        hidden_states: num_layers + 1 tensors (B, S, E): the embedding, then each block's output.
        attention_weights: num_layers tensors (B, H, S, S): [.., i, j] is how much position i attends to j.
        logits: (B, S, V).
    """

    hidden_states: tuple[Tensor, ...]
    attention_weights: tuple[Tensor, ...]
    logits: Tensor


class GPT(nn.Module):
    """A decoder-only transformer, pre-norm. It holds no request's state: a KVCache is passed in.

    Args:
        config: its shape.
        device, dtype: where and as what the parameters are made.
    """

    def __init__(
        self, config: GPTConfig, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_dim, config.embed_dim, device=device, dtype=dtype)
        self.position_embedding: nn.Embedding | None = None
        if not config.rotary:
            self.position_embedding = nn.Embedding(config.sequence_dim, config.embed_dim, device=device, dtype=dtype)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            SelfMultiheadAttentionBlock(
                config.embed_dim,
                config.num_heads,
                config.feedforward_dim,
                config.dropout,
                config.activation,
                config.layer_norm_eps,
                config.bias,
                attention_dropout=config.attention_dropout,
                qkv_bias=config.qkv_bias,
                norm_bias=config.norm_bias,
                rotary=config.rotary,
                qk_norm=config.qk_norm,
                device=device,
                dtype=dtype,
            )
            for _ in range(config.num_layers)
        )
        self.norm = nn.LayerNorm(
            config.embed_dim, config.layer_norm_eps, bias=config.norm_bias, device=device, dtype=dtype
        )
        self.head = nn.Linear(config.embed_dim, config.vocab_dim, bias=config.head_bias, device=device, dtype=dtype)
        if config.tie_head:
            self.head.weight = self.token_embedding.weight
        self.reset_parameters()

    @classmethod
    def from_config(
        cls, config: GPTConfig, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> GPT:
        """A GPT of this shape with fresh weights, drawn from torch's global generator."""
        return cls(config, device=device, dtype=dtype)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw fresh weights; `GPTConfig.zero_init` says which of the two ways.

        GPT-2's (Radford et al. 2019, section 2.3): matrices N(0, 0.02^2), the two output projections of a block
        scaled by 1 / sqrt(2 num_layers). With zero_init: embedding N(0, 0.02^2), other matrices N(0, 1 / (3 fan_in)),
        both output projections and an untied head at zero, so that the untrained model is the identity and its
        prediction uniform. Biases are zero in both.
        """
        config = self.config
        for name, parameter in self.named_parameters():
            branch_output = name.endswith(("out_proj.weight", "linear2.weight"))
            if name.endswith("bias"):
                parameter.zero_()
            elif parameter.dim() < 2:
                parameter.fill_(1.0)  # LayerNorm
            elif name.endswith("embedding.weight"):
                parameter.normal_(std=0.02)
            elif not config.zero_init:
                parameter.normal_(std=0.02 / math.sqrt(2 * config.num_layers) if branch_output else 0.02)
            elif branch_output or name == "head.weight":
                parameter.zero_()
            else:
                parameter.normal_(std=1.0 / math.sqrt(3 * parameter.shape[1]))

    def num_parameters(self) -> int:
        """The number of parameters, a tied head's counted once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def forward(self, input_ids: Tensor, kv_cache: KVCache | None = None) -> Tensor:
        """Logits of the token after each position.

        Args:
            input_ids: (B, S) int64.
            kv_cache: a cache of B rows; input_ids then stand behind what it holds, and are appended to it.

        Returns:
            logits: (B, S, V).

        Raises:
            ConfigError: more than sequence_dim tokens with learned positions, more than the cache has room for, or
                not as many rows as the cache has.
        """
        logits: Tensor = self.head(self.hidden_states(input_ids, kv_cache))
        return logits

    def hidden_states(self, input_ids: Tensor, kv_cache: KVCache | None = None) -> Tensor:
        """The states after the final norm, (B, S, E), which `head` turns into logits; arguments as in `forward`."""
        x = self._embed(input_ids, kv_cache)
        for index, block in enumerate(self.blocks):
            x = block(x, is_causal=True, kv_cache=None if kv_cache is None else kv_cache.layers[index])
        if kv_cache is not None:
            kv_cache.advance(input_ids.shape[1])
        states: Tensor = self.norm(x)
        return states

    def inspect(self, input_ids: Tensor) -> Inspection:
        """Every layer's states and attention weights, and the logits, for input_ids (B, S)."""
        x = self._embed(input_ids, None)
        states, all_weights = [x], []
        for block in self.blocks:
            assert isinstance(block, SelfMultiheadAttentionBlock)
            x, weights = block.attend(x, is_causal=True)
            assert weights is not None
            states.append(x)
            all_weights.append(weights)
        return Inspection(tuple(states), tuple(all_weights), self.head(self.norm(x)))

    def _embed(self, input_ids: Tensor, kv_cache: KVCache | None) -> Tensor:
        """Embedded tokens, with their positions where those are learned; (B, S, E)."""
        if kv_cache is not None and kv_cache.batch_size != input_ids.shape[0]:
            raise ConfigError(
                f"input_ids has {input_ids.shape[0]} rows, but the cache has {kv_cache.batch_size}; "
                "pass one row of ids for each row of the cache, or a part of it: cache.rows(start, stop)"
            )
        x: Tensor = self.token_embedding(input_ids)
        if self.position_embedding is not None:
            length = input_ids.shape[1]
            starts = [0] if kv_cache is None else kv_cache.lengths
            end = max(starts) + length
            if end > self.config.sequence_dim:
                raise ConfigError(
                    f"the sequence has {end} tokens, but sequence_dim is {self.config.sequence_dim}; "
                    "pass fewer tokens, or their last part"
                )
            if min(starts) == max(starts):
                x = x + self.position_embedding.weight[starts[0] : end]
            else:
                offsets = torch.arange(length, device=input_ids.device)
                x = x + self.position_embedding(torch.tensor(starts, device=input_ids.device)[:, None] + offsets)
        embedded: Tensor = self.dropout(x)
        return embedded
