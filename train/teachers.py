"""Teachers: finished models whose mean probability of every next token a run learns besides its text.

The targets are then softer than a text alone can say: a token that would have stood there as well has its part. Hinton,
Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network", section 3 (at temperature 1), and Furlanello et
al. 2018, "Born-Again Neural Networks", whose student has its teachers' shape.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from gpt.checkpoint import load_checkpoint
from gpt.checkpoint_info import WEIGHTS_FILE, read_info
from gpt.errors import ConfigError
from gpt.model import GPT
from gpt.tokenizer import Tokenizer
from train.token_shards import tokenizer_hash


class Teachers:
    """Models that are no longer trained.

    Args:
        models: at least one, all of one vocabulary, on the device that the run trains on.
        sha256: of their weights; names them in the state of a run.

    Attributes:
        sha256: as given.
    """

    def __init__(self, models: Sequence[GPT], sha256: str) -> None:
        self._models = [model.eval().requires_grad_(False) for model in models]
        self.sha256 = sha256

    @classmethod
    def load(cls, names: str, tokenizer: Tokenizer, sequence_dim: int, device: torch.device) -> Teachers:
        """Checkpoints, with float32 weights.

        Args:
            names: their folders, with commas between them; at least one.
            tokenizer: the run's, which must be theirs.
            sequence_dim: tokens of the longest windows that they will read.
            device: to compute on.

        Raises:
            CheckpointError: there is none in a folder, or it is damaged.
            ConfigError: one has another vocabulary, or a shorter context.
        """
        models: list[GPT] = []
        digest, own = hashlib.sha256(), tokenizer_hash(tokenizer)
        for folder in _folders(names):
            found = load_checkpoint(folder, device)
            if tokenizer_hash(found.tokenizer) != own:
                raise ConfigError(
                    f"teachers has {folder}, whose vocabulary ({found.tokenizer.kind}, {found.tokenizer.vocab_dim:,} "
                    f"tokens) is not the run's ({tokenizer.kind}, {tokenizer.vocab_dim:,} tokens); give checkpoints "
                    "that were trained with the same tokenizer on the same text"
                )
            if (context := found.model.config.sequence_dim) < sequence_dim:
                raise ConfigError(
                    f"teachers has {folder}, whose context of {context} tokens is shorter than the run's sequence_dim "
                    f"= {sequence_dim}; give another teacher, or a smaller sequence_dim"
                )
            models.append(found.model.float())
            digest.update((folder / WEIGHTS_FILE).read_bytes())
        return cls(models, digest.hexdigest())

    @classmethod
    def of_shapes(cls, names: str, vocab_dim: int, device: torch.device) -> Teachers:
        """Random models of the shapes of checkpoints, which take as long.

        Args:
            names: as for `load`.
            vocab_dim: in place of theirs.
            device: to compute on.

        Raises:
            CheckpointError, ConfigError: as for `load`.
        """
        shapes = [replace(read_info(folder).config, vocab_dim=vocab_dim) for folder in _folders(names)]
        return cls([GPT.from_config(shape).to(device) for shape in shapes], "")

    @torch.no_grad()
    def probabilities(self, inputs: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """The mean of what the models expect behind every place.

        Args:
            inputs: (B, S) int64, tokens.
            dtype: of the matrix products; the softmax is float32 whatever it is.

        Returns:
            (B * S, V) float32; rows sum to 1.
        """
        total: Tensor | None = None
        with torch.autocast(inputs.device.type, dtype, enabled=dtype != torch.float32):
            for model in self._models:
                logits = model.head(model.hidden_states(inputs))
                found = logits.reshape(-1, logits.shape[-1]).float().softmax(dim=-1)
                total = found if total is None else total.add_(found)
        assert total is not None
        return total.div_(len(self._models))


def _folders(names: str) -> list[Path]:
    """The folders that the setting names."""
    folders = [Path(name.strip()) for name in names.split(",") if name.strip()]
    if not folders:
        raise ConfigError(f"teachers is {names!r}, which names none; give the folder of a checkpoint")
    return folders
