"""Sweeps: rows times seeds, each run as by hand; killed, stopped and resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gpt.atomic import hold
from gpt.errors import TrainingError
from tests.train.sweep_result import TINY, refusal, result
from tests.train.tiny_run import ROOT, assert_same_run, metrics, options
from tests.train.tiny_run import train as train_here
from train.folder import is_training, read_run_config
from train.status import read_status
from train.sweep import process
from train.sweep.__main__ import main
from train.sweep.results import read_results, write_results

SHORT = "eval_windows = 8\nsample_tokens = 0\nmax_steps = 12\n"
ROWS = "[rows.without-rotary]\nrotary = false\n"


@pytest.fixture
def rows(tmp_path: Path, text: Path) -> Callable[..., Path]:
    """Writes a sweep's file on the short text."""

    def write(rows: str = ROWS, base: str = SHORT) -> Path:
        path = tmp_path / "rows.toml"
        path.write_text(f'[base]\npreset = "tiny"\ndata = "{text}"\n{base}\n{rows}', encoding="utf-8")
        return path

    return write


def sweep(file: Path, out: Path, *words: str) -> int:
    """Sweep in this process, the runs being processes of their own."""
    return main(_words(file, out, *words))


def _words(file: Path, out: Path, *words: str) -> list[str]:
    return [str(file), "--out", str(out), "--device", "cpu", "--threads", "1", *words]


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts sweeps as processes."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "train.sweep", *_words(*arguments)]  # type: ignore[arg-type]
        environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True))
        return started[-1]

    yield start
    for sweeping in started:
        if sweeping.poll() is None:
            sweeping.terminate()
            sweeping.communicate(timeout=60)


def wait_for_step(sweeping: subprocess.Popen[str], run: Path, step: int) -> None:
    while sweeping.poll() is None:
        try:
            if any(line["step"] >= step for line in metrics(run)):
                return
        except (OSError, ValueError):  # no line yet, or half of one
            pass
        time.sleep(0.005)
    raise AssertionError(f"it ended before: {sweeping.communicate()}")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seconds", "0"], "seconds is 0.0; give a number above 0"),
        (["--seconds", "nan"], "seconds is nan; give a number above 0"),
        (["--seconds", "9"], "gives base its max_steps, which --seconds chooses; leave one of the two out"),
        (["--seeds", "1", "-2"], "seeds has -2; give numbers from 0 to 2147483647"),
        (["--rows", "base", "with-rotary"], "rows has 'with-rotary'; choose among base, without-rotary"),
        (["--threads", "0"], "threads is 0; give a number at least 1"),
    ],
)
def test_option_that_will_not_do_is_exit_2_in_words(
    rows: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert sweep(rows(), tmp_path / "out", *words) == 2
    assert message in refusal(capsys)


def test_file_that_is_not_there_is_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep(tmp_path / "none.toml", tmp_path / "out") == 2
    assert "none.toml cannot be read (No such file or directory)" in refusal(capsys)
    with pytest.raises(SystemExit):
        main([])


def test_rows_times_seeds_are_run_once_and_give_a_table(
    rows: Callable[..., Path], tmp_path: Path, commands: list[list[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert sweep(rows(), out) == 0
    assert sweep(rows(), out, "--seeds", "1", "2", "--rows", "base") == 0
    table = capfd.readouterr().out
    found = read_results(out / "results.jsonl")
    assert [(line.row, line.seed) for line in found] == [("base", 1), ("without-rotary", 1), ("base", 2)]
    assert len({line.block for line in found}) == 3 and {line.tokens for line in found} == {12 * 8 * 32}
    for line in found:
        run = out / f"{line.row}-seed{line.seed}"
        assert read_run_config(run) == line.config and line.split == "validation" and line.budget_s == 0
        status = read_status(run)
        assert status is not None and status.nats_per_character == {"block": line.block, "sliding": line.sliding}
    count = len(commands)
    assert sweep(rows(), out, "--seeds", "1", "2", "--rows", "base") == 0
    assert len(commands) == count == 3
    assert capfd.readouterr().out == table
    assert main(["--table", str(out / "results.jsonl")]) == 0
    assert capfd.readouterr().out == table


@pytest.mark.parametrize("has_results", [True, False])
def test_changed_row_is_refused(
    rows: Callable[..., Path],
    tmp_path: Path,
    commands: list[list[str]],
    capfd: pytest.CaptureFixture[str],
    has_results: bool,
) -> None:
    out = tmp_path / "out"
    assert sweep(rows(), out, "--rows", "without-rotary") == 0
    if not has_results:  # as if it had been killed in the midst
        (out / "results.jsonl").unlink()
    capfd.readouterr()
    assert sweep(rows(base=SHORT + "dropout = 0.3"), out, "--seeds", "1", "2") == 2
    said = refusal(capfd)
    assert "the row without-rotary has " + ("results in" if has_results else "a run in") in said
    assert "with other settings: dropout was 0.1 and is now 0.3; put that back, give the row another name" in said
    assert len(commands) == 1


def test_failed_run_is_named_and_the_others_go_on(
    rows: Callable[..., Path], tmp_path: Path, commands: list[list[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    out, wild = tmp_path / "out", "[rows.long-context]\nsequence_dim = 5000\n"
    assert sweep(rows(wild + ROWS), out) == 1
    captured = capfd.readouterr()
    last = captured.err.strip().splitlines()[-1]
    assert last.startswith("python -m train.sweep: error: a run failed, and the same command tries again: long-context")
    assert "fewer than sequence_dim = 5000" in last
    assert [line.row for line in read_results(out / "results.jsonl")] == ["base", "without-rotary"]
    assert "| without-rotary |" in captured.out and "long-context" not in captured.out
    assert sweep(rows(wild + ROWS), out) == 1
    assert len(commands) == 4


def test_steps_for_the_seconds_are_measured_once(
    rows: Callable[..., Path], tmp_path: Path, commands: list[list[str]]
) -> None:
    out, file = tmp_path / "out", rows(base="eval_windows = 8\nsample_tokens = 0\n")
    assert sweep(file, out, "--seconds", "0.2") == 0
    assert sweep(file, out, "--seconds", "0.2", "--seeds", "1", "2") == 0
    (out / "sweep.json").unlink()  # the results alone will do
    assert sweep(file, out, "--seconds", "0.2", "--seeds", "3", "--rows", "base") == 0
    assert ["--estimate" in command for command in commands] == [True, False, True, False, False, False, False]
    for row in ("base", "without-rotary"):
        found = [line for line in read_results(out / "results.jsonl") if line.row == row]
        assert len({line.steps for line in found}) == 1 and found[0].steps != TINY.max_steps
        assert {(line.budget_s, line.config.max_steps) for line in found} == {(0.2, found[0].steps)}


@pytest.mark.parametrize("has_plan", [True, False])
def test_other_seconds_or_split_in_the_same_folder_is_refused(
    rows: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], has_plan: bool
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    write_results(out / "results.jsonl", [result("base", 1, 2.5)])
    if has_plan:
        (out / "sweep.json").write_text('{"budget_s": 60, "selects": false, "max_steps": {}}', encoding="utf-8")
    for words in ([], ["--seconds", "30"], ["--seconds", "60", "--select"]):
        assert sweep(rows(base=""), out, *words) == 2
        said = refusal(capsys)
        assert "do not compare" in said and "another --out" in said
        assert not has_plan or "was begun with --seconds 60 and without --select, not with" in said


def test_select_learns_and_scores_the_training_part_alone(
    rows: Callable[..., Path], tmp_path: Path, text: Path, commands: list[list[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert sweep(rows(), out, "--select", "--rows", "base") == 0
    whole = text.read_text(encoding="utf-8")
    part = out / "training-part.txt"
    assert part.read_text(encoding="utf-8") == whole[: int(0.9 * len(whole))]
    (found,) = read_results(out / "results.jsonl")
    assert found.split == "selection" and found.config.data == str(part) and found.config.train_fraction == 0.9
    table = capfd.readouterr().out
    assert "of the last tenth of the training part" in table and "the validation part was not looked at" in table


def test_select_refuses_a_row_whose_teachers_have_learnt_what_is_to_validate(
    rows: Callable[..., Path], tmp_path: Path, whole: Path, commands: list[list[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    file = rows(f'[rows.taught]\nteachers = "{whole}"\n')
    assert sweep(file, tmp_path / "out", "--select") == 2
    assert (
        "the row taught has teachers, which have learnt the last tenth of the training part too"
        in capfd.readouterr().err
    )
    assert not commands


@pytest.mark.timeout(300)
def test_sweep_killed_with_its_run_goes_on_from_the_runs_state(
    rows: Callable[..., Path], tmp_path: Path, text: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    settings = {"max_steps": 300, "save_interval": 5, "eval_interval": 150, "sample_tokens": 0}
    file, out = (
        rows("", "eval_windows = 8\n" + "".join(f"{key} = {value}\n" for key, value in settings.items())),
        tmp_path,
    )
    run = out / "base-seed1"
    first = start(file, out)
    wait_for_step(first, run, 20)
    first.kill()
    first.communicate()
    assert is_training(run)  # nothing is lost: it goes on alone
    status = read_status(run)
    assert status is not None
    os.kill(status.pid, signal.SIGKILL)
    second = start(file, out)
    output, errors = second.communicate(timeout=200)
    assert second.returncode == 0, errors
    assert "| base |" in output and "1 of 1: base, seed 1: block" in errors
    assert train_here(*options(tmp_path / "whole", text, **settings)) == 0
    assert_same_run(run, tmp_path / "whole")


@pytest.mark.timeout(300)
def test_run_that_a_killed_sweep_left_is_waited_for(
    rows: Callable[..., Path],
    tmp_path: Path,
    start: Callable[..., subprocess.Popen[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    first = start(rows(base="max_steps = 300\nsample_tokens = 0\n"), out, "--rows", "base")
    wait_for_step(first, out / "base-seed1", 1)
    first.kill()
    first.communicate()
    monkeypatch.setattr("train.sweep.sweep.train", None)  # none is begun
    assert sweep(rows(base="max_steps = 300\nsample_tokens = 0\n"), out, "--rows", "base") == 0
    assert [line.steps for line in read_results(out / "results.jsonl")] == [300]


def test_second_sweep_in_the_folder_is_refused(
    rows: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with hold(tmp_path):
        assert sweep(rows(), tmp_path) == 1
    assert "another sweep works in" in refusal(capsys)


@pytest.mark.timeout(300)
def test_ctrl_c_saves_the_run_and_the_same_command_goes_on(
    rows: Callable[..., Path],
    tmp_path: Path,
    start: Callable[..., subprocess.Popen[str]],
    capfd: pytest.CaptureFixture[str],
) -> None:
    file, out = rows("", "max_steps = 2000\nsave_interval = 2000\nsample_tokens = 0\neval_interval = 2000\n"), tmp_path
    run = out / "base-seed1"
    first = start(file, out)
    wait_for_step(first, run, 1)
    first.send_signal(signal.SIGINT)
    output, errors = first.communicate(timeout=100)
    assert first.returncode == 130 and output == "" and errors.endswith("stopped; the same command goes on\n")
    status, state = read_status(run), json.loads((run / "state" / "state.json").read_text(encoding="utf-8"))
    assert status is not None and status.state == "paused" and 0 < state["step"] < 2000
    assert sweep(file, out) == 0
    assert "1 of 1: base, seed 1: block" in capfd.readouterr().err
    assert [line.steps for line in read_results(out / "results.jsonl")] == [2000]


def test_process_that_fails_is_heard(tmp_path: Path) -> None:
    words = ["--preset", "tiny", "--out", str(tmp_path / "run")]
    with pytest.raises(TrainingError, match=r"^the corpus none\.txt is not there; give the path of a UTF-8 text file"):
        process.train([*words, "--data", "none.txt"], is_stopping=lambda: False, on_tick=lambda: None)
    with pytest.raises(TrainingError, match="invalid int value: 'many'"):
        process.train([*words, "--max-steps", "many"], is_stopping=lambda: False, on_tick=lambda: None)
