"""TrainConfig: every setting of a training run, frozen, to and from JSON; each is an option of `python -m train`."""

from __future__ import annotations

import dataclasses
import json
import math
import typing
from dataclasses import dataclass, field
from typing import Any

from gpt.config import ACTIVATIONS, GPTConfig
from gpt.errors import ConfigError
from train.hub_name import is_hub_name

PRECISIONS = ("auto", "float32", "bfloat16")
CHECKPOINT_DTYPES = ("float32", "float16")
TOKENIZERS = ("gpt2", "character", "bpe")


def _setting(
    default: Any, help: str, *, choices: tuple[str, ...] = (), low: float = 0, high: float = float("inf")
) -> Any:
    return field(default=default, metadata={"help": help, "choices": choices, "low": low, "high": high})


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The settings of a run; each field's metadata has its help, with units, and its range.

    Raises:
        ConfigError: a field is out of range; the message names it, its value and what is allowed.
    """

    preset: str = _setting("custom", "name of the preset that the settings began with")
    data: str = _setting(
        "shakespeare",
        "corpus: shakespeare (fetched once), sonnets (bundled), hf:OWNER/NAME (a data set of the Hugging Face Hub), "
        "or the path of a UTF-8 text file",
    )
    init: str = _setting(
        "",
        "checkpoint to go on from, with its shape and tokenizer: its folder, its name in checkpoints/, or gpt2, "
        "gpt2-medium, gpt2-large, gpt2-xl, imported from the Hub if they are not there; empty: random weights",
    )
    train_fraction: float = _setting(
        0.9, "part of the text's characters to train on, from its beginning; the rest validates", low=0.01, high=0.99
    )
    seed: int = _setting(1, "of weights, dropout and the order of the windows", low=0, high=2**31 - 1)

    tokenizer: str = _setting(
        "bpe", "gpt2 (50,257 tokens), character, or bpe (trained on the corpus)", choices=TOKENIZERS
    )
    vocab_dim: int = _setting(1024, "tokens of a bpe vocabulary; the other kinds have their own number", low=1)

    sequence_dim: int = _setting(64, "context, in tokens", low=2)
    embed_dim: int = _setting(128, "width of the model", low=1)
    num_heads: int = _setting(4, "attention heads; must divide embed_dim", low=1)
    num_layers: int = _setting(4, "blocks", low=1)
    dropout: float = _setting(0.1, "probability of zeroing, on the embedding and both branch outputs", high=0.95)
    attention_dropout: float = _setting(0.0, "probability of zeroing an attention weight; slow on a CPU", high=0.95)
    activation: str = _setting("gelu", "of the feed-forward", choices=ACTIVATIONS)
    bias: bool = _setting(True, "bias on output projections and feed-forward layers")
    qkv_bias: bool = _setting(False, "bias on query, key and value projections")
    norm_bias: bool = _setting(True, "bias on LayerNorms")
    head_bias: bool = _setting(True, "bias on the head")
    tie_head: bool = _setting(False, "the head shares the embedding's weight")
    rotary: bool = _setting(False, "rotary positions instead of learned ones")
    qk_norm: bool = _setting(False, "normalise queries and keys")
    zero_init: bool = _setting(False, "branch outputs and head start at zero")

    max_steps: int = _setting(1000, "optimizer steps of the whole run; the schedule of the rates depends on it", low=1)
    batch_size: int = _setting(
        32,
        "windows per process and micro-step; "
        "tokens per step = batch_size x accumulation_steps x processes x sequence_dim",
        low=1,
    )
    short_sequence_dim: int = _setting(
        0,
        "tokens of the windows that training begins with, a divisor of sequence_dim; a step then has more windows and "
        "as many tokens; 0: windows of sequence_dim from the beginning",
    )
    short_fraction: float = _setting(
        0.7,
        "part of max_steps for which windows are of short_sequence_dim, where that is not 0; without rotary positions "
        "those behind it are learnt only afterwards",
        high=1,
    )
    accumulation_steps: int = _setting(1, "micro-steps whose gradients make one optimizer step", low=1)
    learning_rate: float = _setting(4e-3, "peak rate of AdamW")
    muon_learning_rate: float = _setting(0.0, "peak rate of Muon on the blocks' matrices; 0 leaves them to AdamW")
    weight_decay: float = _setting(0.1, "AdamW's, on matrices and embeddings")
    muon_weight_decay: float = _setting(0.1, "Muon's")
    beta1: float = _setting(0.9, "AdamW's first moment", high=0.9999)
    beta2: float = _setting(0.95, "AdamW's second moment", high=0.99999)
    warmup_fraction: float = _setting(0.03, "part of max_steps over which the rates rise", high=1)
    final_fraction: float = _setting(0.0, "part of the peak rates that is left at the end", high=1)
    bpe_dropout: float = _setting(
        0.0,
        "probability of leaving out a merge of the tokenizer, so that every pass spells the text in other tokens; 0 "
        "spells it as the validation text",
        high=0.9,
    )
    teachers: str = _setting(
        "",
        "finished models of the same vocabulary, whose mean probability of each next token is learnt besides the text: "
        "the folders of their checkpoints, with commas between them; empty: the text alone",
    )
    teacher_weight: float = _setting(
        0.5, "part of each target's probability that is the teachers', where there are any", high=1
    )
    label_smoothing: float = _setting(
        0.0, "part of each target's probability that is spread over the whole vocabulary", high=0.5
    )
    grad_clip: float = _setting(1.0, "largest norm of the gradient; 0 leaves it as it is")
    precision: str = _setting(
        "auto",
        "of the matrix products in training; weights and optimizer stay float32; auto: bfloat16 where the GPU or the "
        "processor has instructions for it (AVX-512 BF16, AMX), else float32, which is faster without them",
        choices=PRECISIONS,
    )

    eval_interval: int = _setting(100, "steps between evaluations", low=1)
    eval_windows: int = _setting(
        256, "windows of the validation text, evenly spread, that an evaluation scores; always the same ones", low=1
    )
    patience: int = _setting(0, "stop after this many evaluations without a new best; 0 never")
    save_interval: int = _setting(100, "steps between the states that a run resumes from", low=1)
    sample_tokens: int = _setting(100, "tokens of the sample that an evaluation prints; 0 prints none")
    sample_prompt: str = _setting("\n", "what the sample continues")
    checkpoint_dtype: str = _setting(
        "float32", "what the best checkpoint's weights are stored in", choices=CHECKPOINT_DTYPES
    )

    def __post_init__(self) -> None:
        types = typing.get_type_hints(type(self))
        for item in dataclasses.fields(self):
            value, kind = getattr(self, item.name), types[item.name]
            if kind is float and isinstance(value, int) and not isinstance(value, bool):
                value = float(value)
                object.__setattr__(self, item.name, value)
            if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
                raise ConfigError(f"{item.name} is {value!r}; give a value of type {kind.__name__}")
            if (choices := item.metadata["choices"]) and value not in choices:
                raise ConfigError(f"{item.name} is {value!r}; choose one of {', '.join(choices)}")
            low, high = item.metadata["low"], item.metadata["high"]
            if kind in (int, float) and not (low <= value <= high and math.isfinite(value)):
                allowed = f"at least {low}" if high == float("inf") else f"from {low} to {high}"
                raise ConfigError(f"{item.name} is {value}; give a number {allowed}")
        if self.short_sequence_dim and self.sequence_dim % self.short_sequence_dim:
            raise ConfigError(
                f"short_sequence_dim is {self.short_sequence_dim}, which is no whole part of sequence_dim = "
                f"{self.sequence_dim}; give one of its divisors, or 0"
            )
        if self.bpe_dropout and is_hub_name(self.data):
            raise ConfigError(
                f"bpe_dropout is {self.bpe_dropout:g}, but the tokens of {self.data} are made once and kept on disk, "
                "the same for every pass; give 0, or a text file"
            )
        if self.bpe_dropout and self.tokenizer == "character":
            raise ConfigError(
                f"bpe_dropout is {self.bpe_dropout:g}, but the tokenizer character merges nothing that could be left "
                "out; give 0, or the tokenizer bpe or gpt2"
            )
        self.model_config(1)

    def with_changes(self, **changes: Any) -> TrainConfig:
        """These settings with others in their place.

        bpe_dropout and short_sequence_dim become 0 where the changed tokenizer, text or context cannot have them,
        unless they are among the changes themselves.

        Raises:
            ConfigError: a field is out of range, or two do not go together.
        """
        now = {name: changes.get(name, getattr(self, name)) for name in ("tokenizer", "data", "sequence_dim")}
        left_out: dict[str, Any] = {}
        if now["tokenizer"] == "character" or is_hub_name(str(now["data"])):
            left_out["bpe_dropout"] = 0.0
        short = self.short_sequence_dim
        if short and isinstance(now["sequence_dim"], int) and now["sequence_dim"] % short:
            left_out["short_sequence_dim"] = 0
        return dataclasses.replace(self, **{**left_out, **changes})

    def model_config(self, vocab_dim: int) -> GPTConfig:
        """The model's shape, with the number of tokens that the tokenizer turned out to have."""
        names = {item.name for item in dataclasses.fields(GPTConfig)} & {item.name for item in dataclasses.fields(self)}
        return GPTConfig(vocab_dim=vocab_dim, **{name: getattr(self, name) for name in names - {"vocab_dim"}})

    def to_json(self) -> str:
        """The settings as JSON text, one a line."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> TrainConfig:
        """The settings that `to_json` wrote.

        Raises:
            ConfigError: the text is not JSON, or a setting is unknown or out of range.
        """
        try:
            fields = json.loads(text)
        except ValueError as error:
            raise ConfigError(f"the settings are not JSON ({error})") from error
        if not isinstance(fields, dict):
            raise ConfigError(f"the settings are {type(fields).__name__}; a JSON object is needed")
        if unknown := sorted(set(fields) - {item.name for item in dataclasses.fields(cls)}):
            raise ConfigError(f"the settings have the unknown {', '.join(unknown)}")
        return cls(**fields)
