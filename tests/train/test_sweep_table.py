"""Tables of sweeps: made from any file of results, and refused where that will not do."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from tests.train.sweep_result import TINY, refusal, result
from tests.train.tiny_run import ROOT
from train.sweep.__main__ import main
from train.sweep.results import read_results, write_results
from train.sweep.table import markdown_table


def test_table_of_the_readme_is_that_of_its_results() -> None:
    table = markdown_table(read_results(ROOT / "docs" / "ingredients.jsonl"))
    assert table in (ROOT / "train" / "README.md").read_text(encoding="utf-8"), f"write into train/README.md:\n{table}"


def test_table_has_means_spreads_differences_and_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "results.jsonl"
    found = [result("without-rotary", 1, 2.56), result("base", 1, 2.5), result("base", 2, 2.504)]
    write_results(path, [*found, result("without-rotary", 2, 2.6)])
    assert main(["--table", str(path)]) == 0
    caption, blank, *table = capsys.readouterr().out.splitlines()
    assert caption == (
        "Nats per character of the validation part of sonnets. Each row has as many steps as take about 60 seconds. "
        "Means over --seed 1 and 2, least and greatest in brackets; the difference is of sliding, under 0.01 a tie. "
        "1 thread of a processor, torch 2.13.0+cpu, 2026-11-01 to 2026-11-02."
    )
    assert blank == ""
    assert table == [
        "| row | parameters | tokens | seconds | block | sliding | difference | command |",
        "|---|---|---|---|---|---|---|---|",
        "| base | 29,830 | 25,600 | 60.0 | 2.522 (2.520 to 2.524) | 2.502 (2.500 to 2.504) |  | "
        "`python -m train --preset tiny` |",
        "| without-rotary | 29,830 | 25,600 | 60.0 | 2.600 (2.580 to 2.620) | 2.580 (2.560 to 2.600) | +0.078 | "
        "`python -m train --preset tiny --no-rotary` |",
    ]
    write_results(path, [*found, result("base", 3, 2.508)])
    assert main(["--table", str(path)]) == 0
    output = capsys.readouterr().out
    assert "Means over --seed 1 and 2 and 3, ± their standard deviation;" in output
    assert "| 2.504 ± 0.004 |" in output and "| 2.580 | 2.560 | +0.056 |" in output  # without-rotary has one seed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": "selection"}, "do not compare: split is validation in some, and selection in others"),
        ({"budget_s": 30}, "do not compare: budget_s is 60 in some, and 30 in others; keep a file for each"),
        ({"corpus_sha256": "1"}, "do not compare: corpus_sha256 is"),
        ({"config": dataclasses.replace(TINY, dropout=0.5)}, "do not compare: the row base has several settings"),
    ],
)
def test_results_that_do_not_compare_are_no_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, object], message: str
) -> None:
    path = tmp_path / "results.jsonl"
    write_results(path, [result("base", 1, 2.5), result("base", 2, 2.5, **changes)])
    assert main(["--table", str(path)]) == 1
    assert message in refusal(capsys)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "it is not JSON"),
        ("[]", "it is no result; missing or unknown: everything"),
        ('{"row": "base"}', "it is no result; missing or unknown: block, budget_s"),
        ({"seed": "1"}, "seed is '1'; it must be of type int"),
        ({"sliding": True}, "sliding is True; it must be of type float"),
        ({"split": "test"}, "split is 'test'; it must be one of validation, selection"),
        ({"config": {"preset": "huge"}}, "preset is 'huge'; it must be one of laptop"),
        ({"config": {"dropout": 7}}, "dropout is 7.0; give a number from 0 to 0.95"),
    ],
)
def test_line_that_is_no_result_is_refused_with_its_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str | dict[str, object], message: str
) -> None:
    path, good = tmp_path / "results.jsonl", result("base", 1, 2.5).to_json()
    wrong = line if isinstance(line, str) else json.dumps({**json.loads(good), **line})
    path.write_text(f"{good}\n{wrong}\n", encoding="utf-8")
    assert main(["--table", str(path)]) == 1
    said = refusal(capsys)
    assert f"line 2 of {path} will not do: " in said and message in said
    assert main(["--table", str(tmp_path / "none.jsonl")]) == 1
    assert "there are no results in" in refusal(capsys)
