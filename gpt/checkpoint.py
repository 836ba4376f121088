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

import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gpt.atomic import PREVIOUS_SUFFIX, atomic_folder, heal
from gpt.config import GPTConfig
from gpt.errors import CheckpointError, ConfigError, TokenizerError
from gpt.model import GPT
from gpt.record import TrainingRecord
from gpt.tokenizer import TOKENIZER_FILE, VOCABULARY_FILE, Tokenizer, load_tokenizer, read_kind

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
RECORD_FILE = "record.json"
CARD_FILE = "README.md"
EMBEDDING, HEAD = "token_embedding.weight", "head.weight"
FILES = (WEIGHTS_FILE, CONFIG_FILE, TOKENIZER_FILE, VOCABULARY_FILE, RECORD_FILE, CARD_FILE)


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


@dataclass(frozen=True)
class CheckpointInfo:
    """What a list of checkpoints shows, read without loading the weights.

    Attributes:
        name: the folder's name; for a run's best checkpoint, the run's.
        folder: where it is.
        parameters: number of the model's parameters.
        size_bytes: all files of the folder together.
        config: the model's configuration.
        record: how it was trained.
        tokenizer_kind: "gpt2", "character" or "bpe".
    """

    name: str
    folder: Path
    parameters: int
    size_bytes: int
    config: GPTConfig
    record: TrainingRecord
    tokenizer_kind: str


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
        CheckpointError: model and tokenizer do not match, the folder holds something else, or it cannot be
            written; an older checkpoint is then as it was.
    """
    folder = Path(folder).resolve()
    inner = _unwrap(model)
    _check_vocabulary(tokenizer, inner.config, folder)
    _check_replaceable(folder)
    weights = {name: tensor.to("cpu", dtype).contiguous() for name, tensor in _stored_tensors(inner).items()}
    try:
        with atomic_folder(folder) as partial:
            (partial / CONFIG_FILE).write_text(inner.config.to_json(), encoding="utf-8")
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
        found = _identity(folder)
        try:
            checkpoint = _load(folder, torch.device(device))
        except CheckpointError:
            if _identity(folder) == found:
                raise
        else:
            if _identity(folder) == found:
                return checkpoint
        # The folder was replaced while it was read: what was read may be half old, half new.
    return _load(folder, torch.device(device))


def list_checkpoints(root: Path | str) -> list[CheckpointInfo]:
    """The checkpoints in `root`, and the best ones of the runs in it (`<run>/best`), by name; broken ones are left out."""
    try:
        names = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))
    except OSError:
        return []
    infos = []
    for name in sorted({name.removesuffix(PREVIOUS_SUFFIX) for name in names}):
        for folder in (Path(root) / name, Path(root) / name / "best"):
            heal(folder)
            try:
                infos.append(_read_info(name, folder))
                break
            except (CheckpointError, TokenizerError, OSError):
                continue
    return infos


def _load(folder: Path, device: torch.device) -> Checkpoint:
    _check_complete(folder)
    config = _read_config(folder)
    try:
        tokenizer = load_tokenizer(folder)
    except TokenizerError as error:
        raise CheckpointError(f"the tokenizer of the checkpoint {folder} cannot be loaded: {error}") from error
    _check_vocabulary(tokenizer, config, folder)
    record = _read_record(folder)
    tensors = _read_weights(folder / WEIGHTS_FILE)

    # On the meta device parameters have a shape and no memory: the stored weights take their places.
    with _NoRandomWeights():
        model = GPT.from_config(config, device="meta")
    _check_shapes(folder, tensors, _stored_tensors(model))
    stored = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
    # The copy also frees the weights of the file, which is mapped into memory and may be replaced.
    parameters = {name: nn.Parameter(tensor.to(device, torch.float32, copy=True)) for name, tensor in tensors.items()}
    if config.tie_head:  # one parameter under two names, so that they stay one
        parameters[HEAD] = parameters[EMBEDDING]
    model.load_state_dict(parameters, strict=True, assign=True)
    return Checkpoint(model.eval(), tokenizer, config, record, stored.pop() if len(stored) == 1 else torch.float32)


class _NoRandomWeights(TorchFunctionMode):
    """Inside, `normal_` does nothing. On the meta device it has nothing to do, yet its first call imports for 1.5 s."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call `func`, or give back the tensor that it would have filled."""
        if func in (nn.init.normal_, Tensor.normal_):
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def _read_info(name: str, folder: Path) -> CheckpointInfo:
    _check_complete(folder)
    sizes = [path.stat().st_size for path in folder.iterdir() if path.is_file()]
    try:
        with safe_open(folder / WEIGHTS_FILE, framework="pt") as file:
            parameters = sum(math.prod(file.get_slice(key).get_shape()) for key in file.keys())
    except SafetensorError as error:
        raise CheckpointError(f"{folder / WEIGHTS_FILE} is damaged ({error})") from error
    config, record = _read_config(folder), _read_record(folder)
    return CheckpointInfo(name, folder, parameters, sum(sizes), config, record, read_kind(folder))


def _check_complete(folder: Path) -> None:
    if not folder.is_dir():
        raise CheckpointError(f"there is no checkpoint {folder}; give the folder of a checkpoint, or train one first")
    for name in (WEIGHTS_FILE, CONFIG_FILE, TOKENIZER_FILE):
        if not (folder / name).is_file():
            raise CheckpointError(f"the checkpoint {folder} has no {name}; copy the whole folder again")


def _read_config(folder: Path) -> GPTConfig:
    try:
        return GPTConfig.from_json(_read_text(folder / CONFIG_FILE))
    except ConfigError as error:
        raise CheckpointError(f"{folder / CONFIG_FILE} is not a model's configuration: {error}") from error


def _read_record(folder: Path) -> TrainingRecord:
    path = folder / RECORD_FILE
    if not path.exists():
        return TrainingRecord()
    try:
        return TrainingRecord.from_json(_read_text(path))
    except CheckpointError as error:
        raise CheckpointError(f"{path} is damaged: {error}; copy it again, or delete it") from error


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8
        raise CheckpointError(f"{path} cannot be read ({error})") from error


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        with path.open("rb") as file:
            start = file.read(4)
        # torch.save writes a zip archive around a pickle; before torch 1.6, a bare pickle of protocol 2.
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


def _check_shapes(folder: Path, tensors: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Raise CheckpointError unless the file has the model's tensors, all of them and no others, in its shapes."""
    for problem, names in (("lacks", expected.keys() - tensors.keys()), ("has unknown", tensors.keys() - expected.keys())):
        if names:
            raise CheckpointError(
                f"{folder / WEIGHTS_FILE} {problem} weights that {CONFIG_FILE} describes differently: {_some(sorted(names))}; "
                "weights and configuration are not of one checkpoint"
            )
    wrong = [
        f"{name} is {tuple(tensors[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if tensors[name].shape != tensor.shape
    ]
    if wrong:
        raise CheckpointError(f"{folder / WEIGHTS_FILE} does not match {CONFIG_FILE}: {_some(wrong)}")
    integers = [name for name, tensor in tensors.items() if not tensor.is_floating_point()]
    if integers:
        raise CheckpointError(f"{folder / WEIGHTS_FILE} has weights that are no floating-point numbers: {_some(integers)}")


def _check_vocabulary(tokenizer: Tokenizer, config: GPTConfig, folder: Path) -> None:
    if tokenizer.vocab_dim != config.vocab_dim:
        raise CheckpointError(
            f"the tokenizer has {tokenizer.vocab_dim} tokens, but the model's vocab_dim is {config.vocab_dim} "
            f"(checkpoint {folder}); a model goes with the tokenizer that it was trained with"
        )


def _check_replaceable(folder: Path) -> None:
    """Raise CheckpointError if replacing the folder would delete anything but a checkpoint's files."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is a file; give a folder for the checkpoint")
    others = sorted(entry.name for entry in folder.iterdir() if entry.name not in FILES)
    if others:
        raise CheckpointError(f"the folder {folder} holds other things than a checkpoint: {_some(others)}; give another folder")


def _stored_tensors(model: GPT) -> dict[str, Tensor]:
    """The model's weights by name; those of a tied head, which safetensors refuses to store twice, only once."""
    return {name: tensor for name, tensor in model.state_dict().items() if not (model.config.tie_head and name == HEAD)}


def _unwrap(model: nn.Module) -> GPT:
    """The GPT inside torch.compile (`_orig_mod`) and DistributedDataParallel (`module`)."""
    while not isinstance(model, GPT):
        inner = getattr(model, "_orig_mod", None) or getattr(model, "module", None)
        if not isinstance(inner, nn.Module):
            raise CheckpointError(f"the model is a {type(model).__name__}; a checkpoint holds a GPT")
        model = inner
    return model


def _identity(folder: Path) -> int:
    """A number that changes when another folder takes this one's place; 0 while there is none."""
    try:
        return folder.stat().st_ino
    except OSError:
        return 0


def _some(items: Sequence[str]) -> str:
    """The first few items, and how many more there are."""
    return ", ".join(items[:4]) + (f" and {len(items) - 4} more" if len(items) > 4 else "")
