"""GPTConfig: the shape of a model, frozen, to and from JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any

from gpt.errors import ConfigError

ACTIVATIONS = ("gelu", "gelu_tanh", "relu", "relu_squared")


@dataclass(frozen=True, kw_only=True)
class GPTConfig:
    """The shape of a GPT. The defaults below the first five fields are the two reference configurations'.

    Attributes:
        vocab_dim: number of tokens in the vocabulary.
        sequence_dim: longest context, in tokens.
        embed_dim: width of the residual stream; divisible by num_heads.
        num_heads: attention heads per block.
        num_layers: blocks.
        feedforward_dim: width inside the feed-forward; None means 4 * embed_dim.
        dropout: probability of zeroing, on the embedding, the attention weights and both branch outputs.
        attention_dropout: the attention weights' own probability; None means the same as `dropout`.
        activation: "gelu" (exact), "gelu_tanh" (GPT-2's), "relu" or "relu_squared" (So et al. 2021).
        layer_norm_eps: epsilon of every LayerNorm.
        qkv_bias: bias on the query, key and value projections.
        bias: bias on the output projection and both feed-forward layers.
        norm_bias: bias on every LayerNorm.
        head_bias: bias on the head; not with tie_head.
        tie_head: the head shares the token embedding's weight (Press and Wolf 2017).
        rotary: rotary positions (Su et al. 2021, base 10000) instead of learned ones.
        qk_norm: queries and keys are divided by their root mean square, per head (Henry et al. 2020).
        zero_init: both branch outputs and the head start at zero, the other matrices from N(0, 1/(3 fan_in)).

    Raises:
        ConfigError: a field is out of range; the message names it, its value and the range.
    """

    vocab_dim: int
    sequence_dim: int
    embed_dim: int
    num_heads: int
    num_layers: int
    feedforward_dim: int | None = None
    dropout: float = 0.1
    attention_dropout: float | None = None
    activation: str = "gelu"
    layer_norm_eps: float = 1e-5
    qkv_bias: bool = False
    bias: bool = True
    norm_bias: bool = True
    head_bias: bool = True
    tie_head: bool = False
    rotary: bool = False
    qk_norm: bool = False
    zero_init: bool = False

    def __post_init__(self) -> None:
        for name in ("vocab_dim", "sequence_dim", "embed_dim", "num_heads", "num_layers", "feedforward_dim"):
            value = getattr(self, name)
            if name == "feedforward_dim" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"{name} is {value!r}; give a whole number of at least 1")
        if self.embed_dim % self.num_heads:
            raise ConfigError(
                f"embed_dim is {self.embed_dim}, which num_heads = {self.num_heads} does not divide; "
                "choose an embed_dim that is a multiple of num_heads"
            )
        if self.rotary and (self.embed_dim // self.num_heads) % 2:
            raise ConfigError(
                f"rotary needs an even head width, but embed_dim / num_heads = {self.embed_dim // self.num_heads}; "
                "choose other values of embed_dim and num_heads"
            )
        for name in ("dropout", "attention_dropout"):
            probability = getattr(self, name)
            if name == "attention_dropout" and probability is None:
                continue
            if isinstance(probability, bool) or not isinstance(probability, (int, float)) or not 0 <= probability < 1:
                raise ConfigError(f"{name} is {probability!r}; give a probability from 0 up to, not including, 1")
        if self.activation not in ACTIVATIONS:
            raise ConfigError(f"activation is {self.activation!r}; choose one of {', '.join(ACTIVATIONS)}")
        eps = self.layer_norm_eps
        if isinstance(eps, bool) or not isinstance(eps, (int, float)) or not 0 < eps < math.inf:
            raise ConfigError(f"layer_norm_eps is {eps!r}; give a number above 0")
        for field in dataclasses.fields(self):
            if field.type == "bool" and not isinstance(getattr(self, field.name), bool):
                raise ConfigError(f"{field.name} is {getattr(self, field.name)!r}; give true or false")
        if self.tie_head and self.head_bias:
            raise ConfigError("head_bias is true with tie_head; a tied head has no bias: set head_bias to false")

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.embed_dim // self.num_heads

    def to_json(self) -> str:
        """The configuration as JSON text, one field a line."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> GPTConfig:
        """The configuration that `to_json` wrote.

        Raises:
            ConfigError: the text is not JSON, a field is missing, unknown or out of range.
        """
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"the configuration is not JSON ({error}); write it with GPTConfig.to_json") from error
        return cls.from_dict(fields)

    @classmethod
    def from_dict(cls, fields: Any) -> GPTConfig:
        """The configuration with these fields.

        Raises:
            ConfigError: not a mapping, or a field is missing, unknown or out of range.
        """
        if not isinstance(fields, dict):
            raise ConfigError(
                f"the configuration is {type(fields).__name__}; a JSON object of GPTConfig's fields is needed"
            )
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(fields) - known):
            raise ConfigError(
                f"the configuration has unknown fields {', '.join(unknown)}; known are {', '.join(sorted(known))}"
            )
        try:
            return cls(**fields)
        except TypeError as error:
            raise ConfigError(f"the configuration is incomplete: {error}") from error
