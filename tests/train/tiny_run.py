"""Tiny training runs, in this process or as one of their own, and what two of them must have in common."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from train.__main__ import main
from train.trainer import Trainer

ROOT = Path(__file__).parents[2]
SONNETS = ROOT / "data" / "sonnets.txt"
SHORT: dict[str, Any] = {"max_steps": 24, "eval_interval": 7, "save_interval": 5}


def write_text(folder: Path, characters: int = 6000) -> Path:
    """A corpus short enough that a run ends soon."""
    path = folder / "text.txt"
    path.write_text(SONNETS.read_text(encoding="utf-8")[:characters], encoding="utf-8")
    return path


def options(out: Path, text: Path, **settings: Any) -> list[str]:
    """The command line of a run that takes a few seconds."""
    chosen = {"threads": 1, "device": "cpu", "data": text, "eval_windows": 8, "sample_tokens": 4, **settings}
    return ["--preset", "tiny", "--out", str(out), *_words(chosen)]


def resume_options(out: Path, **settings: Any) -> list[str]:
    return ["--resume", "--out", str(out), "--device", "cpu", *_words(settings)]


def _words(settings: dict[str, Any]) -> list[str]:
    return [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def train(*arguments: str) -> int:
    """Train in this process; the exit code."""
    return main(list(arguments))


def start(
    *arguments: str, processes: int = 0, torchrun: tuple[str, ...] = (), **keywords: Any
) -> subprocess.Popen[str]:
    """Start the command as a process; with `processes`, under torchrun."""
    launcher = ["-m", "torch.distributed.run", f"--nproc_per_node={processes}", *torchrun] if processes else []
    return subprocess.Popen(
        [sys.executable, *launcher, "-m", "train", *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **keywords,
    )


def finish(process: subprocess.Popen[str], timeout_s: float = 300) -> tuple[int, str]:
    """Wait for its end; the exit code and what it wrote on standard error. Nothing belongs on standard output."""
    try:
        output, errors = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.terminate()
        _, errors = process.communicate(timeout=60)
        raise AssertionError(f"still running after {timeout_s} s: {errors[-3000:]}") from None
    assert output == ""
    return process.returncode, errors


def at_step(monkeypatch: pytest.MonkeyPatch, step: int, act: Callable[[], None]) -> None:
    """Do something while this step, counted from 1, is made in this process."""
    make_step = Trainer.step

    def hooked(self: Trainer, asked: Callable[[], tuple[bool, bool]]) -> Any:
        if self.state.step + 1 == step:
            act()
        return make_step(self, asked)

    monkeypatch.setattr(Trainer, "step", hooked)


def one_sentence(capsys: pytest.CaptureFixture[str]) -> str:
    """What the command said last, which must be a sentence, and no traceback."""
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    *before, last = captured.err.strip().splitlines()
    assert last.startswith("python -m train: error: "), captured.err
    assert not [line for line in before if "error" in line.lower()]
    return last.removeprefix("python -m train: error: ")


def essence(out: Path) -> dict[str, Any]:
    """All of a run folder that must not depend on times, on how it was started, and on how often it was killed."""
    found: dict[str, Any] = {"config": json.loads((out / "config.json").read_text(encoding="utf-8"))}
    for folder in ("best", "state"):
        for path in sorted((out / folder).iterdir()):
            if path.name not in ("record.json", "state.json", "README.md"):
                found[f"{folder}/{path.name}"] = path.read_bytes()
    found["record"] = _without(_json(out / "best" / "record.json"), "created_at", "seconds", "command")
    found["state"] = _without(_json(out / "state" / "state.json"), "seconds", "command")
    found["metrics"] = [_without(line, "tokens_per_second", "seconds") for line in metrics(out)]
    found["samples"] = (out / "samples.jsonl").read_text(encoding="utf-8")
    return found


def metrics(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def assert_same_run(one: Path, other: Path) -> None:
    """Compare part by part, for a message that a person can read."""
    left, right = essence(one), essence(other)
    assert left.keys() == right.keys()
    for name, part in left.items():
        if isinstance(part, bytes):
            assert part == right[name], f"{name} differs"
        else:
            assert part == right[name]


def _json(path: Path) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return fields


def _without(fields: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in names}
