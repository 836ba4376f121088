"""Runs that were stopped: they say how to go on, and go on bit for bit, or say why not."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpt.checkpoint import load_checkpoint
from gpt.errors import TrainingError
from tests.train.tiny_run import SHORT, assert_same_run, at_step, one_sentence, options, resume_options, write_text
from tests.train.tiny_run import train as train_here
from train.config import TrainConfig
from train.folder import RunFolder


@pytest.mark.parametrize(("signal_number", "step"), [(signal.SIGINT, 3), (signal.SIGTERM, 12)])
def test_stop_saves_says_how_to_go_on_and_goes_on_bit_for_bit(
    whole: Path,
    text: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    signal_number: int,
    step: int,
) -> None:
    out = tmp_path / "a run"
    at_step(monkeypatch, step, lambda: os.kill(os.getpid(), signal_number))
    assert train_here(*options(out, text, **SHORT)) == 130
    said = capfd.readouterr().err
    assert "stopping at the next step, and saving; once more ends at once" in said
    assert f"stopped at step {step} and saved; go on with: python -m train --resume --out '{out}'" in said
    monkeypatch.undo()
    assert train_here(*resume_options(out)) == 0
    assert_same_run(out, whole)
    # The command that began the run is the one that repeats it.
    assert json.loads((out / "best" / "record.json").read_text())["command"].startswith("python -m train --preset tiny")


def test_second_signal_ends_at_once(
    whole: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"

    def twice() -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)

    at_step(monkeypatch, 15, twice)  # after the evaluation of step 14, which will be made again
    assert train_here(*options(out, text, **SHORT)) == 130
    said = capfd.readouterr().err
    assert f"ended at once; --resume --out {out} goes on from what was saved before" in said
    assert "Traceback" not in said
    assert json.loads((out / "state" / "state.json").read_text())["step"] == 10
    monkeypatch.undo()
    assert train_here(*resume_options(out)) == 0
    assert_same_run(out, whole)


def test_stop_while_the_finished_run_is_scored_is_heard(
    whole: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"

    def scored(*arguments: Any, progress: Callable[[int, int], None]) -> float:
        os.kill(os.getpid(), signal.SIGTERM)
        progress(1, 100)
        raise AssertionError("it went on")

    monkeypatch.setattr("train.run.window_nats", scored)
    assert train_here(*options(out, text, **SHORT)) == 130
    assert "stopped at step 24 and saved" in capsys.readouterr().err
    assert not (out / "best" / "README.md").exists()
    monkeypatch.undo()
    assert train_here(*resume_options(out)) == 0
    assert_same_run(out, whole)


def test_finished_run_can_be_extended(whole: Path, text: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert train_here(*options(out, text, **{**SHORT, "max_steps": 10})) == 0
    assert train_here(*resume_options(out, max_steps=24)) == 0
    record = load_checkpoint(out / "best").record
    assert record.steps == 24
    assert [entry["step"] for entry in record.curve] == [7, 10, 14, 21, 24]
    assert " && python -m train --resume --out " in record.command
    assert TrainConfig.from_json((out / "config.json").read_text()).max_steps == 24
    assert train_here(*resume_options(out)) == 0  # once more changes nothing
    assert load_checkpoint(out / "best").record.steps == 24


def test_folder_is_open_to_one_run(tmp_path: Path, text: Path, whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = TrainConfig.from_json((whole / "config.json").read_text())
    folder = RunFolder(tmp_path / "run", config, 0)
    with pytest.raises(TrainingError, match="another process is training in"):
        RunFolder(tmp_path / "run", config, 0)
    assert train_here(*resume_options(tmp_path / "run")) == 1
    assert "another process is training in" in one_sentence_after_notice(capsys)
    folder.close()
    RunFolder(tmp_path / "run", config, 0).close()


def one_sentence_after_notice(capsys: pytest.CaptureFixture[str]) -> str:
    said = capsys.readouterr().err.strip().splitlines()
    assert said[0] == "python -m train: no state was saved yet; the run begins anew"
    assert len(said) == 2
    return said[1]


def test_resume_without_a_run_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for out in (tmp_path / "nothing", tmp_path):
        assert train_here(*resume_options(out)) == 1
        said = one_sentence(capsys)
        assert f"there is no run to resume in {out} (No such file or directory)" in said
        assert "begin one without --resume" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"vocab_dim": 65, "unknown": 1}'])
def test_resume_with_a_damaged_config_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    (tmp_path / "config.json").write_bytes(content)
    assert train_here(*resume_options(tmp_path)) == 1
    assert "cannot be resumed: its config.json is not one that" in one_sentence(capsys)
    assert (tmp_path / "config.json").read_bytes() == content


@pytest.mark.parametrize("name", ["state.json", "model.safetensors", "optimizer.safetensors", "generators.safetensors"])
def test_resume_with_a_damaged_state_is_one_sentence(
    tmp_path: Path, text: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    out = tmp_path / "run"
    assert train_here(*options(out, text, max_steps=2)) == 0
    path = out / "state" / name
    path.write_bytes(path.read_bytes()[:50])
    capsys.readouterr()
    assert train_here(*resume_options(out, max_steps=4)) == 1
    assert "begin anew in another folder" in (said := one_sentence(capsys))
    assert str(out / "state") in said


def test_resume_of_a_changed_text_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, out = write_text(tmp_path), tmp_path / "run"
    content = text.read_text(encoding="utf-8")
    assert train_here(*options(out, text, max_steps=2)) == 0
    text.write_text(content[:3000], encoding="utf-8")
    capsys.readouterr()
    assert train_here(*resume_options(out, max_steps=4)) == 1
    assert "is not the text that the run" in one_sentence(capsys)
    text.write_text(content, encoding="utf-8")
    assert train_here(*resume_options(out, max_steps=4)) == 0


def test_resume_to_fewer_steps_than_were_made_is_refused(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_here(*resume_options(whole, max_steps=5)) == 1
    assert "max_steps is 5, but the run has made 24 steps already; give --max-steps 24 or more" in one_sentence(capsys)
    assert TrainConfig.from_json((whole / "config.json").read_text()).max_steps == 24


def test_resume_without_the_state_that_there_was_does_not_lose_the_best(
    tmp_path: Path, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert train_here(*options(out, text, max_steps=8, eval_interval=7, save_interval=4)) == 0
    for path in (out / "state").iterdir():
        path.unlink()
    (out / "state").rmdir()
    best = (out / "best" / "model.safetensors").read_bytes()
    capsys.readouterr()
    assert train_here(*resume_options(out)) == 1
    assert "its state is gone, and only its best checkpoint is left" in capsys.readouterr().err
    assert (out / "best" / "model.safetensors").read_bytes() == best


def test_passes_that_are_spelt_anew_go_on_bit_for_bit(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {**SHORT, "tokenizer": "bpe", "vocab_dim": 128, "bpe_dropout": 0.3}
    assert train_here(*options(tmp_path / "whole", text, **settings)) == 0
    at_step(monkeypatch, 13, lambda: os.kill(os.getpid(), signal.SIGINT))
    assert train_here(*options(tmp_path / "run", text, **settings)) == 130
    monkeypatch.undo()
    assert train_here(*resume_options(tmp_path / "run")) == 0
    assert_same_run(tmp_path / "run", tmp_path / "whole")
    assert json.loads((tmp_path / "whole" / "state" / "state.json").read_text())["epoch"] > 0
    assert train_here(*options(tmp_path / "plain", text, **{**settings, "bpe_dropout": 0.0})) == 0
    plain, dropped = (load_checkpoint(tmp_path / name / "best").model for name in ("plain", "whole"))
    assert not plain.head.weight.equal(dropped.head.weight)
