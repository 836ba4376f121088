"""SweepRow: a run's settings under a name; the rows of a sweep, read from a TOML file."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt.errors import ConfigError
from train.config import TrainConfig
from train.hub_name import is_hub_name
from train.presets import PRESETS

BASE = "base"
# A row's runs lie in folders of its name.
NAME = re.compile(r"\w[\w.-]{0,47}")
SETTINGS = frozenset(item.name for item in dataclasses.fields(TrainConfig))
# What a file cannot give, and why.
NEVER = {"seed": "--seeds gives it", "init": "the runs of a sweep begin with random weights"}
# What belongs to all rows or to none.
BASE_ONLY = {
    "preset": "every row is the base with some changes",
    "data": "figures of different texts do not compare",
    "train_fraction": "figures of different validation parts do not compare",
}


@dataclass(frozen=True)
class SweepRow:
    """A row of a sweep.

    Attributes:
        name: its runs' folders are called after it.
        options: the settings in which it differs from the base, as the file gives them.
        config: all of its settings; the seed is not yet that of a run.
    """

    name: str
    options: dict[str, Any]
    config: TrainConfig


def read_rows(path: Path) -> list[SweepRow]:
    """The rows of a sweep's file, the base first.

    The file has a table `base`, with a preset and the settings that all rows have in place of the preset's, and for
    each row a table `rows.NAME` with the settings in which it differs. Settings are named as the options of
    `python -m train`, with underscores.

    Raises:
        ConfigError: the file cannot be read, or a name or a setting in it will not do.
    """
    tables = _read(path)
    if unknown := sorted(set(tables) - {"base", "rows"}):
        raise ConfigError(
            f"{path} has the unknown {unknown[0]!r}; a sweep has a table [base], and [rows.NAME] for each"
        )
    base, others = tables.get("base"), tables.get("rows", {})
    if not isinstance(base, dict) or base.get("preset") not in PRESETS:
        raise ConfigError(f'{path} gives no base; begin it with [base] and preset = "{"|".join(PRESETS)}"')
    if not isinstance(others, dict) or not all(isinstance(options, dict) for options in others.values()):
        raise ConfigError(f"{path}: rows are tables: write [rows.NAME], and below it the settings of the row")
    where = f"{path}, {BASE}"
    _check_names(where, base, NEVER)
    rows = [SweepRow(BASE, {}, _config(where, PRESETS[base["preset"]].config, base))]
    for name, options in others.items():
        where = f"{path}, row {name}"
        if not NAME.fullmatch(name) or name == BASE:
            raise ConfigError(
                f"{path} has a row {name!r}; give it another name, of 1 to 48 letters, digits, dots, dashes or "
                f"underscores, beginning with no dot or dash; {BASE!r} is the base"
            )
        _check_names(where, options, NEVER | BASE_ONLY)
        config = _config(where, rows[0].config, options)
        if (same := next((row.name for row in rows if row.config == config), None)) is not None:
            raise ConfigError(f"{where} has the settings of {same}; change something, or leave the row out")
        rows.append(SweepRow(name, options, config))
    return rows


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"the sweep's file {path} cannot be read ({error.strerror or error})") from error
    except ValueError as error:  # no UTF-8, or no TOML
        raise ConfigError(f"the sweep's file {path} is not TOML ({error})") from error


def _check_names(where: str, options: dict[str, Any], refused: dict[str, str]) -> None:
    for name in options:
        if name in refused:
            raise ConfigError(f"{where} gives {name}, which it cannot: {refused[name]}")
        if name not in SETTINGS:
            raise ConfigError(f"{where} has the unknown setting {name!r}; python -m train --help lists them all")


def _config(where: str, base: TrainConfig, options: dict[str, Any]) -> TrainConfig:
    try:
        config = base.with_changes(**options)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    if config.init:
        raise ConfigError(f"{where} has the preset {config.preset}, which goes on from a checkpoint: {NEVER['init']}")
    if is_hub_name(config.data):
        raise ConfigError(f"{where} has data = {config.data!r}; a sweep learns shakespeare, sonnets or a text file")
    return config
