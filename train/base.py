"""The base of a run: the checkpoint whose weights it goes on from, instead of random ones."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from gpt.checkpoint import Checkpoint
from gpt.checkpoint_info import CONFIG_FILE, WEIGHTS_FILE, read_info
from gpt.checkpoint_store import CheckpointStore
from gpt.config import GPTConfig
from gpt.errors import ConfigError, TrainingError
from gpt.hub.exchange import PUBLISHED, import_checkpoint
from gpt.hub.repository import Hub
from gpt.model import GPT
from train.config import TrainConfig
from train.progress import Progress
from train.turns import in_turn

# Weights that have learnt already are moved with a small part of the rates that random ones need. From the plays to the
# sonnets (without the characters that the plays lack, 190 steps of `laptop`), the best loss in nats per character was
# 1.347 with this part, 1.353 with twice as much, 1.365 with five times and 1.385 with ten times; 1.704 from nothing.
RATES = 0.05


def base_folder(init: str, checkpoints_root: Path, tiktoken_cache: str | None) -> Path:
    """The folder of the checkpoint that `--init` names; one of GPT-2's is imported from the Hub where it is missing.

    Args:
        init: a folder, or the name of a checkpoint or a run.
        checkpoints_root: the folder of checkpoints.
        tiktoken_cache: where GPT-2's vocabulary is looked for; see GPT2Tokenizer.fetch.

    Raises:
        HubError: the Hub cannot be reached.
    """
    named = checkpoints_root / init
    for folder in (Path(init), named, named / "best"):
        if (folder / CONFIG_FILE).is_file() and (folder / WEIGHTS_FILE).is_file():
            return _from_here(folder)
    if init not in PUBLISHED:
        return Path(init)
    with in_turn(checkpoints_root, lambda: print(f"waiting for another process that imports {init}", file=sys.stderr)):
        if not named.exists():
            progress = Progress(f"Fetching {init}")
            store = CheckpointStore(checkpoints_root)
            try:
                import_checkpoint(Hub(), store, init, name=init, progress=progress, tiktoken_cache=tiktoken_cache)
            finally:
                progress.close()
    return _from_here(named)


def _from_here(folder: Path) -> Path:
    """The folder as one would type it here."""
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder


def base_settings(folder: Path, config: TrainConfig, overrides: dict[str, Any]) -> TrainConfig:
    """The settings of a run that goes on from the checkpoint in `folder`: its shape and tokenizer, gentler rates.

    Args:
        folder: the checkpoint.
        config: the preset's settings.
        overrides: the settings that were given by hand, which win where the checkpoint leaves a choice.

    Raises:
        CheckpointError: there is no checkpoint in `folder`, or it is damaged.
        ConfigError: a setting was given that the checkpoint has already decided.
    """
    info = read_info(folder)
    own = dataclasses.asdict(info.config) | {"tokenizer": info.tokenizer_kind}
    decided = {item.name: own[item.name] for item in dataclasses.fields(TrainConfig) if item.name in own}
    for name in ("dropout", "attention_dropout"):  # of the training, not of the shape
        del decided[name]
    if changed := sorted(name for name in decided if name in overrides and overrides[name] != decided[name]):
        raise ConfigError(
            f"{', '.join('--' + name.replace('_', '-') for name in changed)} cannot be chosen with --init: the "
            f"checkpoint {folder} decides it ({', '.join(f'{name} {decided[name]}' for name in changed)}); "
            "leave it out, or begin from random weights"
        )
    part = 1.0 if config.init else RATES  # a preset that begins with a checkpoint has its own rates
    rates = {name: part * getattr(config, name) for name in ("learning_rate", "muon_learning_rate")}
    return config.with_changes(**{**rates, **overrides, **decided, "init": str(folder)})


def take_weights(model: GPT, base: Checkpoint, folder: str) -> None:
    """Give `model` the weights of `base`, the checkpoint in `folder`; TrainingError if they are not of one shape."""

    def shape(config: GPTConfig) -> GPTConfig:
        width = config.feedforward_dim or 4 * config.embed_dim
        return replace(config, dropout=0.0, attention_dropout=0.0, feedforward_dim=width, zero_init=False)

    if shape(model.config) != shape(base.config):
        raise TrainingError(
            f"the checkpoint {folder} has a shape that python -m train does not make ({shape(base.config).to_json()}); "
            "begin from random weights, or from another checkpoint"
        )
    model.load_state_dict(base.model.state_dict())
