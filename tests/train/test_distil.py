"""python -m train.distil: teachers of several seeds, then a student, as one command that goes on where it ended."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from train.distil import main
from train.folder import read_run_config
from train.sweep.results import read_results, write_results

SETTINGS = ("--eval-windows", "8", "--sample-tokens", "0", "--max-steps", "12")
MACHINE = ("--device", "cpu", "--threads", "1")


def distil(out: Path, text: Path, *words: str) -> int:
    return main(["--preset", "tiny", "--count", "2", "--out", str(out), "--data", str(text), *MACHINE, *words])


def test_teachers_and_then_a_student_that_learns_from_them(
    commands: list[list[str]], text: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "distil"
    assert distil(out, text, *SETTINGS, "--seed", "5", "--teacher-weight", "0.7") == 0
    shown = capfd.readouterr()
    names = ("teacher-seed5", "teacher-seed6", "student-seed7")
    configs = [read_run_config(out / name) for name in names]
    assert [config.seed for config in configs] == [5, 6, 7]
    assert [config.max_steps for config in configs] == [12, 12, 12]
    folders = ",".join(str(out / name / "best") for name in names[:2])
    assert [config.teachers for config in configs] == ["", "", folders]
    assert configs[2].teacher_weight == 0.7
    results = read_results(out / "results.jsonl")
    assert [(result.row, result.seed) for result in results] == [("teacher", 5), ("teacher", 6), ("student", 7)]
    lines = shown.out.splitlines()
    for line, result in zip(lines, results, strict=False):
        assert line == f"{result.row}, seed {result.seed}: block {result.block:.4f}, sliding {result.sliding:.4f}"
    less = results[2].sliding - (results[0].sliding + results[1].sliding) / 2
    assert str(out / "student-seed7" / "best") in lines[3] and f"{less:+.4f} (sliding)" in lines[3]
    assert len(commands) == 3
    assert distil(out, text, *SETTINGS, "--seed", "5", "--teacher-weight", "0.7") == 0
    assert len(commands) == 3, "what is finished is not run again"


def test_a_failure_is_told_and_the_same_command_goes_on(
    commands: list[list[str]],
    text: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "distil"
    with monkeypatch.context() as patch:
        patch.setattr("train.run.load_checkpoint", lambda *arguments: (_ for _ in ()).throw(OSError(28, "full")))
        assert distil(out, text, *SETTINGS) == 1
    message = capfd.readouterr().err.strip().splitlines()[-1]
    assert message.startswith(
        "python -m train.distil: error: the same command tries again what failed: teacher, seed 1"
    )
    assert not (out / "student-seed3").exists()
    assert distil(out, text, *SETTINGS) == 0
    assert (out / "student-seed3" / "best" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--preset", "huge"], "preset is 'huge'; choose one of laptop, best"),
        (["--count", "0"], "count is 0; give a number of teachers, at least 1"),
        (["--seed", "-1"], "seed is -1; give a number from 0 to"),
        (["--seed", "2147483646"], "seed is 2147483646; give a number up to 2147483645"),
        (["--threads", "0"], "threads is 0; give a number at least 1"),
        (["--teachers", "checkpoints/laptop"], "teachers cannot be chosen for a distillation: they are trained here"),
        (["--init", "checkpoints/laptop"], "init cannot be chosen for a distillation"),
        (["--preset", "gpt2-shakespeare"], "init cannot be chosen for a distillation"),
        (["--data", "hf:owner/name"], "data is 'hf:owner/name'; a distillation learns shakespeare, sonnets or a text"),
        (["--dropout", "2"], "dropout is 2.0; give a number from 0 to 0.95"),
        (["--teacher-weight", "2"], "teacher_weight is 2.0; give a number from 0 to 1"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_trained(
    commands: list[list[str]],
    text: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    assert distil(tmp_path / "distil", text, *words) == 2
    assert f"python -m train.distil: error: {message}" in capfd.readouterr().err
    assert not commands


def test_another_number_of_teachers_is_told_before_they_are_trained(
    commands: list[list[str]], text: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "distil"
    assert distil(out, text, *SETTINGS) == 0
    said = capfd.readouterr().out
    commands.clear()
    assert distil(out, text, *SETTINGS, "--count", "3") == 2, "the student of seed 4 would be another row's"
    assert "has a distillation of other settings; give the --count, --seed and settings" in capfd.readouterr().err
    assert not commands
    # a line that was lost comes again at the end of the results
    results = read_results(out / "results.jsonl")
    write_results(out / "results.jsonl", [*results[1:], results[0]])
    assert distil(out, text, *SETTINGS) == 0
    assert capfd.readouterr().out == said


def test_ctrl_c_says_that_the_same_command_goes_on(
    text: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(options: Sequence[str], *, is_stopping: Callable[[], bool], on_tick: Callable[[], None]) -> str:
        assert not is_stopping()
        os.kill(os.getpid(), signal.SIGINT)
        assert is_stopping()
        raise KeyboardInterrupt

    monkeypatch.setattr("train.sweep.sweep.train", train)
    assert distil(tmp_path / "distil", text, *SETTINGS) == 130
    assert capfd.readouterr().err.endswith("\nstopped; the same command goes on\n")


def test_a_comma_in_the_folder_is_refused(text: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert distil(tmp_path / "one, two", text) == 2
    assert "can have no comma; give another" in capfd.readouterr().err
    assert not (tmp_path / "one, two").exists()


def test_an_option_that_nobody_knows_ends_the_command(text: Path, tmp_path: Path) -> None:
    for words in (["--dropuot", "0.1"], ["--estimate"], ["--resume"], ["--thr", "1"]):
        with pytest.raises(SystemExit, match="2"):
            distil(tmp_path / "distil", text, *words)
