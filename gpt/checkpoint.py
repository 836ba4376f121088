"""Checkpoints: a folder with weights, configuration, tokenizer, training record and model card.

    model.safetensors   the weights, under the names of GPT's parameters
    config.json         GPTConfig
    tokenizer.json      the tokenizer; with vocab.bpe beside it for GPT-2's
    record.json         TrainingRecord, where one is known
    README.md           the model card, where one was written

A checkpoint is complete or absent. Nothing in it is ever unpickled, and it is loaded strictly: what does not match
is an error.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gpt.atomic import atomic_folder, heal, identity
from gpt.checkpoint_info import (
    CARD_FILE,
    CONFIG_FILE,
    FILES,
    RECORD_FILE,
    WEIGHTS_FILE,
    CheckpointInfo,
    check_complete,
    list_checkpoints,
    read_config,
    read_record,
)
from gpt.config import GPTConfig
from gpt.errors import CheckpointError, TokenizerError
from gpt.model import GPT
from gpt.record import TrainingRecord
from gpt.tokenizer import Tokenizer, load_tokenizer

__all__ = ["Checkpoint", "CheckpointInfo", "TrainingRecord", "list_checkpoints", "load_checkpoint", "save_checkpoint"]

# A tied head is one parameter under two names; safetensors refuses to store it twice.
EMBEDDING_NAME, HEAD_NAME = "token_embedding.weight", "head.weight"


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint.

    Attributes:
        model: in evaluation mode, its parameters in float32.
        tokenizer: the one the model was trained with.
        config: the model's configuration.
        record: how it was trained; all defaults where that was not saved.
        stored_dtype: what the weights were stored in; float32 holds values stored at half precision exactly.
    """

    model: GPT
    tokenizer: Tokenizer
    config: GPTConfig
    record: TrainingRecord
    stored_dtype: torch.dtype


def save_checkpoint(
    folder: Path | str,
    model: nn.Module,
    tokenizer: Tokenizer,
    record: TrainingRecord | None = None,
    *,
    dtype: torch.dtype | None = None,
    card: str | None = None,
) -> None:
    """Write a checkpoint into `folder`, in the place of an older one if it is there.

    Args:
        folder: where; its parents are made.
        model: a GPT, also inside DistributedDataParallel or torch.compile.
        tokenizer: the one the model was trained with.
        record: how it was trained.
        dtype: what to round the weights to, once; None stores them as they are.
        card: the text of README.md.

    Raises:
        CheckpointError: model and tokenizer do not match, a weight is too large for dtype, the folder holds other
            things, or it cannot be written; an older checkpoint is then as it was.
    """
    folder = Path(folder).resolve()
    gpt = _unwrap(model)
    _check_vocabulary(tokenizer, gpt.config, folder)
    weights = {name: _round(name, tensor, dtype) for name, tensor in _stored_tensors(gpt).items()}
    try:
        _check_replaceable(folder)
        with atomic_folder(folder) as partial:
            (partial / CONFIG_FILE).write_text(gpt.config.to_json(), encoding="utf-8")
            save_file(weights, partial / WEIGHTS_FILE, metadata={"format": "pt"})
            # safetensors lets nobody else read its file; it gets the rights of the other ones
            shutil.copymode(partial / CONFIG_FILE, partial / WEIGHTS_FILE)
            tokenizer.save(partial)
            if record is not None:
                (partial / RECORD_FILE).write_text(record.to_json(), encoding="utf-8")
            if card is not None:
                (partial / CARD_FILE).write_text(card, encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"the checkpoint {folder} cannot be written ({getattr(error, 'strerror', None) or error}); "
            "free some space, change the folder's rights or choose another folder"
        ) from error


def load_checkpoint(folder: Path | str, device: torch.device | str = "cpu") -> Checkpoint:
    """The checkpoint in `folder`, its model on `device`.

    Raises:
        CheckpointError: the folder or a file is missing, damaged, or does not match the others.
    """
    folder = Path(folder)
    heal(folder)
    for _ in range(3):
        found = identity(folder)
        try:
            checkpoint = _load(folder, torch.device(device))
        except CheckpointError:
            if identity(folder) == found:
                raise
        else:
            if identity(folder) == found:
                return checkpoint
        # The folder was replaced while it was read: what was read may be half old, half new.
    return _load(folder, torch.device(device))


def _load(folder: Path, device: torch.device) -> Checkpoint:
    check_complete(folder)
    config, record = read_config(folder), read_record(folder)
    try:
        tokenizer = load_tokenizer(folder)
    except TokenizerError as error:
        raise CheckpointError(f"the tokenizer of the checkpoint {folder} cannot be loaded: {error}") from error
    _check_vocabulary(tokenizer, config, folder)
    tensors = _read_weights(folder / WEIGHTS_FILE)
    if config.num_layers > len(tensors):  # each has several; a model of as many as a number can say is never built
        raise CheckpointError(
            f"{folder / WEIGHTS_FILE} has {len(tensors)} weights, too few for the {config.num_layers} layers that "
            f"{CONFIG_FILE} asks for"
        )
    # On the meta device parameters have a shape and no memory: the stored weights take their places.
    with _NoRandomWeights():
        model = GPT.from_config(config, device="meta")
    _check_tensors(folder, tensors, _stored_tensors(model))
    stored = {tensor.dtype for tensor in tensors.values()}
    # The copy lets go of the file, which was mapped into memory and may be replaced.
    parameters = {name: nn.Parameter(tensor.to(device, torch.float32, copy=True)) for name, tensor in tensors.items()}
    if config.tie_head:
        parameters[HEAD_NAME] = parameters[EMBEDDING_NAME]
    model.load_state_dict(parameters, strict=True, assign=True)
    return Checkpoint(model.eval(), tokenizer, config, record, stored.pop() if len(stored) == 1 else torch.float32)


class _NoRandomWeights(TorchFunctionMode):
    """Inside, `normal_` does nothing: on the meta device it has no numbers to draw, yet takes 1.5 s to import that."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call `func`, or give back the tensor that it would have filled."""
        if func in (nn.init.normal_, Tensor.normal_):
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        with path.open("rb") as file:
            start = file.read(4)
        # torch.save writes a zip archive around a pickle; before torch 1.6 it wrote a bare pickle.
        if start == b"PK\x03\x04" or start[:2] == b"\x80\x02":
            raise CheckpointError(
                f"{path} is a pickle, as torch.save writes it; it is not opened, because a pickle can run any code; "
                "save the weights with save_checkpoint"
            )
        return load_file(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror or error})") from error
    except SafetensorError as error:
        raise CheckpointError(f"{path} is truncated or no safetensors file ({error}); copy it again") from error


def _check_tensors(folder: Path, tensors: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Raise CheckpointError unless the file has the weights of the model, all of them and no others."""
    path = folder / WEIGHTS_FILE
    if missing := sorted(expected.keys() - tensors.keys()):
        raise CheckpointError(f"{path} lacks weights that {CONFIG_FILE} asks for: {_some(missing)}")
    if unknown := sorted(tensors.keys() - expected.keys()):
        raise CheckpointError(f"{path} has weights that {CONFIG_FILE} does not ask for: {_some(unknown)}")
    wrong = [
        f"{name} is {tuple(tensors[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if tensors[name].shape != tensor.shape
    ]
    if wrong:
        raise CheckpointError(f"{path} has weights of other shapes than {CONFIG_FILE} asks for: {_some(wrong)}")
    if integers := [name for name, tensor in tensors.items() if not tensor.is_floating_point()]:
        raise CheckpointError(f"{path} has weights that are no floating-point numbers: {_some(integers)}")


def _check_vocabulary(tokenizer: Tokenizer, config: GPTConfig, folder: Path) -> None:
    if tokenizer.vocab_dim != config.vocab_dim:
        raise CheckpointError(
            f"checkpoint {folder}: the tokenizer has {tokenizer.vocab_dim} tokens, but the model's vocab_dim is "
            f"{config.vocab_dim}; a model goes with the tokenizer that it was trained with"
        )


def _check_replaceable(folder: Path) -> None:
    """Raise CheckpointError if replacing the folder would delete anything but a checkpoint's files."""
    if folder.is_dir():
        if others := sorted(path.name for path in folder.iterdir() if path.name not in FILES):
            raise CheckpointError(
                f"{folder} holds other things than a checkpoint: {_some(others)}; give another folder"
            )
    elif folder.exists():
        raise CheckpointError(f"{folder} is a file; give a folder for the checkpoint")


def _stored_tensors(model: GPT) -> dict[str, Tensor]:
    """The model's weights by name, those of a tied head only once."""
    return {name: t for name, t in model.state_dict().items() if not (model.config.tie_head and name == HEAD_NAME)}


def _round(name: str, tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    rounded = tensor.to("cpu", dtype).contiguous()
    if rounded.isinf().any() and not tensor.isinf().any():
        raise CheckpointError(
            f"{name} has a weight of {tensor.abs().max():g}, too large for {dtype}; give another dtype"
        )
    return rounded


def _unwrap(model: nn.Module) -> GPT:
    """The GPT inside torch.compile (`_orig_mod`) and DistributedDataParallel (`module`)."""
    while not isinstance(model, GPT):
        inner = getattr(model, "_orig_mod", None) or getattr(model, "module", None)
        if not isinstance(inner, nn.Module):
            raise CheckpointError(f"the model is a {type(model).__name__}; a checkpoint holds a GPT")
        model = inner
    return model


def _some(items: Sequence[str]) -> str:
    """The first few items, and how many more there are."""
    return ", ".join(items[:4]) + (f" and {len(items) - 4} more" if len(items) > 4 else "")
