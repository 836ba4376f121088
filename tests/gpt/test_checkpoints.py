"""python -m gpt.checkpoints as a shell sees it."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from gpt import checkpoints
from gpt.atomic import hold
from gpt.checkpoint import list_checkpoints
from tests.fake_page import save_random_checkpoint


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, nats in (("laptop", 1.447), ("run/best", None)):
        save_random_checkpoint(tmp_path / "checkpoints" / name, nats=nats, steps=7)
    (tmp_path / "checkpoints" / "laptop" / "README.md").write_text("# A card\n")
    (tmp_path / "checkpoints" / "broken").mkdir()
    (tmp_path / "checkpoints" / "broken" / "model.safetensors").write_text("cut off")
    return tmp_path / "checkpoints"


def run(root: Path, *arguments: str) -> int:
    return checkpoints.main(["--root", str(root), *arguments])


def names(root: Path) -> list[str]:
    return [info.name for info in list_checkpoints(root)]


def test_list_is_a_line_each_and_what_is_damaged_goes_to_standard_error(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(root, "list") == 0
    output = capsys.readouterr()
    lines = [line.split("\t") for line in output.out.splitlines()]
    assert [line[0] for line in lines] == ["laptop", "run"]
    assert lines[0][2] == "1.447" and lines[0][4] == "shakespeare" and lines[1][2] == ""
    assert "left out: the checkpoint" in output.err and "broken" in output.err


def test_show_prints_facts_and_card(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(root, "show", "laptop") == 0
    text = capsys.readouterr().out
    assert "1.4470 nats per character" in text and "64 tokens" in text and text.endswith("\n# A card\n")
    assert run(root, "show", "run") == 0
    assert "best" in capsys.readouterr().out


def test_rename_pack_delete_and_unpack(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "out" / "run.zip"
    file.parent.mkdir()
    assert run(root, "rename", "run", "mine") == 0
    assert run(root, "pack", "mine", str(file)) == 0
    assert run(root, "delete", "mine", "--yes") == 0
    assert names(root) == ["laptop"]
    assert run(root, "unpack", str(file)) == 0
    assert run(root, "unpack", str(file), "--name", "second") == 0
    assert names(root) == ["laptop", "mine", "second"]
    assert capsys.readouterr().out == "mine\nsecond\n"
    assert [path.name for path in file.parent.iterdir()] == ["run.zip"]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["show", "none"], 1, "there is no checkpoint 'none'"),
        (["rename", "run", "laptop"], 1, "'laptop' is taken"),
        (["rename", "run", "../x"], 2, "cannot be a checkpoint's"),
        (["delete", "run"], 1, "--yes"),
        (["pack", "run", "{there}"], 1, "is there already"),
        (["pack", "run", "{root}/none/x.zip"], 1, "cannot be written (No such file"),
        (["unpack", "{root}/none.zip"], 1, "cannot be read (No such file"),
        (["unpack", "{there}"], 1, "is no zip file"),
        (["unpack", "{there}", "--name", "best"], 2, "means something else"),
    ],
)
def test_failure_is_one_sentence(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, words: str
) -> None:
    there = tmp_path / "there.zip"
    there.write_text("mine")
    assert run(root, *(argument.format(root=root, there=there) for argument in arguments)) == status
    output = capsys.readouterr()
    assert output.out == "" and words in output.err and output.err.count("\n") == 1
    assert output.err.startswith("python -m gpt.checkpoints: error: ")
    assert names(root) == ["laptop", "run"] and there.read_text() == "mine"


@pytest.mark.parametrize("arguments", [[], ["none"], ["rename", "one"], ["list", "--unknown"]])
def test_wrong_arguments_end_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        checkpoints.main(arguments)
    assert end.value.code == 2


def test_a_run_under_way_is_not_deleted(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with hold(root / "run"):
        assert run(root, "delete", "run", "--yes") == 1
    assert "stop the run first" in capsys.readouterr().err
    assert names(root) == ["laptop", "run"]


@pytest.mark.parametrize(("answer", "status", "left"), [("y\n", 0, ["laptop"]), ("\n", 1, ["laptop", "run"])])
def test_delete_asks_at_a_terminal(root: Path, answer: str, status: int, left: list[str]) -> None:
    terminal, other_end = pty.openpty()
    os.write(terminal, answer.encode())
    command = [sys.executable, "-m", "gpt.checkpoints", "--root", str(root), "delete", "run"]
    try:
        result = subprocess.run(command, stdin=other_end, capture_output=True, text=True, timeout=50)
    finally:
        os.close(terminal)
        os.close(other_end)
    assert result.returncode == status, result.stderr
    assert result.stderr.startswith("Delete 'run' and its whole run, which cannot go on then?") and result.stdout == ""
    assert names(root) == left


def test_shipped_ones_are_those_of_the_repositorys_folder(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(checkpoints, "CHECKPOINTS", root.resolve())
    assert run(root, "delete", "laptop", "--yes") == 1
    assert "belongs to the repository" in capsys.readouterr().err
    monkeypatch.undo()
    assert run(root, "delete", "laptop", "--yes") == 0


def test_a_card_that_the_terminal_cannot_write_is_no_traceback(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "laptop" / "README.md").write_text("\N{SNOWMAN}\n", encoding="utf-8")
    output = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", output)
    assert run(root, "show", "laptop") == 0


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, gpt.checkpoints\n"
        "try: gpt.checkpoints.main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert not {'torch', 'safetensors'} & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert result.returncode == 0, result.stderr
    for command in ("list", "show", "rename", "delete", "pack", "unpack"):
        assert command in result.stdout
