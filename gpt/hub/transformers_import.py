"""GPT-2's weights, and those of its fine-tunes, from transformers' format into our classes: the same logits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from gpt.checkpoint_info import CONFIG_FILE, WEIGHTS_FILE
from gpt.config import GPTConfig
from gpt.errors import ConfigError, HubError, TokenizerError
from gpt.gpt2_tokenizer import GPT2Tokenizer
from gpt.model import GPT
from gpt.vocabulary import TOKENIZER_FILE

MERGES_FILE = "merges.txt"
PICKLED_WEIGHTS = ("pytorch_model.bin", "pytorch_model.bin.index.json")
ACTIVATIONS = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu": "gelu",
    "relu": "relu",
    "relu2": "relu_squared",
}
# Settings of GPT2Config that change what it computes, and the only values that our classes compute.
FIXED = {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False}
# The causal masks, which older files hold among the weights.
MASKS = (".attn.bias", ".attn.masked_bias")
PREFIX = "transformer."


def read_transformers(folder: Path, called: str) -> GPT:
    """The model that a folder in transformers' format holds, in evaluation mode, its weights as they are stored.

    Args:
        folder: with config.json and model.safetensors.
        called: what to call it in an error.

    Raises:
        HubError: it is no GPT-2, or is damaged.
    """
    config = _read_config(folder / CONFIG_FILE, called)
    try:
        stored = load_file(folder / WEIGHTS_FILE)
    except (OSError, SafetensorError) as error:
        raise HubError(f"{WEIGHTS_FILE} of {called} cannot be read ({error}); fetch it again") from error
    weights = {name.removeprefix(PREFIX): tensor for name, tensor in stored.items() if not name.endswith(MASKS)}
    try:
        ours = {name: nn.Parameter(tensor) for name, tensor in _converted(weights, config).items()}
    except KeyError as error:
        raise HubError(
            f"{WEIGHTS_FILE} of {called} has no weight {error.args[0]}, which {CONFIG_FILE} asks for"
        ) from error
    if weights:
        raise HubError(f"{WEIGHTS_FILE} of {called} has weights that no GPT-2 has: {', '.join(sorted(weights)[:4])}")
    model = GPT.from_config(config, device="meta")
    try:
        model.load_state_dict(ours, strict=True, assign=True)
    except RuntimeError as error:  # torch's words have a line for each weight
        reason = str(error).splitlines()[-1].strip()
        raise HubError(f"{WEIGHTS_FILE} of {called} is not what {CONFIG_FILE} says: {reason}") from error
    return model.eval()


def read_vocabulary(
    folder: Path, called: str, checkpoints_root: Path, tiktoken_cache: Path | str | None
) -> GPT2Tokenizer:
    """GPT-2's tokenizer, once the folder's own files say that it is this one; without such files it is taken to be.

    Raises:
        HubError: the folder has another vocabulary.
        TokenizerError: GPT-2's is not to be had.
    """
    merges: bytes | None = None
    if (folder / MERGES_FILE).is_file():
        merges = (folder / MERGES_FILE).read_bytes()
    elif (folder / TOKENIZER_FILE).is_file():
        try:
            pairs = json.loads((folder / TOKENIZER_FILE).read_text(encoding="utf-8"))["model"]["merges"]
            lines = [pair if isinstance(pair, str) else " ".join(pair) for pair in pairs]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise HubError(f"{TOKENIZER_FILE} of {called} is no tokenizer of byte pairs ({error!r})") from error
        merges = "\n".join(["#version: 0.2", *lines, ""]).encode()
    if merges is None:
        return GPT2Tokenizer.fetch(checkpoints_root, tiktoken_cache)
    lines = merges.decode("utf-8", errors="replace").replace("\r\n", "\n").rstrip("\n").split("\n")
    try:
        return GPT2Tokenizer("\n".join([*lines, ""]).encode())
    except TokenizerError as error:
        raise HubError(f"{called} has another vocabulary than GPT-2's, and only that one is known here") from error


def _read_config(path: Path, called: str) -> GPTConfig:
    """Our configuration of what config.json describes."""
    try:
        settings: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise HubError(f"{CONFIG_FILE} of {called} cannot be read ({error})") from error
    kind = settings.get("model_type") if isinstance(settings, dict) else None
    if kind != "gpt2":
        raise HubError(
            f"{called} is of the kind {kind!r}; only gpt2 and its fine-tunes are imported, because no other kind has "
            "the shape of the classes here"
        )
    for name, value in FIXED.items():
        if settings.get(name, value) != value:
            raise HubError(f"{name} of {called} is {settings[name]!r}; only {value!r} can be imported")
    activation = settings.get("activation_function", "gelu_new")
    if activation not in ACTIVATIONS:
        raise HubError(
            f"activation_function of {called} is {activation!r}; only {', '.join(ACTIVATIONS)} can be imported"
        )
    if (vocab_dim := settings.get("vocab_size", GPT2Tokenizer.vocab_dim)) != GPT2Tokenizer.vocab_dim:
        raise HubError(
            f"vocab_size of {called} is {vocab_dim!r}, so tokens were added to GPT-2's {GPT2Tokenizer.vocab_dim:,} or "
            "taken away; only a model over GPT-2's own vocabulary can be imported"
        )
    try:
        return GPTConfig(
            vocab_dim=vocab_dim,
            sequence_dim=settings.get("n_positions", 1024),
            embed_dim=settings.get("n_embd", 768),
            num_heads=settings.get("n_head", 12),
            num_layers=settings.get("n_layer", 12),
            feedforward_dim=settings.get("n_inner"),
            dropout=settings.get("resid_pdrop", 0.1),
            attention_dropout=settings.get("attn_pdrop", 0.1),
            activation=ACTIVATIONS[activation],
            layer_norm_eps=settings.get("layer_norm_epsilon", 1e-5),
            qkv_bias=True,
            head_bias=False,
            tie_head=settings.get("tie_word_embeddings", True),
        )
    except ConfigError as error:
        raise HubError(f"{CONFIG_FILE} of {called} is not that of a GPT-2: {error}") from error


def _converted(theirs: dict[str, Tensor], config: GPTConfig) -> dict[str, Tensor]:
    """The weights under our names, taken out of `theirs`; KeyError with the name of one that is missing."""
    ours = {
        "token_embedding.weight": theirs.pop("wte.weight"),
        "position_embedding.weight": theirs.pop("wpe.weight"),
        "norm.weight": theirs.pop("ln_f.weight"),
        "norm.bias": theirs.pop("ln_f.bias"),
    }
    for index in range(config.num_layers):
        there, here = f"h.{index}", f"blocks.{index}"
        for name, layer in (
            ("attn.c_attn", "self_attn.in_proj"),
            ("attn.c_proj", "self_attn.out_proj"),
            ("mlp.c_fc", "linear1"),
            ("mlp.c_proj", "linear2"),
        ):
            join = "_" if layer.endswith("in_proj") else "."
            # Their matrices are (in, out), ours (out, in).
            ours[f"{here}.{layer}{join}weight"] = theirs.pop(f"{there}.{name}.weight").T.contiguous()
            ours[f"{here}.{layer}{join}bias"] = theirs.pop(f"{there}.{name}.bias")
        for name, layer in (("ln_1", "norm1"), ("ln_2", "norm2")):
            for part in ("weight", "bias"):
                ours[f"{here}.{layer}.{part}"] = theirs.pop(f"{there}.{name}.{part}")
    embedding = ours["token_embedding.weight"]
    if not config.tie_head:
        ours["head.weight"] = theirs.pop("lm_head.weight")
    elif (head := theirs.pop("lm_head.weight", None)) is not None and not torch.equal(head, embedding):
        raise KeyError("lm_head.weight that is the embedding's (tie_word_embeddings is true)")
    else:
        ours["head.weight"] = embedding
    return ours
