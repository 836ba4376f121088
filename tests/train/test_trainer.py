"""Trainer: one step is what the formulas say, and what surrounds the steps never changes them."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

import train.trainer
from gpt.character_tokenizer import CharacterTokenizer
from gpt.errors import CorpusError, TrainingError
from gpt.model import GPT
from tests.train.tiny_run import SONNETS
from train.config import TrainConfig
from train.dataset import WindowSampler
from train.distributed import ProcessGroup
from train.optimizer import Muon, learning_rate_factor
from train.state import read_state
from train.trainer import Evaluation, Trainer

TEXT = SONNETS.read_text(encoding="utf-8")[:3000]
TOKENIZER = CharacterTokenizer.train(TEXT)
SMALL: dict[str, Any] = {
    "sequence_dim": 16,
    "embed_dim": 16,
    "num_heads": 2,
    "num_layers": 1,
    "dropout": 0.0,
    "batch_size": 4,
    "precision": "float32",
    "learning_rate": 3e-3,
    "max_steps": 10,
    "eval_interval": 100,
    "save_interval": 100,
}


def make_model(config: TrainConfig) -> GPT:
    torch.manual_seed(config.seed)
    return GPT.from_config(config.model_config(TOKENIZER.vocab_dim))


def make(out: Path, **settings: Any) -> Trainer:
    config = TrainConfig(**{**SMALL, **settings})
    ids = torch.tensor(TOKENIZER.encode(TEXT))
    return Trainer(config, make_model(config), TOKENIZER, ids[:2500], ids[2500:], out, ProcessGroup({}, "gloo"))


def run(
    trainer: Trainer,
    on_evaluation: Callable[[Evaluation], None] = lambda evaluation: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[str, list[tuple[int, float]]]:
    losses: list[tuple[int, float]] = []
    outcome = trainer.run(
        on_step=lambda step, loss: losses.append((step, loss)), on_evaluation=on_evaluation, should_stop=should_stop
    )
    return outcome, losses


def weights(trainer: Trainer) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()])


def test_steps_are_the_plain_loop(tmp_path: Path) -> None:
    trainer = make(tmp_path, grad_clip=0.5, weight_decay=0.2, max_steps=4)
    model = copy.deepcopy(trainer.model)
    matrices = [parameter for parameter in model.parameters() if parameter.dim() == 2]
    others = [parameter for parameter in model.parameters() if parameter.dim() != 2]
    groups = [{"params": matrices, "weight_decay": 0.2}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1.0, betas=(0.9, 0.95))
    sampler = WindowSampler(torch.tensor(TOKENIZER.encode(TEXT))[:2500], 16, seed=1)
    first_loss = None
    for step in range(4):
        inputs, targets = sampler.next_batch(4)
        loss = F.cross_entropy(model(inputs).mT, targets)
        first_loss = loss.item() if first_loss is None else first_loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * learning_rate_factor(step, 4, 0.03)
        optimizer.step()
    outcome, losses = run(trainer)
    assert outcome == "finished"
    assert [step for step, _ in losses] == [1, 2, 3, 4]
    assert losses[0][1] == pytest.approx(first_loss, rel=1e-5)
    expected = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    torch.testing.assert_close(weights(trainer), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("muon_learning_rate", [0.0, 0.02])
def test_accumulated_micro_steps_equal_one_large_batch(tmp_path: Path, muon_learning_rate: float) -> None:
    large = make(tmp_path / "large", batch_size=8, muon_learning_rate=muon_learning_rate)
    small = make(tmp_path / "small", batch_size=4, accumulation_steps=2, muon_learning_rate=muon_learning_rate)
    assert large.tokens_per_step == small.tokens_per_step == 8 * 16
    before = weights(large)
    _, large_losses = run(large)
    _, small_losses = run(small)
    moved = (weights(large) - before).norm()
    assert (weights(large) - weights(small)).norm() < (0.03 if muon_learning_rate else 1e-3) * moved
    assert large_losses[0][1] == pytest.approx(small_losses[0][1], rel=1e-6)
    assert large_losses[-1][1] == pytest.approx(small_losses[-1][1], rel=1e-2 if muon_learning_rate else 1e-4)


def watch_batches(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of the batches that it takes from now on."""
    shapes: list[tuple[int, ...]] = []
    next_batch = trainer._next_batch

    def watched() -> tuple[Tensor, Tensor]:
        batch = next_batch()
        shapes.append(tuple(batch[0].shape))
        return batch

    monkeypatch.setattr(trainer, "_next_batch", watched)
    return shapes


def test_windows_are_short_first_and_long_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make(tmp_path, short_sequence_dim=4, short_fraction=0.6)
    shapes = watch_batches(trainer, monkeypatch)
    run(trainer)
    assert shapes == [(16, 4)] * 6 + [(4, 16)] * 4
    assert trainer.state.tokens == 10 * 4 * 16
    assert trainer.model.config.sequence_dim == 16
    assert trainer.state.epoch == 1, "the long windows begin a pass of their own"


@pytest.mark.parametrize(("fraction", "expected"), [(0.0, [(4, 16)] * 10), (1.0, [(16, 4)] * 10)])
def test_windows_may_all_be_of_one_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fraction: float, expected: list[tuple[int, ...]]
) -> None:
    trainer = make(tmp_path, short_sequence_dim=4, short_fraction=fraction)
    shapes = watch_batches(trainer, monkeypatch)
    run(trainer)
    assert shapes == expected


def test_evaluation_never_disturbs_training(tmp_path: Path) -> None:
    """With dropout, which draws from the generator that an evaluation must leave alone."""
    ends = []
    for interval in (2, 3, 50):
        trainer = make(tmp_path / str(interval), dropout=0.3, eval_interval=interval, precision="bfloat16")
        run(trainer)
        ends.append((weights(trainer), torch.get_rng_state()))
    for end, generator in ends[1:]:
        assert torch.equal(end, ends[0][0])
        assert torch.equal(generator, ends[0][1])
    other = make(tmp_path / "other", dropout=0.3, precision="bfloat16", seed=2)
    run(other)
    assert not torch.equal(weights(other), ends[0][0])


def test_evaluation_is_the_mean_of_fixed_windows_without_dropout(tmp_path: Path) -> None:
    seen: list[Evaluation] = []
    trainer = make(tmp_path, dropout=0.5, eval_interval=5, eval_windows=3)
    run(trainer, seen.append)
    assert [evaluation.step for evaluation in seen] == [5, 10]
    ids = torch.tensor(TOKENIZER.encode(TEXT))[2500:]
    starts = [0, 15 * 16, 30 * 16]  # 31 windows fit: the first, the middle and the last
    trainer.model.eval()
    with torch.no_grad():
        losses = [F.cross_entropy(trainer.model(ids[None, s : s + 16])[0], ids[s + 1 : s + 17]).item() for s in starts]
    assert seen[-1].val_loss == pytest.approx(sum(losses) / 3, rel=1e-5)


def test_training_loss_of_an_evaluation_is_the_mean_since_the_last(tmp_path: Path) -> None:
    seen: list[Evaluation] = []
    trainer = make(tmp_path, eval_interval=1)
    _, losses = run(trainer, seen.append)
    assert seen[0].train_loss == pytest.approx(losses[0][1])
    assert seen[9].train_loss == pytest.approx(losses[9][1])
    assert [entry["step"] for entry in trainer.state.curve] == list(range(1, 11))


def test_weights_stay_float32_under_bfloat16_products(tmp_path: Path) -> None:
    low, full = make(tmp_path / "low", precision="bfloat16"), make(tmp_path / "full")
    before = weights(low)
    run(low)
    run(full)
    assert weights(low).dtype == torch.float32
    assert not torch.equal(weights(low), weights(low).bfloat16().float()), "the masters were rounded"
    assert (weights(low) - weights(full)).norm() < 0.1 * (weights(full) - before).norm()


def script_losses(monkeypatch: pytest.MonkeyPatch, losses: list[float]) -> None:
    """Let the evaluations find these losses."""
    left = iter(losses)
    monkeypatch.setattr(train.trainer, "token_nats", lambda model, windows: torch.tensor([[next(left)]]))


def test_early_stop_counts_evaluations_without_a_new_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script_losses(monkeypatch, [3.0, 2.0, 2.0, 1.9, 2.5, 1.9, 1.95, 0.1])
    seen: list[Evaluation] = []
    trainer = make(tmp_path, max_steps=100, eval_interval=2, eval_windows=1, patience=3)
    outcome, losses = run(trainer, seen.append)
    assert outcome == "early stop"
    assert losses[-1][0] == 14
    assert [evaluation.is_best for evaluation in seen] == [True, True, False, True, False, False, False]
    state = read_state(tmp_path)
    assert (state.step, state.best_step) == (14, 8)
    assert state.best_loss == pytest.approx(1.9)
    again = make(tmp_path, max_steps=100, eval_interval=2, eval_windows=1, patience=3)
    again.resume()
    assert run(again) == ("early stop", [])  # killed before it was scored, it does not train on


def test_without_patience_nothing_stops_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script_losses(monkeypatch, [1.0] * 10)
    outcome, losses = run(make(tmp_path, eval_interval=1, eval_windows=1))
    assert (outcome, len(losses)) == ("finished", 10)


@pytest.mark.parametrize("asked_at", [1, 4, 10])
def test_stop_is_heard_within_the_step_and_saved(tmp_path: Path, asked_at: int) -> None:
    calls = iter(range(1, 100))
    outcome, losses = run(make(tmp_path), should_stop=lambda: next(calls) >= asked_at)
    assert losses[-1][0] == read_state(tmp_path).step == asked_at
    assert outcome == ("finished" if asked_at == 10 else "stopped")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"precision": "bfloat16", "dropout": 0.3, "muon_learning_rate": 0.02},
        {"short_sequence_dim": 4, "short_fraction": 0.4},
        {"short_sequence_dim": 8, "short_fraction": 0.3},
        {"short_sequence_dim": 4, "short_fraction": 0.2},
    ],
)
def test_resumed_run_is_the_uninterrupted_one(tmp_path: Path, settings: dict[str, Any]) -> None:
    whole = make(tmp_path / "whole", eval_interval=4, **settings)
    run(whole)
    calls = iter(range(1, 100))
    interrupted = make(tmp_path / "parts", eval_interval=4, **settings)
    run(interrupted, should_stop=lambda: next(calls) == 3)
    torch.manual_seed(99)
    resumed = make(tmp_path / "parts", eval_interval=4, **settings)
    resumed.resume()
    _, losses = run(resumed)
    assert [step for step, _ in losses] == list(range(4, 11))
    assert torch.equal(weights(resumed), weights(whole))
    for name in ("model", "optimizer", "generators"):
        paths = [tmp_path / folder / "state" / f"{name}.safetensors" for folder in ("whole", "parts")]
        assert paths[0].read_bytes() == paths[1].read_bytes()
    first, second = (dataclasses.replace(trainer.state, seconds=0) for trainer in (whole, resumed))
    assert first == second


def test_diverged_run_ends_in_words_and_keeps_finite_weights(tmp_path: Path) -> None:
    trainer = make(tmp_path, learning_rate=1e6, weight_decay=10.0, max_steps=100, save_interval=1, warmup_fraction=0.0)
    with pytest.raises(
        TrainingError, match=r"no finite number any more at step \d+.*lower --learning-rate \(1e\+06 now\)"
    ):
        run(trainer)
    saved = load_file(tmp_path / "state" / "model.safetensors")
    assert all(tensor.isfinite().all() for tensor in saved.values())
    assert json.loads((tmp_path / "state" / "state.json").read_text())["step"] < trainer.state.step


def test_lost_number_is_noticed_before_it_is_evaluated_or_saved(tmp_path: Path) -> None:
    trainer = make(tmp_path, eval_interval=3, save_interval=2)
    seen: list[Evaluation] = []

    def spoil() -> bool:
        if trainer.state.step == 2:  # in the third step
            with torch.no_grad():
                next(trainer.model.parameters())[0, 0] = float("nan")
        return False

    with pytest.raises(TrainingError, match="at step 3"):
        run(trainer, seen.append, spoil)
    assert not seen
    assert read_state(tmp_path).step == 2


def test_validation_loss_that_is_no_number_ends_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script_losses(monkeypatch, [float("nan")])
    seen: list[Evaluation] = []
    with pytest.raises(TrainingError, match="at step 2: the run diverged"):
        run(make(tmp_path, eval_interval=2, eval_windows=1), seen.append)
    assert not seen


def test_resume_refuses_what_cannot_go_on(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no saved state to resume from; start the run without --resume"):
        make(tmp_path).resume()
    run(make(tmp_path))
    with pytest.raises(TrainingError, match=r"max_steps is 9, but the run has made 10 steps.*--max-steps 10 or more"):
        make(tmp_path, max_steps=9).resume()
    with pytest.raises(TrainingError, match="not of this run's model"):
        make(tmp_path, embed_dim=32).resume()
    state = tmp_path / "state" / "state.json"
    fields = json.loads(state.read_text())
    state.write_text(json.dumps({**fields, "world_size": 2}))
    with pytest.raises(TrainingError, match=r"made by 2 processes, but there are 1 now.*--nproc_per_node=2"):
        make(tmp_path).resume()


@pytest.mark.parametrize(("stopped_at", "max_steps"), [(7, 9), (7, 30), (3, 4), (5, 30)])
def test_more_or_fewer_steps_leave_the_short_windows_where_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped_at: int, max_steps: int
) -> None:
    """The run began with 10 steps, of which 5 are short; a position that no sampler has ends no run in a loop."""
    settings: dict[str, Any] = {"short_sequence_dim": 4, "short_fraction": 0.5}
    trainer = make(tmp_path, **settings)
    run(trainer, should_stop=lambda: trainer.state.step + 1 >= stopped_at)
    assert trainer.state.step == stopped_at
    resumed = make(tmp_path, **settings, max_steps=max_steps)
    resumed.resume()
    shapes = watch_batches(resumed, monkeypatch)
    outcome, _ = run(resumed)
    assert outcome == "finished"
    short = max(0, min(5, max_steps) - stopped_at)
    assert shapes == [(16, 4)] * short + [(4, 16)] * (max_steps - stopped_at - short)


def test_text_too_short_for_the_long_windows_is_refused_at_once(tmp_path: Path) -> None:
    config = TrainConfig(**{**SMALL, "sequence_dim": 64, "short_sequence_dim": 4})
    ids = torch.tensor(TOKENIZER.encode(TEXT))
    with pytest.raises(CorpusError, match="sequence_dim = 64"):
        Trainer(config, make_model(config), TOKENIZER, ids[:100], ids[100:], tmp_path, ProcessGroup({}, "gloo"))


def test_patience_begins_with_the_long_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script_losses(monkeypatch, [1.0, *[2.0] * 20])
    trainer = make(
        tmp_path, max_steps=20, eval_interval=1, eval_windows=1, patience=3, short_sequence_dim=4, short_fraction=0.5
    )
    outcome, _ = run(trainer)
    assert outcome == "early stop"
    assert trainer.state.step == 13


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_muon_iterates_in_the_precision_of_the_products(tmp_path: Path, precision: str) -> None:
    trainer = make(tmp_path, precision=precision, muon_learning_rate=0.02)
    muon = next(optimizer for optimizer in trainer._optimizers if isinstance(optimizer, Muon))
    assert muon._dtype == getattr(torch, precision)
