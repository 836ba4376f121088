"""Going on from a checkpoint's weights: its shape and tokenizer, and no worse than it was."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from gpt.checkpoint import load_checkpoint, save_checkpoint
from gpt.config import GPTConfig
from gpt.errors import ConfigError, TrainingError
from gpt.model import GPT
from gpt.tokenizer import CharacterTokenizer
from tests.train.tiny_run import SHORT, assert_same_run, at_step, metrics, one_sentence, options, resume_options
from tests.train.tiny_run import train as train_here
from train.base import RATES, base_settings, take_weights
from train.command import command_options
from train.control import PAUSE_FILE, ask
from train.presets import PRESETS

TINY = PRESETS["tiny"].config


def test_shape_and_tokenizer_are_the_checkpoints_and_the_rates_gentler(whole: Path) -> None:
    settings = base_settings(whole / "best", PRESETS["laptop"].config, {"max_steps": 7})
    own = load_checkpoint(whole / "best")
    assert settings.model_config(own.tokenizer.vocab_dim) == dataclasses.replace(
        own.config, dropout=settings.dropout, attention_dropout=settings.attention_dropout
    )
    assert (settings.tokenizer, settings.max_steps, settings.init) == ("character", 7, str(whole / "best"))
    assert settings.learning_rate == RATES * PRESETS["laptop"].config.learning_rate
    assert base_settings(whole / "best", TINY, {"learning_rate": 1e-3}).learning_rate == 1e-3


def test_setting_that_the_checkpoint_decided_is_refused(whole: Path) -> None:
    with pytest.raises(ConfigError, match=r"--embed-dim, --rotary cannot be chosen with --init.*embed_dim 32"):
        base_settings(whole / "best", TINY, {"embed_dim": 64, "rotary": False})
    assert base_settings(whole / "best", TINY, {"embed_dim": 32}).embed_dim == 32


def test_run_begins_with_the_checkpoints_figure(whole: Path, text: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert train_here(*options(out, text, **{**SHORT, "init": whole / "best"})) == 0
    scored = [line for line in metrics(out) if "val_loss" in line]
    assert scored[0]["step"] == 0
    best_before = min(line["val_loss"] for line in metrics(whole) if "val_loss" in line)
    assert scored[0]["val_loss"] == pytest.approx(best_before, abs=1e-4)
    assert "trained from" in (card := (out / "best" / "README.md").read_text(encoding="utf-8"))
    assert str(whole / "best") in card


def test_weights_that_only_get_worse_leave_the_checkpoint_the_best(whole: Path, text: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    settings = {**SHORT, "init": whole / "best", "learning_rate": 0.5, "max_steps": 7}
    assert train_here(*options(out, text, **settings)) == 0
    assert load_checkpoint(out / "best").record.best_step == 0
    before, after = (load_file(folder / "best" / "model.safetensors") for folder in (whole, out))
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("step", [1, 9])
def test_run_from_a_checkpoint_resumes_without_it(
    whole: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    base = tmp_path / "base"
    load = load_checkpoint(whole / "best")
    save_checkpoint(base, load.model, load.tokenizer, load.record)
    settings = {**SHORT, "init": base}
    assert train_here(*options(tmp_path / "straight", text, **settings)) == 0
    out = tmp_path / "run"
    at_step(monkeypatch, step, lambda: ask(out, PAUSE_FILE))
    assert train_here(*options(out, text, **settings)) == 130
    monkeypatch.undo()
    for path in base.iterdir():
        path.unlink()
    base.rmdir()
    assert train_here(*resume_options(out)) == 0
    assert_same_run(out, tmp_path / "straight")


def test_text_with_a_stranger_is_refused_in_words(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "strange.txt"
    text.write_text("\u0416 is no letter of the sonnets. " * 100, encoding="utf-8")
    assert train_here(*options(tmp_path / "run", text, init=whole / "best")) == 1
    words = one_sentence(capsys)
    assert f"the checkpoint {whole / 'best'} cannot go on with the text strange.txt" in words
    assert "'\u0416' (U+0416)" in words
    assert not (tmp_path / "run").exists()


def test_missing_checkpoint_is_refused_in_words(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_here(*options(tmp_path / "run", text, init=tmp_path / "none")) == 1
    assert "there is no checkpoint" in one_sentence(capsys)


def test_shape_that_no_run_makes_is_refused(tmp_path: Path) -> None:
    tokenizer = CharacterTokenizer("ab")
    config = GPTConfig(vocab_dim=2, sequence_dim=8, embed_dim=8, num_heads=2, num_layers=1, feedforward_dim=12)
    save_checkpoint(tmp_path / "odd", GPT.from_config(config), tokenizer)
    settings = base_settings(tmp_path / "odd", TINY, {})
    with pytest.raises(TrainingError, match="a shape that python -m train does not make"):
        take_weights(GPT.from_config(settings.model_config(2)), load_checkpoint(tmp_path / "odd"), "odd")


@pytest.mark.parametrize("changes", [{}, {"max_steps": 9, "rotary": False}, {"data": "a b.txt", "dropout": 0.25}])
def test_command_gives_the_settings_again(changes: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    from train.__main__ import _settings, build_parser

    wanted = dataclasses.replace(TINY, **changes)  # type: ignore[arg-type]
    assert _settings(build_parser().parse_args(command_options(wanted)), Path("x")) == wanted


def test_command_of_a_run_from_a_checkpoint_gives_its_settings_again(whole: Path) -> None:
    from train.__main__ import _settings, build_parser

    wanted = dataclasses.replace(base_settings(whole / "best", TINY, {}), max_steps=3, seed=9)
    options_ = command_options(wanted)
    assert "--embed-dim" not in options_ and "--learning-rate" not in options_
    assert _settings(build_parser().parse_args(options_), Path("x")) == wanted


def test_what_the_checkpoints_tokenizer_and_context_cannot_have_is_left_out(whole: Path) -> None:
    """It is of characters, which merge nothing, with a context that the preset's short windows do not divide."""
    settings = base_settings(whole / "best", PRESETS["shakespeare"].config, {})
    assert PRESETS["shakespeare"].config.bpe_dropout and not settings.bpe_dropout
    settings = base_settings(whole / "best", PRESETS["best"].config, {})
    assert PRESETS["best"].config.short_sequence_dim and not settings.short_sequence_dim
    with pytest.raises(ConfigError, match=r"bpe_dropout is 0\.1"):
        base_settings(whole / "best", TINY, {"bpe_dropout": 0.1})
