"""The trainer's options on their way to another machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpt.errors import ConfigError, CorpusError
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
    assert options.is_named
    assert options.words == ["--data", "sonnets"]
    assert options.local_text() is None


def test_text_of_this_machine_travels_as_a_file(text: Path) -> None:
    options = TrainOptions.parse(["--data", str(text), "--seed", "3"])
    assert not options.is_named
    assert options.words == ["--seed", "3"]
    assert options.local_text() == text


def test_text_in_a_bucket_is_there_already() -> None:
    options = TrainOptions.parse(["--seed", "3", "--data=gs://my-bucket/text.txt"])
    assert options.words == ["--seed", "3"]
    assert options.config.data == "gs://my-bucket/text.txt"
    assert options.local_text() is None


def test_text_that_cannot_be_learnt_is_refused_here(tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("too short", encoding="utf-8")
    for name in ("short.txt", "missing.txt"):
        with pytest.raises(CorpusError):
            TrainOptions.parse(["--data", str(tmp_path / name)]).local_text()


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
