"""CheckpointInfo: what a checkpoint folder is, read without its weights, and the list of those at hand."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from gpt.atomic import PREVIOUS_SUFFIX, heal
from gpt.config import GPTConfig
from gpt.errors import CheckpointError, ConfigError, TokenizerError
from gpt.record import TrainingRecord
from gpt.tokenizer import FILES as TOKENIZER_FILES
from gpt.tokenizer import read_kind

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
RECORD_FILE = "record.json"
CARD_FILE = "README.md"
FILES = (WEIGHTS_FILE, CONFIG_FILE, *TOKENIZER_FILES, RECORD_FILE, CARD_FILE)


@dataclass(frozen=True)
class CheckpointInfo:
    """What a list of checkpoints shows, read without loading the weights.

    Attributes:
        name: the folder's name; for a run's best checkpoint, the run's.
        folder: where it is.
        parameters: number of the model's parameters.
        size_bytes: all files of the folder together.
        config: the model's configuration.
        record: how it was trained; all defaults where that was not saved.
        tokenizer_kind: "gpt2", "character" or "bpe".
    """

    name: str
    folder: Path
    parameters: int
    size_bytes: int
    config: GPTConfig
    record: TrainingRecord
    tokenizer_kind: str


def list_checkpoints(root: Path | str) -> list[CheckpointInfo]:
    """The checkpoints in `root`, and the runs' best ones (`<run>/best`), by name; broken ones are left out."""
    try:
        names = {path.name.removesuffix(PREVIOUS_SUFFIX) for path in Path(root).iterdir() if path.is_dir()}
    except OSError:
        return []
    infos = []
    for name in sorted(name for name in names if not name.startswith(".")):
        for folder in (Path(root) / name, Path(root) / name / "best"):
            try:
                infos.append(read_info(folder, name))
                break
            except CheckpointError:
                continue
    return infos


def damaged_checkpoints(root: Path | str) -> list[str]:
    """What is wrong with those folders in `root` that hold weights, or a run's best ones, but are no checkpoint."""
    try:
        folders = sorted(path for path in Path(root).iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError:
        return []
    errors = []
    for folder in (candidate for path in folders for candidate in (path, path / "best")):
        if (folder / WEIGHTS_FILE).is_file() and not folder.parent.name.endswith(PREVIOUS_SUFFIX):
            try:
                read_info(folder)
            except CheckpointError as error:
                errors.append(str(error))
    return errors


def read_info(folder: Path, name: str | None = None) -> CheckpointInfo:
    """What the checkpoint in `folder` is; `name` is shown instead of the folder's.

    Raises:
        CheckpointError: the folder or a file of it is missing or damaged.
    """
    heal(folder)
    check_complete(folder)
    config, record = read_config(folder), read_record(folder)
    try:
        with safe_open(folder / WEIGHTS_FILE, framework="np") as weights:
            parameters = sum(math.prod(weights.get_slice(key).get_shape()) for key in weights.keys())  # noqa: SIM118
        size_bytes = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
        return CheckpointInfo(name or folder.name, folder, parameters, size_bytes, config, record, read_kind(folder))
    except (OSError, SafetensorError, TokenizerError) as error:
        raise CheckpointError(f"the checkpoint {folder} is damaged: {error}") from error


def check_complete(folder: Path) -> None:
    """Raise CheckpointError unless the folder is there with all the files a checkpoint must have."""
    if not folder.is_dir():
        raise CheckpointError(f"there is no checkpoint {folder}; give the folder of a checkpoint, or train one first")
    for name in (WEIGHTS_FILE, CONFIG_FILE, TOKENIZER_FILES[0]):
        if not (folder / name).is_file():
            if (folder / "best" / name).is_file():
                raise CheckpointError(f"{folder} is the folder of a run, not a checkpoint; give {folder / 'best'}")
            raise CheckpointError(f"the checkpoint {folder} has no {name}; copy the whole folder again")


def read_config(folder: Path) -> GPTConfig:
    """The model's configuration; CheckpointError if it is damaged."""
    try:
        return GPTConfig.from_json(_read_text(folder / CONFIG_FILE))
    except ConfigError as error:
        raise CheckpointError(f"{folder / CONFIG_FILE} is not a model's configuration: {error}") from error


def read_record(folder: Path) -> TrainingRecord:
    """How the model was trained, all defaults if that was not saved; CheckpointError if it is damaged."""
    path = folder / RECORD_FILE
    if not path.exists():
        return TrainingRecord()
    try:
        return TrainingRecord.from_json(_read_text(path))
    except CheckpointError as error:
        raise CheckpointError(f"{path} is damaged: {error}; copy it again, or delete it") from error


def read_card(folder: Path) -> str:
    """The model card's text, empty if none was written; CheckpointError if it cannot be read."""
    path = folder / CARD_FILE
    return _read_text(path) if path.exists() else ""


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8
        raise CheckpointError(f"{path} cannot be read ({error})") from error
