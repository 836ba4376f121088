"""The rows of a sweep: what the shipped file gives, and what no file can."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.train.sweep_result import refusal
from tests.train.tiny_run import ROOT
from train.__main__ import build_parser, overrides
from train.command import command_options
from train.presets import PRESETS
from train.sweep.__main__ import main
from train.sweep.rows import read_rows


@pytest.mark.parametrize(("file", "least"), [("ingredients.toml", 21), ("taught.toml", 2)])
def test_shipped_rows_are_commands_that_give_their_settings(file: str, least: int) -> None:
    rows = read_rows(ROOT / "train" / file)
    assert rows[0].name == "base" and len(rows) >= least
    for row in rows:
        arguments = build_parser().parse_args(command_options(row.config))
        assert dataclasses.replace(PRESETS[arguments.preset].config, **overrides(arguments)) == row.config, row.name
        assert dataclasses.replace(rows[0].config, **row.options) == row.config


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("rows = ", "is not TOML"),
        ("", "gives no base; begin it with [base] and preset ="),
        ('[base]\npreset = "huge"', "gives no base; begin it with [base] and preset ="),
        ('[base]\npreset = "tiny"\n[row.x]\nbias = true', "has the unknown 'row'; a sweep has a table [base]"),
        ('rows = 3\n[base]\npreset = "tiny"', "rows are tables: write [rows.NAME]"),
        ('[base]\npreset = "tiny"\nrotory = true', "base has the unknown setting 'rotory'; python -m train --help"),
        ('[base]\npreset = "tiny"\nseed = 3', "base gives seed, which it cannot: --seeds gives it"),
        ('[base]\npreset = "gpt2-shakespeare"', "which goes on from a checkpoint: the runs of a sweep begin with"),
        ('[base]\npreset = "tiny"\ndata = "hf:a/b"', "has data = 'hf:a/b'; a sweep learns"),
        ('[base]\npreset = "tiny"\n[rows.x]\ndata = "y"', "row x gives data, which it cannot: figures of different"),
        ('[base]\npreset = "tiny"\n[rows.x]\ndropout = 2', "row x: dropout is 2.0; give a number from 0 to 0.95"),
        ('[base]\npreset = "tiny"\n[rows.x]\ndropout = "0"', "row x: dropout is '0'; give a value of type float"),
        ('[base]\npreset = "tiny"\n[rows."a/b"]\nbias = false', "has a row 'a/b'; give it another name"),
        ('[base]\npreset = "tiny"\n[rows.base]\nbias = false', "has a row 'base'; give it another name"),
        ('[base]\npreset = "tiny"\n[rows.x]\nrotary = true', "row x has the settings of base; change something"),
    ],
)
def test_file_that_will_not_do_is_exit_2_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, message: str
) -> None:
    path = tmp_path / "rows.toml"
    path.write_text(file, encoding="utf-8")
    assert main([str(path), "--out", str(tmp_path / "out")]) == 2
    assert message in refusal(capsys)
    assert not (tmp_path / "out").exists()
