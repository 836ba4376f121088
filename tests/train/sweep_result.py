"""Results of sweeps that nobody ran, and what a sweep that is refused says."""

from __future__ import annotations

import dataclasses

import pytest

from train.presets import PRESETS
from train.sweep.results import RunResult

TINY = PRESETS["tiny"].config


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    """The sentence that a command ended with, and nothing for programs beside it."""
    captured = capsys.readouterr()
    assert captured.out == "" and "Traceback" not in captured.err
    return captured.err.strip().splitlines()[-1].removeprefix("python -m train.sweep: error: ")


def result(row: str, seed: int, sliding: float, **changes: object) -> RunResult:
    config = dataclasses.replace(TINY, seed=seed, rotary=row == "base")
    found = RunResult(
        row=row,
        options={} if row == "base" else {"rotary": False},
        seed=seed,
        steps=100,
        tokens=25_600,
        parameters=29_830,
        seconds=59.96,
        budget_s=60,
        split="validation",
        block=sliding + 0.02,
        sliding=sliding,
        machine="1 thread of a processor",
        torch_version="2.13.0+cpu",
        date=f"2026-11-0{seed}T10:00:00+00:00",
        corpus="sonnets",
        corpus_sha256="0" * 64,
        config=config,
    )
    return dataclasses.replace(found, **changes)  # type: ignore[arg-type]
