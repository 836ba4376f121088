"""A checkpoint as a folder that transformers' AutoModelForCausalLM and AutoTokenizer load: the same logits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file

from gpt.atomic import atomic_folder
from gpt.checkpoint import load_checkpoint
from gpt.checkpoint_info import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE, read_card
from gpt.config import GPTConfig
from gpt.errors import HubError
from gpt.hub.gpt2_weights import gpt2_settings, gpt2_weights
from gpt.hub.rotary_weights import rotary_settings, rotary_weights
from gpt.hub.transformers_tokenizer import save_transformers_tokenizer


def check_exportable(config: GPTConfig) -> None:
    """Raise HubError, which names the field, where no class of transformers has the same logits."""
    if not config.rotary:
        if config.qk_norm:
            raise HubError(
                "qk_norm is true with learned positions: no class of transformers normalises queries and keys without "
                "rotary positions; train with --no-qk-norm, or with --rotary as well"
            )
        return
    for name, where in (("norm_bias", "LayerNorms"), ("head_bias", "the head")):
        if getattr(config, name):
            raise HubError(
                f"{name} is true with rotary positions: the classes of transformers that have those have no bias on "
                f"{where}; train with --no-{name.replace('_', '-')}, or with learned positions"
            )
    if not config.qk_norm:
        return
    for name in ("bias", "qkv_bias"):
        if getattr(config, name):
            raise HubError(
                f"{name} is true with rotary positions and normalised queries: the class of transformers that has "
                f"both, Qwen3ForCausalLM, has no such bias; train with --no-{name.replace('_', '-')}"
            )
    if config.activation != "relu_squared":
        raise HubError(
            f"activation is {config.activation!r} with rotary positions and normalised queries: the class of "
            "transformers that has both, Qwen3ForCausalLM, can do relu_squared alone; train with that activation"
        )


def export_transformers(source: Path, folder: Path) -> str:
    """Write the checkpoint in `source` to `folder` in transformers' format; the name of its class there.

    Args:
        source: the checkpoint.
        folder: a folder that is not there yet, or is empty.

    Raises:
        CheckpointError: there is no checkpoint in `source`, or it is damaged.
        HubError: no class of transformers has the same logits, or `folder` cannot be written or holds something.
    """
    checkpoint = load_checkpoint(source)
    config = checkpoint.config
    check_exportable(config)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise HubError(f"{folder} is there already and not empty; give another folder, or delete it first")
    settings = rotary_settings(config) if config.rotary else gpt2_settings(config)
    weights = rotary_weights(checkpoint.model) if config.rotary else gpt2_weights(checkpoint.model)
    try:
        with atomic_folder(folder.resolve()) as partial:
            save_transformers_tokenizer(checkpoint.tokenizer, partial, config.sequence_dim)
            (partial / CONFIG_FILE).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
            save_file(weights, partial / WEIGHTS_FILE, metadata={"format": "pt"})
            shutil.copymode(partial / CONFIG_FILE, partial / WEIGHTS_FILE)
            if card := read_card(source):
                (partial / CARD_FILE).write_text(card, encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise HubError(
            f"{folder} cannot be written ({getattr(error, 'strerror', None) or error}); free some space, change the "
            "folder's rights, or give another folder"
        ) from error
    return str(settings["architectures"][0])
