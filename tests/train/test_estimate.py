"""The estimate of a run's time: from steps of its shape, and nothing left behind."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from tests.train.tiny_run import options
from tests.train.tiny_run import train as train_here
from train.corpus import load_corpus
from train.estimate import estimate, total_seconds
from train.presets import PRESETS

ROOT = Path(__file__).parents[2]
TINY = PRESETS["tiny"].config


def test_time_is_that_of_steps_evaluations_and_scoring() -> None:
    config = dataclasses.replace(TINY, max_steps=101, eval_interval=20)
    assert total_seconds(config, 0.5, 2.0, 3.0) == pytest.approx(101 * 0.5 + 6 * 2.0 + 3.0)


@pytest.mark.parametrize("changes", [{}, {"tokenizer": "bpe", "vocab_dim": 300}, {"batch_size": 512}])
def test_estimate_is_of_the_runs_shape(changes: dict[str, object]) -> None:
    config = dataclasses.replace(TINY, **changes)  # type: ignore[arg-type]
    found = estimate(config, load_corpus("sonnets", ROOT / "data"), torch.device("cpu"), budget_s=0.05)
    assert found.steps == 100
    assert found.tokens_per_step == config.batch_size * config.sequence_dim
    assert found.tokens_per_second == pytest.approx(found.tokens_per_step / found.step_s, rel=0.01)
    assert found.seconds > found.steps * found.step_s
    if not changes:
        assert found.parameters == 29_830


def test_command_prints_it_for_programs_and_trains_nothing(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_here("--estimate", *options(tmp_path / "run", text, max_steps=50)) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert found["steps"] == 50 and found["seconds"] > 0 and found["threads"] == 1
    assert captured.err.startswith("about ")
    assert not (tmp_path / "run").exists()


def test_estimate_of_what_cannot_run_is_refused_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_here("--estimate", "--preset", "tiny", "--data", str(tmp_path / "none.txt")) == 1
    assert "none.txt is not there" in capsys.readouterr().err
