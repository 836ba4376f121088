"""Runs that are killed with SIGKILL: at any moment, and yet the same in the end, bit for bit."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.train.tiny_run import SHORT, assert_same_run, finish, metrics, options, resume_options, train
from train.folder import RunFolder, read_run_config
from train.state import has_state, read_state

Moment = Callable[[Path], bool]
Launch = Callable[..., "subprocess.Popen[str]"]


def after(delay_s: float) -> Moment:
    """So long after it is first asked."""
    asked: list[float] = []

    def reached(out: Path) -> bool:
        asked.append(time.monotonic())
        return asked[-1] - asked[0] >= delay_s

    return reached


def seen(pattern: str) -> Moment:
    """As soon as something of this name is in the folder; partial ones are there while they are written."""
    return lambda out: any(out.glob(pattern))


def logged(words: str) -> Moment:
    return lambda out: (out / "train.log").is_file() and words in (out / "train.log").read_text(encoding="utf-8")


def made(step: int) -> Moment:
    """When this step, or a later one, is in the metrics."""

    def reached(out: Path) -> bool:
        try:
            return step == 0 or any(line["step"] >= step for line in metrics(out))
        except (OSError, ValueError):  # no line yet, or half of one
            return False

    return reached


def written(pattern: str, first: int, last: int) -> Moment:
    """While this is written, between two steps; at the last of them if a look came too late each time."""
    begun, there, over = made(first), seen(pattern), made(last)
    return lambda out: (begun(out) and there(out)) or over(out)


def kill_when(process: subprocess.Popen[str], out: Path, moment: Moment, delay_s: float = 0) -> bool:
    """Kill the process at the moment; false if it ended before."""
    while process.poll() is None:
        if moment(out):
            time.sleep(delay_s)
            process.kill()
            break
        time.sleep(0.0005)
    process.communicate()
    return process.returncode == -signal.SIGKILL


def steps_saved(out: Path) -> int:
    """The step of the last complete state; 0 if there is none."""
    return read_state(out).step if has_state(out) else 0


@pytest.mark.timeout(300)
def test_run_killed_twice_is_the_uninterrupted_one(whole: Path, text: Path, tmp_path: Path, launch: Launch) -> None:
    out = tmp_path / "run"
    assert kill_when(launch(*options(out, text, **SHORT)), out, made(1)), "it ended too soon"
    assert steps_saved(out) == 0
    assert kill_when(launch(*resume_options(out)), out, written(".state.partial", 9, 20))
    code, said = finish(launch(*resume_options(out)))
    assert code == 0, said
    assert_same_run(out, whole)


def test_run_killed_before_its_first_state_begins_anew_and_says_so(
    whole: Path, text: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """With all that such a kill can leave."""
    out = tmp_path / "run"
    RunFolder(out, read_run_config(whole), 0).close()
    (out / ".state.partial").mkdir()
    (out / ".state.partial" / "model.safetensors").write_text("half of it")
    (out / ".config.json.partial").write_text("{")
    assert train(*resume_options(out, threads=1)) == 0
    assert "no state was saved yet; the run begins anew" in capfd.readouterr().err
    assert_same_run(out, whole)
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_run_killed_at_ten_random_moments_is_the_uninterrupted_one(text: Path, tmp_path: Path, launch: Launch) -> None:
    settings = {**SHORT, "max_steps": 60, "sample_tokens": 10}
    whole, out = tmp_path / "whole", tmp_path / "run"
    assert finish(launch(*options(whole, text, **settings)))[0] == 0
    chance = random.Random(20)
    moments: list[tuple[str, Moment, float]] = [
        ("start-up", after(chance.uniform(0.1, 1.0)), 0),
        ("the folder's first file", seen("config.json"), 0),
        ("the first state", written(".state.partial", 0, 1), chance.uniform(0, 0.005)),
        ("the first step", made(1), chance.uniform(0, 0.05)),
        ("a step", made(chance.randint(2, 12)), chance.uniform(0, 0.05)),
        ("a step", made(chance.randint(13, 24)), chance.uniform(0, 0.05)),
        ("writing a state", written(".state.partial/optimizer.safetensors", 24, 31), chance.uniform(0, 0.01)),
        ("exchanging states", written(".state.partial/state.json", 31, 41), chance.uniform(0, 0.005)),
        ("writing the best", written(".best.partial", 41, 50), chance.uniform(0, 0.01)),
        ("the end", logged("step 60: training loss"), chance.uniform(0, 0.3)),
    ]
    for index, (name, moment, delay_s) in enumerate(moments):
        arguments = options(out, text, **settings)
        if (out / "config.json").is_file():
            arguments = resume_options(out) if has_state(out) else resume_options(out, threads=1)
        killed = kill_when(launch(*arguments), out, moment, delay_s)
        print(f"{index}: {name}: {'killed' if killed else 'had ended'}; saved step {steps_saved(out)}")
        assert killed, f"it ended before {name}"
    code, said = finish(launch(*resume_options(out)))
    assert code == 0, said
    assert_same_run(out, whole)
