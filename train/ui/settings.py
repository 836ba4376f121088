"""The settings of a run that the page offers, and a TrainConfig of what the visitor typed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from gpt.errors import ConfigError
from train.base import base_settings
from train.config import TrainConfig
from train.presets import PRESETS


@dataclass(frozen=True)
class Setting:
    """A field of TrainConfig on the page.

    Attributes:
        name: the field's.
        label: what the page calls it.
        info: what it does, and what range is sensible.
        whole: whether it is a whole number.
        of_shape: whether a checkpoint that the run goes on from has decided it.
    """

    name: str
    label: str
    info: str
    whole: bool = True
    of_shape: bool = False


SETTINGS = (
    Setting("max_steps", "Steps", "The rates fall to 0 at the last one; 60 to 5,000"),
    Setting("eval_interval", "Steps between looks", "Each scores the model and lets it write; 5 to 250"),
    Setting("batch_size", "Batch", "Windows a step learns from; 8 to 64"),
    Setting("dropout", "Dropout", "More for a short text; 0.1 to 0.4", whole=False),
    Setting("learning_rate", "Learning rate", "AdamW's, at its peak; 0.001 to 0.01", whole=False),
    Setting("muon_learning_rate", "Muon's rate", "On the blocks' matrices; 0.01 to 0.05, 0 is off", whole=False),
    Setting("sequence_dim", "Context", "Tokens that it sees; 32 to 256", of_shape=True),
    Setting("vocab_dim", "Vocabulary", "Tokens fitted on the text; 256 to 2,048", of_shape=True),
    Setting("embed_dim", "Width", "A multiple of the heads; 64 to 384", of_shape=True),
    Setting("num_heads", "Heads", "Of each block's attention; 2 to 8", of_shape=True),
    Setting("num_layers", "Blocks", "One behind the other; 2 to 8", of_shape=True),
    Setting("seed", "Seed", "Of weights, dropout and order; any number"),
)


class SettingsForm:
    """The settings as fields, in the order of SETTINGS."""

    def __init__(self) -> None:
        self.controls: list[gr.components.Component] = []
        for start in range(0, len(SETTINGS), 2):
            with gr.Row():
                for setting in SETTINGS[start : start + 2]:
                    self.controls.append(
                        gr.Number(
                            label=setting.label,
                            info=setting.info,
                            precision=0 if setting.whole else None,
                            interactive=True,
                            min_width=120,
                            elem_id=f"train-{setting.name}",
                        )
                    )

    @staticmethod
    def resting(rests: bool) -> list[Any]:
        """Fields that take nothing for a while, or again."""
        return [gr.update(interactive=not rests)] * len(SETTINGS)

    @staticmethod
    def updates(config: TrainConfig) -> list[Any]:
        """What the fields show of these settings; those that are decided cannot be changed."""
        fitted = config.tokenizer == "bpe"
        return [
            gr.update(
                value=getattr(config, setting.name),
                interactive=not (setting.of_shape and config.init) and (setting.name != "vocab_dim" or fitted),
            )
            for setting in SETTINGS
        ]


def usual_config(preset: str, init: str, data: str) -> TrainConfig:
    """A preset's settings on a text, from a checkpoint where `init` names one.

    Raises:
        ConfigError: there is no such preset.
        CheckpointError: there is no such checkpoint.
    """
    if preset not in PRESETS:
        raise ConfigError(f"the preset is {preset!r}; choose one of {', '.join(PRESETS)}")
    config = PRESETS[preset].config.with_changes(data=data)
    return base_settings(Path(init), config, {}) if init else config


def chosen_config(usual: TrainConfig, values: Sequence[Any]) -> TrainConfig:
    """`usual` with the values of the fields, in the order of SETTINGS.

    Raises:
        ConfigError: a field is empty or out of range.
    """
    changes: dict[str, Any] = {}
    for setting, value in zip(SETTINGS, values, strict=True):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ConfigError(
                f"{setting.label} ({setting.name}) is {'empty' if value is None else repr(value)}; give a number"
            )
        if setting.whole and value != int(value):
            raise ConfigError(f"{setting.label} ({setting.name}) is {value}; give a whole number")
        changes[setting.name] = int(value) if setting.whole else float(value)
    # A state is saved at least as often as the run is looked at from outside.
    changes["save_interval"] = max(10, min(usual.save_interval, changes["max_steps"] // 10))
    try:
        return usual.with_changes(**changes)
    except ConfigError as error:
        label = next((f"{item.label} ({item.name})" for item in SETTINGS if str(error).startswith(f"{item.name} ")), "")
        words = f"{label} {str(error).split(' ', 1)[1]}" if label else str(error)
        raise ConfigError(words) from error
