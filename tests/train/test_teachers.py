"""Teachers: the mean of several models' probabilities, and runs that learn it besides their text."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from gpt.checkpoint import load_checkpoint
from gpt.config import GPTConfig
from gpt.errors import ConfigError
from gpt.model import GPT
from tests.train.tiny_run import ROOT, SHORT, assert_same_run, at_step, essence, one_sentence, options, resume_options
from tests.train.tiny_run import train as train_here
from train.corpus import load_corpus
from train.estimate import estimate
from train.presets import PRESETS
from train.teachers import SoftTargets, Teachers

CPU = torch.device("cpu")


def models(count: int) -> list[GPT]:
    torch.manual_seed(3)
    config = GPTConfig(vocab_dim=17, sequence_dim=8, embed_dim=8, num_heads=2, num_layers=1, dropout=0.5)
    made = [GPT.from_config(config) for _ in range(count)]
    return [model.train() for model in made]


def test_probabilities_are_the_mean_of_what_the_models_say_without_dropout() -> None:
    three = models(3)
    inputs = torch.randint(17, (4, 8))
    targets = Teachers(three).soft_targets(inputs)
    found = torch.cat([targets(slice(0, 5)), targets(slice(5, 40))])
    assert found.shape == (32, 17) and found.dtype == torch.float32 and not found.requires_grad
    with torch.no_grad():
        expected = sum(model.eval()(inputs).double().softmax(dim=-1) for model in three) / 3
    torch.testing.assert_close(found.double(), torch.as_tensor(expected).reshape(32, 17))
    torch.testing.assert_close(found.sum(dim=1), torch.ones(32))


def test_bfloat16_products_stay_near() -> None:
    teachers, inputs = Teachers(models(2)), torch.randint(17, (4, 8))
    low, exact = (teachers.soft_targets(inputs, dtype)(slice(None)) for dtype in (torch.bfloat16, torch.float32))
    assert low.dtype == torch.float32 and not torch.equal(low, exact)
    torch.testing.assert_close(low, exact, atol=5e-3, rtol=0)
    torch.testing.assert_close(low.sum(dim=1), torch.ones(32))


def test_teachers_of_another_vocabulary_or_a_shorter_context_are_refused(whole: Path) -> None:
    best = str(whole / "best")
    checkpoint = load_checkpoint(best)
    context = checkpoint.model.config.sequence_dim
    assert Teachers.load(best, checkpoint.tokenizer, context, CPU).sha256
    other = load_checkpoint(ROOT / "checkpoints" / "laptop").tokenizer
    with pytest.raises(
        ConfigError, match=r"teachers has .*best, whose vocabulary \(character, .*is not the run's \(bpe"
    ):
        Teachers.load(best, other, context, CPU)
    with pytest.raises(ConfigError, match=rf"whose context of {context} tokens is shorter than .* {context + 1}; give"):
        Teachers.load(best, checkpoint.tokenizer, context + 1, CPU)
    with pytest.raises(ConfigError, match="teachers is ' , ', which names none"):
        Teachers.load(" , ", checkpoint.tokenizer, context, CPU)
    with pytest.raises(ConfigError, match="teachers has nowhere: there is no checkpoint"):
        Teachers.load(f"{best}, nowhere", checkpoint.tokenizer, context, CPU)


def test_teachers_are_named_by_their_weights(whole: Path) -> None:
    best, tokenizer = str(whole / "best"), load_checkpoint(whole / "best").tokenizer
    names = (best, str(whole), f"{best}, {best}")
    one, of_the_run, two = (Teachers.load(name, tokenizer, 8, CPU).sha256 for name in names)
    assert one == of_the_run != two


@pytest.fixture(scope="module")
def taught(whole: Path, text: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """The settings of a run that learns from `whole`, and its folder."""
    settings = {**SHORT, "teachers": whole / "best", "teacher_weight": 0.9, "seed": 2}
    out = tmp_path_factory.mktemp("taught") / "run"
    assert train_here(*options(out, text, **settings)) == 0
    return settings, out


def test_run_learns_from_teachers(taught: tuple[dict[str, Any], Path], text: Path, tmp_path: Path) -> None:
    settings, out = taught
    for name, weight in (("without-weight", 0.0), ("without-teachers", 0.9)):
        changed: dict[str, Any] = {**settings, "teacher_weight": weight}
        if name == "without-teachers":
            del changed["teachers"]
        assert train_here(*options(tmp_path / name, text, **changed)) == 0
    nothing, alone = essence(tmp_path / "without-weight"), essence(tmp_path / "without-teachers")
    weights = "state/model.safetensors"
    assert nothing[weights] == alone[weights], "teachers without weight change nothing, no generator either"
    assert essence(out)[weights] != alone[weights]
    card = (out / "best" / "README.md").read_text()
    assert f"- Teachers, the mean of whose probabilities is 90% of every target:\n  {settings['teachers']}.\n" in card
    assert "Teachers" not in (tmp_path / "without-teachers" / "best" / "README.md").read_text()


def test_a_student_believes_a_teacher_rather_than_the_text(
    whole: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vocab_dim = load_checkpoint(whole / "best").model.config.vocab_dim

    def always_five(self: SoftTargets, rows: slice) -> torch.Tensor:
        return F.one_hot(torch.full(self._parts[0][0][rows].shape[:1], 5), vocab_dim).float()

    monkeypatch.setattr(SoftTargets, "__call__", always_five)
    settings = {**SHORT, "eval_interval": 100, "teachers": whole / "best", "teacher_weight": 1}
    assert train_here(*options(tmp_path / "run", text, **settings)) == 0
    model = load_checkpoint(tmp_path / "run" / "best").model
    with torch.no_grad():
        found = model(torch.randint(model.config.vocab_dim, (16, model.config.sequence_dim))).softmax(dim=-1)
    assert found[..., 5].min() > 0.3, "after 24 steps; the text has this character nowhere near as often"


def test_stopped_run_goes_on_bit_for_bit_with_its_teachers(
    taught: tuple[dict[str, Any], Path], text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, whole_run = taught
    out = tmp_path / "run"
    at_step(monkeypatch, 9, lambda: os.kill(os.getpid(), signal.SIGINT))
    assert train_here(*options(out, text, **settings)) == 130
    monkeypatch.undo()
    assert train_here(*resume_options(out)) == 0
    assert_same_run(out, whole_run)


def test_run_does_not_go_on_with_other_teachers(
    whole: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher, other, out = tmp_path / "teacher", tmp_path / "other", tmp_path / "run"
    shutil.copytree(whole / "best", teacher)
    assert train_here(*options(other, text, **SHORT, seed=3)) == 0
    at_step(monkeypatch, 3, lambda: os.kill(os.getpid(), signal.SIGINT))
    assert train_here(*options(out, text, **SHORT, teachers=teacher)) == 130
    monkeypatch.undo()
    capsys.readouterr()
    shutil.rmtree(teacher)
    shutil.copytree(other / "best", teacher)
    assert train_here(*resume_options(out)) == 1
    assert f"the teachers {teacher} have not the weights with which the run in {out} began" in one_sentence(capsys)
    assert train_here(*resume_options(out, teachers="")) == 1
    assert one_sentence(capsys).startswith("the teachers (none) have not the weights with which the run in")
    shutil.rmtree(teacher)
    assert train_here(*resume_options(out)) == 2
    assert one_sentence(capsys).startswith(f"teachers has {teacher}: ")
    assert json.loads((out / "state" / "state.json").read_text())["step"] == 3
    assert train_here(*resume_options(out, teachers=whole)) == 0, "they have moved, and are the same"


def test_estimate_counts_the_teachers(whole: Path, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.Size] = []
    answer = Teachers.soft_targets

    def counted(self: Teachers, inputs: torch.Tensor, dtype: torch.dtype = torch.float32) -> SoftTargets:
        asked.append(inputs.shape)
        return answer(self, inputs, dtype)

    monkeypatch.setattr(Teachers, "soft_targets", counted)
    config = PRESETS["tiny"].config.with_changes(teachers=str(whole / "best"), data=str(text))
    estimate(config, load_corpus(str(text), text.parent, min_characters=100), CPU, budget_s=0.01)
    assert asked and set(asked) == {torch.Size((config.batch_size, config.sequence_dim))}
    short = config.with_changes(sequence_dim=2 * config.sequence_dim)
    with pytest.raises(ConfigError, match=r"teachers has .* is shorter than the run's sequence_dim"):
        estimate(short, load_corpus(str(text), text.parent, min_characters=100), CPU, budget_s=0.01)


def test_accumulated_steps_learn_the_same_from_teachers(whole: Path, text: Path, tmp_path: Path) -> None:
    settings = {**SHORT, "max_steps": 4, "dropout": 0, "teachers": whole / "best", "muon_learning_rate": 0}
    for name, batch, count in (("one", 8, 1), ("two", 4, 2)):
        changed = {**settings, "batch_size": batch, "accumulation_steps": count}
        assert train_here(*options(tmp_path / name, text, **changed)) == 0
    one, two = (load_file(tmp_path / name / "state" / "model.safetensors") for name in ("one", "two"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=0, atol=1e-4)


def test_bfloat16_learns_nearly_the_same_from_teachers(whole: Path, text: Path, tmp_path: Path) -> None:
    settings = {**SHORT, "max_steps": 4, "eval_interval": 4, "dropout": 0, "teachers": whole / "best"}
    losses = {}
    for precision in ("float32", "bfloat16"):
        out = tmp_path / precision
        assert train_here(*options(out, text, **settings, precision=precision)) == 0
        losses[precision] = json.loads((out / "best" / "record.json").read_text())["curve"][-1]["val_loss"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.02)
    assert losses["bfloat16"] != losses["float32"]
