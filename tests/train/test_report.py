"""What a run's folder tells from outside: under way, ended in any way, and what is kept."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.train.tiny_run import SHORT, at_step, options
from tests.train.tiny_run import train as train_here
from train.control import PAUSE_FILE, ask
from train.report import RunReport, list_runs, read_report
from train.status import RunStatus

if TYPE_CHECKING:
    import subprocess

Launch = Callable[..., "subprocess.Popen[str]"]


def test_finished_run_tells_its_figures_and_samples(whole: Path) -> None:
    report = read_report(whole)
    assert (report.name, report.state, report.message) == ("run", "finished", "")
    assert report.status is not None and report.config is not None
    assert (report.step, report.saved_step, report.config.max_steps) == (24, 24, 24)
    assert not report.is_active and not report.can_resume
    assert [line["step"] for line in report.samples] == [0, 7, 14, 21, 24]
    assert report.status.parameters == 29_254 or report.status.parameters > 20_000
    assert report.status.tokens_per_character == 1.0
    assert len(report.status.ngrams) == 6
    assert report.best_step in (7, 14, 21, 24)
    assert report.seconds > 0


def test_paused_run_can_go_on(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "run"
    at_step(monkeypatch, 9, lambda: ask(out, PAUSE_FILE))
    assert train_here(*options(out, text, **SHORT)) == 130
    report = read_report(out)
    assert (report.state, report.saved_step, report.can_resume, report.best_step) == ("paused", 9, True, 7)
    assert report.message.startswith("Paused at step ") and report.message.endswith(" Resume goes on from step 9.")


def test_run_under_way_is_training_and_killed_it_has_ended(launch: Launch, text: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = launch(*options(out, text, max_steps=100_000, eval_interval=10, save_interval=5))
    ends_at = time.monotonic() + 120
    while (report := read_report(out)).step < 20:
        assert time.monotonic() < ends_at and process.poll() is None
        time.sleep(0.1)
    assert report.state == "training" and report.is_active and report.message == ""
    assert report.status is not None and report.status.pid == process.pid
    process.kill()
    process.communicate()
    report = read_report(out)
    assert report.state == "ended"
    assert "without a word: its process was killed, by somebody or for want of memory." in report.message
    assert f"Its best checkpoint, of step {report.best_step}, is kept." in report.message
    assert f"Resume goes on from step {report.saved_step}." in report.message
    assert report.can_resume


def test_full_disk_is_named(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = _ended(whole, tmp_path, "training")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(100, 100, 0))
    assert "and the disk is full: free some space first." in read_report(out).message


def test_failed_run_says_why_and_what_is_kept(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    settings = {"max_steps": 100, "learning_rate": 1e6, "precision": "float32", "save_interval": 1, "eval_interval": 1}
    assert train_here(*options(out, text, **settings)) == 1
    report = read_report(out)
    assert report.state == "failed"
    assert report.message.startswith("The run failed at step ")
    assert "the run diverged; what was saved before is kept" in report.message
    assert "NaN" not in report.message


def test_folder_that_never_spoke_lost_nothing(tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "metrics.jsonl").write_text("", encoding="utf-8")
    report = read_report(out)
    assert (report.state, report.can_resume, report.step) == ("ended", False, 0)
    assert "Nothing was saved; begin a new run." in report.message


def test_half_written_lines_are_left_out(whole: Path, tmp_path: Path) -> None:
    out = shutil.copytree(whole, tmp_path / "run")
    with (out / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 25, "train_lo')
    assert read_report(out).step == 24


def test_runs_are_listed_by_their_last_deed(tmp_path: Path) -> None:
    for number, name in enumerate(("old", "new", "older", ".hidden", "checkpoint")):
        folder = tmp_path / name
        folder.mkdir()
        if name != "checkpoint":
            (folder / "metrics.jsonl").touch()
            os.utime(folder / "metrics.jsonl", (number, {"old": 2, "new": 3}.get(name, 1)))
    assert list_runs(tmp_path) == ["new", "old", "older"]
    assert list_runs(tmp_path / "none") == []


def _report(lines: list[dict[str, Any]], **status: Any) -> RunReport:
    from train.presets import PRESETS

    return RunReport(
        "run", "training", config=PRESETS["tiny"].config, metrics=tuple(lines),
        status=RunStatus(state="training", tokens_per_step=100, **status),
    )  # fmt: skip


def test_rate_is_that_of_the_last_half_minute() -> None:
    lines = [{"step": step, "tokens": 1, "seconds": step * 1.0} for step in range(0, 50, 10)]
    lines += [{"step": 40 + step, "tokens": 1, "seconds": 40 + step * 2.0} for step in range(10, 60, 10)]
    report = _report(lines)
    assert report.tokens_per_second == pytest.approx(50)
    assert report.seconds_left == pytest.approx((100 - 90) * 2)
    assert _report(lines[:1]).tokens_per_second is None
    assert _report(lines[:1]).seconds_left is None


def test_line_to_beat_is_passed_at_the_first_better_evaluation() -> None:
    lines = [{"step": step, "seconds": 1.0, "val_loss": loss} for step, loss in ((10, 5.0), (20, 3.9), (30, 3.8))]
    report = _report(lines, ngrams=[3.0, 2.0, 1.9, 1.8, 1.6, 1.7], tokens_per_character=0.4)
    passed = report.passed()
    assert passed is not None and passed["step"] == 20
    assert report.passed(1) is not None and report.passed(1)["step"] == 10  # type: ignore[index]
    assert _report(lines).passed() is None


def _ended(whole: Path, tmp_path: Path, state: str) -> Path:
    out = shutil.copytree(whole, tmp_path / "run")
    fields = json.loads((out / "status.json").read_text(encoding="utf-8"))
    (out / "status.json").write_text(json.dumps({**fields, "state": state}), encoding="utf-8")
    return out
