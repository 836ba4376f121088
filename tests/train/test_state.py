"""TrainState: everything comes back as it was, and files that do not fit are refused."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from gpt.character_tokenizer import CharacterTokenizer
from gpt.config import GPTConfig
from gpt.errors import TokenizerError, TrainingError
from gpt.model import GPT
from train.optimizer import build_optimizers
from train.state import TrainState, has_state, read_state, read_tokenizer, restore_tensors, save_state

TOKENIZER = CharacterTokenizer("abcdefg")
STATE = TrainState(
    step=7,
    tokens=700,
    seconds=1.25,
    epoch=2,
    window=3,
    best_step=5,
    best_loss=1.1,
    evaluations_since_best=1,
    curve=[{"step": 5, "train_loss": 1.2, "val_loss": 1.1}],
    loss_sum=2.5,
    loss_count=2,
    short_steps=7,
    threads=1,
    world_size=3,
    corpus_sha256="00ff",
    teachers_sha256="cd",
    command="python -m train",
)
CPU = torch.device("cpu")


def make(seed: int, embed_dim: int = 8) -> tuple[GPT, list[torch.optim.Optimizer]]:
    torch.manual_seed(seed)
    config = GPTConfig(vocab_dim=7, sequence_dim=4, embed_dim=embed_dim, num_heads=2, num_layers=1, dropout=0.0)
    model = GPT.from_config(config)
    optimizers = build_optimizers(
        model, learning_rate=1e-2, muon_learning_rate=1e-2, weight_decay=0.1, muon_weight_decay=0.1
    )
    return model, optimizers


def step(model: GPT, optimizers: list[torch.optim.Optimizer]) -> None:
    for optimizer in optimizers:
        optimizer.zero_grad()
    model(torch.arange(4)[None]).square().sum().backward()
    for optimizer in optimizers:
        optimizer.step()


def generators() -> dict[str, Tensor]:
    """Those of three processes."""
    return {"cpu": torch.stack([torch.Generator().manual_seed(seed).get_state() for seed in (11, 12, 13)])}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model, optimizers = make(1)
    step(model, optimizers)
    save_state(tmp_path, STATE, model, optimizers, TOKENIZER, generators())
    return tmp_path


def test_numbers_and_tokenizer_come_back(saved: Path) -> None:
    assert all(getattr(STATE, item.name) != item.default for item in dataclasses.fields(STATE) if item.name != "curve")
    assert read_state(saved) == STATE
    assert read_tokenizer(saved).encode("gab") == [6, 0, 1]


def test_training_goes_on_as_if_nothing_had_been(saved: Path) -> None:
    model, optimizers = make(1)
    step(model, optimizers)
    other, other_optimizers = make(2)
    restore_tensors(saved, other, other_optimizers, CPU, rank=0, world_size=3)
    for _ in range(3):
        step(model, optimizers)
        step(other, other_optimizers)
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_each_process_gets_its_own_generator_back(saved: Path, rank: int) -> None:
    restore_tensors(saved, *make(1), CPU, rank=rank, world_size=3)
    expected = torch.rand(5, generator=torch.Generator().manual_seed(11 + rank))
    assert torch.equal(torch.rand(5), expected)


def test_training_on_does_not_touch_the_saved_files(saved: Path) -> None:
    before = {path.name: path.read_bytes() for path in (saved / "state").iterdir()}
    model, optimizers = make(2)
    restore_tensors(saved, model, optimizers, CPU, rank=0, world_size=3)
    step(model, optimizers)
    assert {path.name: path.read_bytes() for path in (saved / "state").iterdir()} == before


def test_nothing_in_a_state_is_a_pickle(saved: Path) -> None:
    names = sorted(path.name for path in (saved / "state").iterdir())
    assert names == [
        "generators.safetensors",
        "model.safetensors",
        "optimizer.safetensors",
        "state.json",
        "tokenizer.json",
    ]


def test_state_that_a_kill_left_aside_is_found(saved: Path) -> None:
    assert has_state(saved)
    os.rename(saved / "state", saved / "state.previous")
    (saved / ".state.partial").mkdir()
    assert has_state(saved)
    assert read_state(saved).step == 7


def test_no_state_is_said(tmp_path: Path) -> None:
    assert not has_state(tmp_path)
    assert not has_state(tmp_path / "missing")
    with pytest.raises(TrainingError, match="no saved state"):
        read_state(tmp_path)


@pytest.mark.parametrize("content", ["", "[1]", '{"steps": 1}', "\xff"])
def test_numbers_that_are_none_are_refused(saved: Path, content: str) -> None:
    (saved / "state" / "state.json").write_text(content, encoding="latin-1")
    with pytest.raises(TrainingError, match=r"state/state.json cannot be read .*begin anew in another folder"):
        read_state(saved)


def test_tokenizer_that_is_missing_is_refused(saved: Path) -> None:
    (saved / "state" / "tokenizer.json").unlink()
    with pytest.raises(TokenizerError, match=r"tokenizer.json cannot be read"):
        read_tokenizer(saved)


def test_weights_of_another_model_are_refused_and_change_nothing(saved: Path) -> None:
    model, optimizers = make(2, embed_dim=16)
    before = [parameter.clone() for parameter in model.parameters()]
    with pytest.raises(TrainingError, match="are not of this run's model"):
        restore_tensors(saved, model, optimizers, CPU, rank=0, world_size=3)
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("name", ["model", "optimizer", "generators"])
def test_missing_or_cut_file_is_refused(saved: Path, name: str) -> None:
    path = saved / "state" / f"{name}.safetensors"
    content = path.read_bytes()
    for spoil in (lambda: path.write_bytes(content[:-9]), path.unlink):
        spoil()
        with pytest.raises(TrainingError, match=r"cannot be restored .*begin anew in another folder"):
            restore_tensors(saved, *make(2), CPU, rank=0, world_size=3)


def test_failed_save_keeps_the_last_state(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(tensors: dict[str, Tensor], path: Path) -> None:
        if path.name == "generators.safetensors":
            raise OSError(28, "No space left on device")
        save_file(tensors, path)

    monkeypatch.setattr("train.state.save_file", fail)
    model, optimizers = make(3)
    with pytest.raises(
        TrainingError, match=r"cannot be written to .*state \(No space left on device\); what was saved"
    ):
        save_state(saved, dataclasses.replace(STATE, step=8), model, optimizers, TOKENIZER, generators())
    assert read_state(saved).step == 7
    assert load_file(saved / "state" / "generators.safetensors").keys() == {"cpu"}
    assert os.listdir(saved) == ["state"]
