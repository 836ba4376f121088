"""The proof that a folder from elsewhere is a checkpoint: it is loaded strictly, once, and tried."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from gpt.bpe_tokenizer import SPLIT_PATTERN
from gpt.checkpoint import Checkpoint, load_checkpoint
from gpt.checkpoint_info import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE
from gpt.config import GPTConfig
from gpt.errors import CheckpointError
from gpt.vocabulary import TOKENIZER_FILE

# Learned positions stand in the weights, and their number with them; rotary ones can claim a context of any length.
MAX_CACHE_BYTES = 1_000_000_000


def prove_checkpoint(folder: Path) -> None:
    """Load the checkpoint in `folder` strictly, and see that it can do what will be asked of it.

    Raises:
        CheckpointError: something in it is missing, damaged, of another shape, or not as this project writes it.
    """
    try:
        checkpoint = load_checkpoint(folder)
        _check_context(checkpoint.config, folder)
        _check_tokenizer(checkpoint, folder)
        _check_numbers(checkpoint, folder)
        if (card := folder / CARD_FILE).exists():
            card.read_text(encoding="utf-8")
    except (ValueError, TypeError, RecursionError, OverflowError, MemoryError) as error:
        # What no check of a field foresaw; CheckpointError is none of these.
        raise CheckpointError(f"{folder} cannot be read ({error}); copy the whole folder again") from error


def _check_context(config: GPTConfig, folder: Path) -> None:
    """Raise CheckpointError when one text's keys and values alone would fill the memory."""
    needed = 2 * 4 * config.num_layers * config.embed_dim * config.sequence_dim
    if needed > MAX_CACHE_BYTES:
        raise CheckpointError(
            f"{folder / CONFIG_FILE} asks for sequence_dim {config.sequence_dim:,}, for which one text would need "
            f"{needed / 1e9:,.0f} GB of memory; {MAX_CACHE_BYTES / 1e9:.0f} GB is allowed"
        )


def _check_tokenizer(checkpoint: Checkpoint, folder: Path) -> None:
    """Raise CheckpointError when the tokenizer could hang on a text, or not write one of its tokens."""
    description = json.loads((folder / TOKENIZER_FILE).read_text(encoding="utf-8"))
    if description.get("split_pattern", SPLIT_PATTERN) != SPLIT_PATTERN:  # some patterns take a lifetime to match
        raise CheckpointError(
            f"{folder / TOKENIZER_FILE} cuts texts by a pattern that this project does not write; "
            "only its own tokenizers are taken"
        )
    for token_id in range(checkpoint.tokenizer.vocab_dim):
        checkpoint.tokenizer.decode_bytes([token_id])


def _check_numbers(checkpoint: Checkpoint, folder: Path) -> None:
    """Raise CheckpointError when a weight, or what the model makes of a first token, is no number."""
    with torch.inference_mode():
        finite = all(bool(torch.isfinite(weight).all()) for weight in checkpoint.model.parameters())
        if not (finite and bool(torch.isfinite(checkpoint.model(torch.tensor([[0]]))).all())):
            raise CheckpointError(f"{folder / WEIGHTS_FILE} has weights that are no finite numbers; train it again")
