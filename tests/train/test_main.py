"""The command line: every setting an option, and wrong ones refused before anything is done."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import train.__main__
from gpt.device import choose_device
from tests.train.tiny_run import ROOT, one_sentence, options, resume_options
from tests.train.tiny_run import train as train_here
from train.__main__ import build_parser
from train.config import TrainConfig
from train.presets import PRESETS
from train.stop import StopRequest

FIELDS = [item.name for item in dataclasses.fields(TrainConfig)]


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> list[tuple[TrainConfig, Path]]:
    """The settings and folders that runs would be made with; none is made."""
    made: list[tuple[TrainConfig, Path]] = []

    def make(arguments: Any, config: TrainConfig, out: Path, argv: list[str], stop: StopRequest) -> int:
        made.append((config, out))
        return 0

    monkeypatch.setattr(train.__main__, "_train", make)
    return made


def test_help_lists_every_setting_and_preset_with_units() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "train", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stderr == ""
    for name in FIELDS:
        assert f"--{name.replace('_', '-')}" in result.stdout, name
    for option in ("--out", "--resume", "--device", "--threads"):
        assert option in result.stdout
    words = " ".join(result.stdout.split())
    for name, preset in PRESETS.items():
        assert name in words
        assert f"takes: {preset.minutes}; reaches: {preset.result}" in words
    assert "nats per token" in words
    assert "optimizer steps" in words


def test_help_does_not_wait_for_torch() -> None:
    code = "import sys, train.__main__ as command; command.build_parser().format_help(); print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"


def test_preset_stands_unless_told_otherwise(settings: list[tuple[TrainConfig, Path]]) -> None:
    assert train_here("--preset", "tiny") == 0
    assert train_here() == 0
    assert settings == [
        (PRESETS["tiny"].config, ROOT / "checkpoints" / "tiny-run"),
        (PRESETS["laptop"].config, ROOT / "checkpoints" / "laptop-run"),
    ]


@pytest.mark.parametrize("name", [name for name in FIELDS if name not in ("preset", "init")])
def test_every_setting_can_be_overridden(settings: list[tuple[TrainConfig, Path]], name: str) -> None:
    base = PRESETS["tiny"].config
    current = getattr(base, name)
    value: Any
    if choices := {item.name: item.metadata["choices"] for item in dataclasses.fields(TrainConfig)}[name]:
        value = next(choice for choice in choices if choice != current)
    elif isinstance(current, str):
        value = "another text"
    elif isinstance(current, bool):
        value = not current
    elif isinstance(current, int):
        value = current * 2 or 2
    else:
        value = 0.25
    option = "--" + name.replace("_", "-")
    words = [option if value else f"--no-{name.replace('_', '-')}"] if isinstance(value, bool) else [option, str(value)]
    if name == "bpe_dropout":
        base, words = dataclasses.replace(base, tokenizer="bpe"), [*words, "--tokenizer", "bpe"]
    if name == "tie_head":
        base, words = dataclasses.replace(base, head_bias=False), [*words, "--no-head-bias"]
    assert train_here("--preset", "tiny", "--out", "x", *words) == 0
    assert settings == [(dataclasses.replace(base, **{name: value}), Path("x"))]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max-steps", "0"], "max_steps is 0; give a number at least 1"),
        (["--dropout", "1"], "dropout is 1.0; give a number from 0 to 0.95"),
        (["--learning-rate", "nan"], "learning_rate is nan; give a number at least 0"),
        (["--train-fraction", "1"], "train_fraction is 1.0; give a number from 0.01 to 0.99"),
        (["--num-heads", "5"], "embed_dim is 32, which num_heads = 5 does not divide"),
        (["--threads", "0"], "threads is 0; give a number at least 1"),
        (["--device", "tpu"], "device is 'tpu'; choose auto, cpu, cuda or cuda:N"),
        (["--device", "meta"], "device is 'meta'; choose auto, cpu, cuda or cuda:N"),
        (["--device", "cuda:99"], "device is 'cuda:99', but torch finds"),
    ],
)
def test_value_out_of_range_is_exit_2_with_the_range(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert train_here("--preset", "tiny", "--out", str(tmp_path / "run"), *words) == 2
    assert one_sentence(capsys).startswith(message)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "words", [["--preset", "huge"], ["--max-steps", "many"], ["--activation", "sine"], ["--unknown"], ["stray"]]
)
def test_argument_that_is_none_is_exit_2(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        train_here(*words)
    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_resume_takes_the_runs_own_settings(whole: Path, settings: list[tuple[TrainConfig, Path]]) -> None:
    saved = TrainConfig.from_json((whole / "config.json").read_text())
    assert train_here(*resume_options(whole)) == 0
    assert train_here(*resume_options(whole, max_steps=200, patience=3), "--preset", "tiny") == 0
    assert settings == [(saved, whole), (dataclasses.replace(saved, max_steps=200, patience=3), whole)]


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        (["--dropout", "0.5"], "--dropout"),
        (["--seed", "2", "--max-steps", "50", "--batch-size", "3"], "--batch-size, --seed"),
        (["--preset", "laptop"], "--preset"),
        (["--no-rotary"], "--rotary"),
    ],
)
def test_resume_refuses_other_settings(
    whole: Path, capsys: pytest.CaptureFixture[str], words: list[str], refused: str
) -> None:
    assert train_here(*resume_options(whole), *words) == 2
    assert one_sentence(capsys) == (
        f"{refused} cannot change in a resumed run; only --max-steps and --patience can, and --teachers where those "
        "have moved: leave the others out, or begin anew in another folder"
    )


def test_number_of_threads_is_the_runs_own_unless_told(
    whole: Path, tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[int] = []
    monkeypatch.setattr("torch.set_num_threads", chosen.append)
    monkeypatch.setattr(train.__main__, "_execute", lambda run, stop, is_main: "finished")
    assert train_here(*resume_options(whole)) == 0
    assert train_here(*resume_options(whole, threads=2)) == 0
    assert train_here(*options(tmp_path / "run", text, threads=3)) == 0
    assert chosen == [1, 2, 3]


def test_ctrl_c_before_the_first_step_is_no_traceback(
    tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(name: str) -> Any:
        os.kill(os.getpid(), signal.SIGINT)  # not raised here, where an import could lose it
        return choose_device(name)

    monkeypatch.setattr("gpt.device.choose_device", interrupt)
    assert train_here(*options(tmp_path / "run", text)) == 130
    said = capsys.readouterr().err
    assert f"ended at once, before anything was saved; --resume --out {tmp_path / 'run'} begins anew" in said
    assert "Traceback" not in said
    monkeypatch.undo()
    assert train_here("--resume", "--out", str(tmp_path / "run"), "--device", "cpu") == 0


def test_every_option_says_what_it_is() -> None:
    for action in build_parser()._actions:
        assert action.help, action.option_strings
