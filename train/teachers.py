"""Teachers: finished models whose mean probability of every next token a run learns besides its text.

The targets are then softer than a text alone can say: a token that would have stood there as well has its part. Hinton,
Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network", section 3 (at temperature 1), and Furlanello et
al. 2018, "Born-Again Neural Networks", whose student has its teachers' shape.

Shapes: B batch, S sequence, N = B * S rows, E embed_dim of a teacher, V vocab_dim.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt.checkpoint import load_checkpoint
from gpt.checkpoint_info import WEIGHTS_FILE, CheckpointInfo, read_info
from gpt.errors import CheckpointError, ConfigError
from gpt.model import GPT
from gpt.tokenizer import Tokenizer
from train.folder import BEST_FOLDER
from train.token_shards import tokenizer_hash


class SoftTargets:
    """What teachers expect behind every place of a batch, a few rows at a time: whole, it would be N x V numbers.

    Args:
        hidden: of each teacher, (N, E), the states before its head.
        heads: of each teacher, its weight (V, E) and its bias, (V) or None.
        dtype: of the matrix products.
    """

    def __init__(
        self, hidden: Sequence[Tensor], heads: Sequence[tuple[Tensor, Tensor | None]], dtype: torch.dtype
    ) -> None:
        self._parts = [
            (states.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype))
            for states, (weight, bias) in zip(hidden, heads, strict=True)
        ]

    @torch.no_grad()
    def __call__(self, rows: slice) -> Tensor:
        """The mean of the teachers' probabilities in these rows, (rows, V) float32, summing to 1."""
        total: Tensor | None = None
        for states, weight, bias in self._parts:
            found = F.linear(states[rows], weight, bias).float().softmax(dim=-1)
            total = found if total is None else total.add_(found)
        assert total is not None
        return total.div_(len(self._parts))


class Teachers:
    """Models that are no longer trained.

    Args:
        models: at least one, all of one vocabulary, on the device that the run trains on.

    Attributes:
        sha256: of their weights; names them in the state of a run.
    """

    def __init__(self, models: Sequence[GPT]) -> None:
        self._models = [model.eval().requires_grad_(False) for model in models]
        digest = hashlib.sha256()
        for model in models:
            for name, tensor in sorted(model.state_dict().items()):
                digest.update(name.encode() + tensor.float().cpu().numpy().tobytes())
        self.sha256 = digest.hexdigest()

    @classmethod
    def load(cls, names: str, tokenizer: Tokenizer, sequence_dim: int, device: torch.device) -> Teachers:
        """Checkpoints, with float32 weights.

        Args:
            names: as for `find_teachers`.
            tokenizer: the run's, which must be theirs.
            sequence_dim: tokens of the longest windows that they will read.
            device: to compute on.

        Raises:
            ConfigError: a folder holds no whole checkpoint, or one of another vocabulary or a shorter context.
        """
        models: list[GPT] = []
        for info in find_teachers(names, sequence_dim):
            try:
                found = load_checkpoint(info.folder, device)
            except CheckpointError as error:
                raise ConfigError(f"teachers has {info.folder}: {error}") from error
            if tokenizer_hash(found.tokenizer) != tokenizer_hash(tokenizer):
                raise ConfigError(
                    f"teachers has {info.folder}, whose vocabulary ({found.tokenizer.kind}, "
                    f"{found.tokenizer.vocab_dim:,} tokens) is not the run's ({tokenizer.kind}, "
                    f"{tokenizer.vocab_dim:,} tokens); give checkpoints that were trained with the same tokenizer on "
                    "the same text"
                )
            models.append(found.model.float())
        return cls(models)

    @classmethod
    def of_shapes(cls, names: str, vocab_dim: int, sequence_dim: int, device: torch.device) -> Teachers:
        """Random models of the shapes of checkpoints, which take as long.

        Args:
            names: as for `find_teachers`.
            vocab_dim: in place of theirs.
            sequence_dim: tokens of the longest windows that they will read.
            device: to compute on.

        Raises:
            ConfigError: as for `find_teachers`.
        """
        infos = find_teachers(names, sequence_dim)
        return cls([GPT.from_config(replace(info.config, vocab_dim=vocab_dim)).to(device) for info in infos])

    @torch.no_grad()
    def soft_targets(self, inputs: Tensor, dtype: torch.dtype = torch.float32) -> SoftTargets:
        """What the models expect behind every place.

        Args:
            inputs: (B, S) int64, tokens.
            dtype: of the matrix products; softmax and sums are float32 whatever it is.
        """
        with torch.autocast(inputs.device.type, dtype, enabled=dtype != torch.float32):
            hidden = [model.hidden_states(inputs).flatten(0, 1) for model in self._models]
        return SoftTargets(hidden, [(model.head.weight, model.head.bias) for model in self._models], dtype)


def find_teachers(names: str, sequence_dim: int) -> list[CheckpointInfo]:
    """The checkpoints that the setting `teachers` names, without their weights.

    Args:
        names: their folders, or those of the runs that made them, with commas between them; at least one.
        sequence_dim: tokens of the longest windows that they will read.

    Raises:
        ConfigError: none is named, a folder holds no checkpoint, or one has a shorter context.
    """
    folders = [Path(name.strip()) for name in names.split(",") if name.strip()]
    if not folders:
        raise ConfigError(f"teachers is {names!r}, which names none; give the folder of a checkpoint")
    infos: list[CheckpointInfo] = []
    for folder in folders:
        is_run = not (folder / WEIGHTS_FILE).exists() and (folder / BEST_FOLDER / WEIGHTS_FILE).exists()
        try:
            infos.append(read_info(folder / BEST_FOLDER if is_run else folder))
        except CheckpointError as error:
            raise ConfigError(f"teachers has {folder}: {error}") from error
        if (context := infos[-1].config.sequence_dim) < sequence_dim:
            raise ConfigError(
                f"teachers has {folder}, whose context of {context} tokens is shorter than the run's sequence_dim "
                f"= {sequence_dim}; give another teacher, or a smaller sequence_dim"
            )
    return infos
