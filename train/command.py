"""The command that makes a run: the options of python -m train that give some settings."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from train.base import base_settings
from train.config import TrainConfig
from train.presets import PRESETS


def command_options(config: TrainConfig) -> list[str]:
    """The options that give these settings: the preset, and whatever differs from it.

    Raises:
        CheckpointError: the checkpoint that the run is to go on from is not there.
    """
    usual = PRESETS[config.preset].config
    if config.init:
        usual = base_settings(Path(config.init), usual, {})
    options = ["--preset", config.preset]
    if config.init:
        options += ["--init", config.init]
    for item in dataclasses.fields(TrainConfig):
        value = getattr(config, item.name)
        if item.name in ("preset", "init") or value == getattr(usual, item.name):
            continue
        name = item.name.replace("_", "-")
        if isinstance(value, bool):
            options.append(f"--{name}" if value else f"--no-{name}")
        else:
            options += [f"--{name}", str(value)]
    return options
