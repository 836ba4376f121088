"""The trainer's options on their way to another machine."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from gpt.errors import ConfigError, CorpusError
from gpt.vertex.bucket import Storage
from tests.emulator.emulator import BUCKET, Emulator
from train.presets import PRESETS
from train.vertex.train_options import TrainOptions


def test_options_are_the_presets_with_what_is_given() -> None:
    options = TrainOptions.parse(["--preset", "tiny", "--max-steps", "7"])
    assert (options.preset, options.config.max_steps, options.config.embed_dim) == ("tiny", 7, 32)
    assert options.words == ["--preset", "tiny", "--max-steps", "7"]
    assert options.changed == ("max_steps", "preset")
    assert TrainOptions.parse([]).config == PRESETS["laptop"].config


def test_named_corpus_travels_by_its_name() -> None:
    options = TrainOptions.parse(["--data", "sonnets"])
    assert (options.is_named, options.is_on_this_machine) == (True, False)
    assert options.words == ["--data", "sonnets"]


@pytest.mark.parametrize("place", ["machine", "bucket"])
def test_text_is_sent_to_where_the_training_finds_it(place: str, text: Path, emulator: Emulator) -> None:
    address = f"gs://{BUCKET}/runs/a/text/text.txt"
    emulator.storage.put(BUCKET, "mine/text.txt", text.read_bytes())
    data = str(text) if place == "machine" else f"gs://{BUCKET}/mine/text.txt"
    options = TrainOptions.parse([f"--data={data}", "--seed", "3"])
    assert options.words == ["--seed", "3"]
    assert (options.is_named, options.is_on_this_machine) == (False, place == "machine")
    options.check_text()
    with contextlib.closing(Storage()) as storage:
        options.send_text(storage, address)
    assert emulator.storage.read(address) == text.read_bytes()


def test_text_that_cannot_be_learnt_is_refused_here(tmp_path: Path, emulator: Emulator) -> None:
    (tmp_path / "short.txt").write_text("too short", encoding="utf-8")
    for name in ("short.txt", "missing.txt"):
        with pytest.raises(CorpusError):
            TrainOptions.parse(["--data", str(tmp_path / name)]).check_text()
    emulator.storage.put(BUCKET, "short.txt", b"too short")
    with contextlib.closing(Storage()) as storage, pytest.raises(CorpusError):
        TrainOptions.parse(["--data", f"gs://{BUCKET}/short.txt"]).send_text(storage, f"gs://{BUCKET}/copy.txt")
    assert emulator.storage.names(BUCKET) == ["short.txt"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "folder"], "out is given"),
        (["--resume"], "resume is given"),
        (["--num-heads", "5"], "embed_dim is 128, which num_heads = 5 does not divide"),
    ],
)
def test_option_that_means_nothing_elsewhere_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainOptions.parse(words)


def test_option_of_no_kind_is_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        TrainOptions.parse(["--no-such-option", "3"])
    assert ended.value.code == 2
    assert "--no-such-option" in capsys.readouterr().err


def test_resumed_run_may_only_grow() -> None:
    TrainOptions.parse(["--max-steps", "9", "--patience", "2", "--device", "cpu"]).check_resumable()
    with pytest.raises(ConfigError, match="--batch-size, --preset cannot change in a resumed run"):
        TrainOptions.parse(["--preset", "tiny", "--batch-size", "2"]).check_resumable()
