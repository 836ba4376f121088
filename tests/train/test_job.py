"""Jobs: runs as processes that belong to nobody, watched and steered from outside."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gpt.errors import ConfigError, TrainingError
from tests.train.tiny_run import ROOT, write_text
from train.control import is_yielding
from train.job import Jobs, main, yield_while
from train.report import RunReport

LONG = ["--preset", "tiny", "--max-steps", "100000", "--eval-interval", "10", "--eval-windows", "4", "--threads", "1"]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return write_text(tmp_path)


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    """The jobs of an empty folder; none is left running."""
    made = Jobs(tmp_path / "runs", "cpu", os.environ)
    yield made
    for started in made._started.values():
        with contextlib.suppress(ProcessLookupError):
            started.process.kill()
        started.process.wait()
        started.log.close()


def wait(jobs: Jobs, name: str, until: Callable[[RunReport], bool], seconds: float = 50) -> RunReport:
    ends_at = time.monotonic() + seconds
    while not until(report := jobs.report(name)):
        assert time.monotonic() < ends_at, report
        time.sleep(0.05)
    return report


def test_run_is_started_paused_resumed_and_finished(jobs: Jobs, text: Path) -> None:
    jobs.start("first", [*LONG, "--data", str(text)])
    assert jobs.report("first").state == "starting"
    assert jobs.names() == ["first"] and jobs.active() == ["first"]
    wait(jobs, "first", lambda report: report.step > 10)
    jobs.pause("first")
    paused = wait(jobs, "first", lambda report: report.state == "paused")
    assert paused.can_resume and paused.saved_step is not None and not paused.is_active
    jobs.resume("first")
    assert jobs.report("first").is_active
    wait(jobs, "first", lambda report: report.state == "training" and report.step > paused.step + 10)
    jobs.finish("first")
    done = wait(jobs, "first", lambda report: report.state == "finished")
    assert done.status is not None and "sliding" in done.status.nats_per_character
    assert (jobs.root / "first" / "best" / "README.md").is_file()


def test_second_run_on_the_device_is_refused_until_the_first_ends(jobs: Jobs, text: Path) -> None:
    jobs.start("first", [*LONG, "--data", str(text)])
    with pytest.raises(TrainingError, match="the run first is under way on cpu, and one at a time is enough"):
        jobs.start("second", [*LONG, "--data", str(text)])
    wait(jobs, "first", lambda report: report.state == "training")
    other = Jobs(jobs.root, "cpu", os.environ)  # another page over the same folder
    with pytest.raises(TrainingError, match="the run first is under way"):
        other.start("second", [*LONG, "--data", str(text)])
    assert other.report("first").state == "training"
    other.finish("first")
    wait(other, "first", lambda report: report.state == "finished")
    assert not (jobs.root / "second").exists()


def test_run_outlives_whoever_started_it(tmp_path: Path, text: Path) -> None:
    root = tmp_path / "runs"
    code = (
        "import os, pathlib, sys, time; from train.job import Jobs;"
        f"Jobs(pathlib.Path({str(root)!r}), 'cpu', os.environ).start('run', {[*LONG, '--data', str(text)]!r});"
        "print('started', flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None and parent.stdout.readline() == "started\n"
    parent.kill()
    parent.wait()
    parent.stdout.close()
    found = Jobs(root, "cpu", os.environ)
    try:
        report = wait(found, "run", lambda report: report.step > 0)
        assert report.state == "training"
        assert found.names() == ["run"]
        found.finish("run")
        wait(found, "run", lambda report: report.state == "finished")
    finally:
        status = found.report("run").status
        if found.report("run").is_active and status is not None:
            os.kill(status.pid, signal.SIGKILL)


def test_killed_run_is_told_from_one_that_goes_on(jobs: Jobs, text: Path) -> None:
    jobs.start("run", [*LONG, "--data", str(text)])
    status = wait(jobs, "run", lambda report: report.step > 15).status
    assert status is not None
    os.kill(status.pid, signal.SIGKILL)
    ended = wait(jobs, "run", lambda report: not report.is_active)
    assert ended.state == "ended" and ended.can_resume
    jobs.resume("run")
    wait(jobs, "run", lambda report: report.state == "training" and report.step > ended.step)
    jobs.finish("run")
    wait(jobs, "run", lambda report: report.state == "finished")


def test_run_that_cannot_begin_says_why(jobs: Jobs, tmp_path: Path) -> None:
    jobs.start("run", ["--preset", "tiny", "--data", str(tmp_path / "none.txt")])
    failed = wait(jobs, "run", lambda report: not report.is_active)
    assert failed.state == "failed"
    assert failed.message.startswith("The run could not begin: the corpus ")
    assert "is not there" in failed.message
    assert jobs.names() == ["run"] and not (jobs.root / "run").exists()


def test_run_that_was_deleted_is_forgotten(jobs: Jobs, text: Path) -> None:
    jobs.start("run", [*LONG, "--data", str(text)])
    wait(jobs, "run", lambda report: report.step > 0)
    assert jobs.names() == ["run"]
    jobs.pause("run")
    wait(jobs, "run", lambda report: report.state == "paused")
    shutil.rmtree(jobs.root / "run")
    assert jobs.names() == [] and jobs.free_name("run") == "run"


def test_run_that_cannot_go_on_keeps_what_it_was(jobs: Jobs, text: Path) -> None:
    jobs.start("run", [*LONG, "--data", str(text)])
    wait(jobs, "run", lambda report: report.step > 0)
    jobs.pause("run")
    wait(jobs, "run", lambda report: report.state == "paused")
    text.write_text("Another text stands here now. " * 40, encoding="utf-8")
    jobs.resume("run")
    stayed = wait(jobs, "run", lambda report: not report.is_active)
    assert stayed.state == "paused" and stayed.can_resume
    assert stayed.message.startswith("The run could not go on: the corpus ")


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "..", "x" * 65, "tab\there", "end ", "dot."])
def test_name_that_is_none_is_refused(jobs: Jobs, name: str) -> None:
    with pytest.raises(ConfigError, match="the run's name is"):
        jobs.start(name, LONG)
    assert not jobs.root.exists()


def test_name_that_is_taken_is_refused_and_a_free_one_found(jobs: Jobs) -> None:
    (jobs.root / "run").mkdir(parents=True)
    with pytest.raises(TrainingError, match="there is already a folder run; choose another name"):
        jobs.start("run", LONG)
    assert jobs.free_name("run") == "run-2"
    (jobs.root / "run-2").mkdir()
    assert jobs.free_name("run") == jobs.free_name("run-2") == "run-3"
    assert jobs.free_name("other") == "other"


@pytest.mark.parametrize("act", ["pause", "finish"])
def test_run_that_is_not_under_way_cannot_be_asked(jobs: Jobs, act: str) -> None:
    with pytest.raises(TrainingError, match="the run none is not under way"):
        getattr(jobs, act)("none")
    with pytest.raises(TrainingError, match="the run none cannot go on"):
        jobs.resume("none")


def test_runs_make_room_while_somebody_is_busy(jobs: Jobs, text: Path) -> None:
    jobs.start("run", [*LONG, "--data", str(text)])
    wait(jobs, "run", lambda report: report.state == "training")
    busy, closing = threading.Event(), threading.Event()
    thread = threading.Thread(target=yield_while, args=(busy.is_set, jobs, closing))
    thread.start()
    try:
        time.sleep(0.3)
        assert not is_yielding(jobs.root / "run")
        busy.set()
        wait(jobs, "run", lambda report: is_yielding(jobs.root / "run"))
    finally:
        closing.set()
        thread.join()


def test_command_does_what_the_page_does(tmp_path: Path, text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = ["--root", str(tmp_path / "runs")]
    jobs = Jobs(tmp_path / "runs", "cpu", os.environ)
    assert main([*root, "start", "run", "--", *LONG, "--data", str(text)]) == 0
    wait(jobs, "run", lambda report: report.step > 0)
    assert main([*root, "list"]) == 0
    assert capsys.readouterr().out.startswith("run: training, step ")
    assert main([*root, "pause", "run"]) == 0
    wait(jobs, "run", lambda report: report.state == "paused")
    assert main([*root, "resume", "run"]) == 0
    wait(jobs, "run", lambda report: report.state == "training")
    assert main([*root, "finish", "run"]) == 0
    wait(jobs, "run", lambda report: report.state == "finished")
    assert main([*root, "show", "run"]) == 0
    assert "finished" in capsys.readouterr().out
    assert main([*root, "pause", "run"]) == 1
    assert "the run run is not under way" in capsys.readouterr().err
    assert main([*root, "show", "other"]) == 2
    assert "there is no run other" in capsys.readouterr().err
