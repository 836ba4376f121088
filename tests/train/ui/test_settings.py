"""The fields of the form: a TrainConfig of what was typed, or words."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from gpt.errors import CheckpointError, ConfigError
from train.config import TrainConfig
from train.presets import PRESETS
from train.ui.settings import SETTINGS, SettingsForm, chosen_config, usual_config

LAPTOP = usual_config("laptop", "", "sonnets")


def values(**changes: Any) -> list[Any]:
    return [changes.get(setting.name, getattr(LAPTOP, setting.name)) for setting in SETTINGS]


def test_fields_that_are_left_alone_are_the_presets() -> None:
    assert dataclasses.replace(PRESETS["laptop"].config, data="sonnets") == LAPTOP
    assert dataclasses.replace(chosen_config(LAPTOP, values()), save_interval=LAPTOP.save_interval) == LAPTOP


def test_fields_reach_the_settings_with_their_types() -> None:
    config = chosen_config(LAPTOP, values(max_steps=80.0, dropout=0, seed=7))
    assert (config.max_steps, config.dropout, config.seed, config.save_interval) == (80, 0.0, 7, 10)
    assert isinstance(config.max_steps, int) and isinstance(config.dropout, float)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"max_steps": None}, r"Steps \(max_steps\) is empty; give a number"),
        ({"max_steps": 2.5}, r"Steps \(max_steps\) is 2.5; give a whole number"),
        ({"dropout": "much"}, r"Dropout \(dropout\) is 'much'; give a number"),
        ({"dropout": True}, r"Dropout \(dropout\) is True; give a number"),
        ({"dropout": 7}, r"Dropout \(dropout\) is 7.0; give a number from 0 to 0.95"),
        ({"num_heads": 3}, "num_heads = 3 does not divide"),
        ({"max_steps": 0}, r"Steps \(max_steps\) is 0; give a number at least 1"),
    ],
)
def test_field_that_is_wrong_is_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        chosen_config(LAPTOP, values(**changes))


def test_preset_and_checkpoint_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the preset is 'huge'; choose one of laptop"):
        usual_config("huge", "", "sonnets")
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        usual_config("laptop", str(tmp_path / "none"), "sonnets")


def test_settings_are_fields_of_a_run_each_once() -> None:
    names = [setting.name for setting in SETTINGS]
    assert len(set(names)) == len(names)
    assert set(names) <= {item.name for item in dataclasses.fields(TrainConfig)}


def test_what_a_checkpoint_or_a_tokenizer_decides_cannot_be_typed(whole: Path) -> None:
    free = dict(zip([setting.name for setting in SETTINGS], SettingsForm.updates(LAPTOP), strict=True))
    assert all(update["interactive"] for update in free.values())
    based = usual_config("tiny", str(whole / "best"), "sonnets")
    fixed = dict(zip([setting.name for setting in SETTINGS], SettingsForm.updates(based), strict=True))
    assert {name for name, update in fixed.items() if not update["interactive"]} == {
        setting.name for setting in SETTINGS if setting.of_shape
    }


def test_context_that_the_short_windows_do_not_divide_begins_with_whole_ones() -> None:
    best = usual_config("best", "", "sonnets")
    typed = [getattr(best, setting.name) for setting in SETTINGS]
    place = [setting.name for setting in SETTINGS].index("sequence_dim")
    for context, short in ((256, 64), (128, 64), (100, 0), (32, 0)):
        config = chosen_config(best, [*typed[:place], context, *typed[place + 1 :]])
        assert (config.sequence_dim, config.short_sequence_dim) == (context, short)
