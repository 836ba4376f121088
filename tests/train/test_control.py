"""Requests to a run under way: files that fit on a full disk."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch

from tests.train.tiny_run import SHORT, assert_same_run, at_step, metrics, options, resume_options
from tests.train.tiny_run import train as train_here
from train.control import FINISH_FILE, PAUSE_FILE, YIELD_FILE, YIELD_S, ask, forget, is_asked, is_yielding
from train.folder import is_training
from train.status import read_status


def test_requests_are_seen_and_forgotten(tmp_path: Path) -> None:
    for name in (PAUSE_FILE, FINISH_FILE):
        assert not is_asked(tmp_path, name)
        ask(tmp_path, name)
        assert is_asked(tmp_path, name)
        assert (tmp_path / name).stat().st_size == 0
    ask(tmp_path, YIELD_FILE)
    assert is_yielding(tmp_path)
    forget(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert not is_yielding(tmp_path)


def test_yielding_ends_by_itself(tmp_path: Path) -> None:
    ask(tmp_path, YIELD_FILE)
    long_ago = time.time() - 2 * YIELD_S
    os.utime(tmp_path / YIELD_FILE, (long_ago, long_ago))
    assert not is_yielding(tmp_path)


def test_paused_run_goes_on_bit_for_bit(
    whole: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    at_step(monkeypatch, 9, lambda: ask(out, PAUSE_FILE))
    assert train_here(*options(out, text, **SHORT)) == 130
    status = read_status(out)
    assert status is not None and status.state == "paused"
    assert not (out / PAUSE_FILE).exists(), "the next process must not stop at once"
    assert metrics(out)[-1]["step"] <= 9
    monkeypatch.undo()
    assert train_here(*resume_options(out)) == 0
    assert_same_run(out, whole)


def test_run_asked_to_finish_scores_its_best_there(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "run"
    at_step(monkeypatch, 4, lambda: ask(out, FINISH_FILE))
    assert train_here(*options(out, text, **SHORT)) == 0
    status = read_status(out)
    assert status is not None and status.state == "finished"
    assert set(status.nats_per_character) == {"block", "sliding"}
    assert [line["step"] for line in metrics(out) if "val_loss" in line] == [4]
    assert "4 steps" in (out / "best" / "README.md").read_text(encoding="utf-8")
    assert train_here(*resume_options(out)) == 0, "what ended early can go on"
    assert metrics(out)[-1]["step"] == 24


def test_finished_run_that_goes_on_is_the_uninterrupted_one(
    whole: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    at_step(monkeypatch, 14, lambda: ask(out, FINISH_FILE))  # where an evaluation is due anyway
    assert train_here(*options(out, text, **SHORT)) == 0
    monkeypatch.undo()
    assert train_here(*resume_options(out)) == 0
    assert_same_run(out, whole)


def test_run_leaves_cores_free_while_asked_to(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "run"
    threads: list[int] = []
    at_step(monkeypatch, 5, lambda: ask(out, YIELD_FILE))
    at_step(monkeypatch, 6, lambda: threads.append(torch.get_num_threads()))
    at_step(monkeypatch, 7, lambda: threads.append(torch.get_num_threads()))
    at_step(monkeypatch, 8, lambda: (out / YIELD_FILE).unlink())
    at_step(monkeypatch, 10, lambda: threads.append(torch.get_num_threads()))
    assert train_here(*options(out, text, **{**SHORT, "threads": 2})) == 0
    # A step looks at its end; the request of step 5 is seen there.
    assert threads == [1, 1, 2]


def test_folder_is_locked_exactly_while_a_process_trains(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    seen: list[bool] = []
    assert not is_training(out)
    at_step(monkeypatch, 3, lambda: seen.append(is_training(out)))
    assert train_here(*options(out, text, **SHORT)) == 0
    assert seen == [True]
    assert not is_training(out)
