"""Runs: what their folder holds in the end, and what does not change it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import train.trainer
from gpt.checkpoint import list_checkpoints, load_checkpoint
from tests.train.tiny_run import SHORT, at_step, essence, metrics, one_sentence, options
from tests.train.tiny_run import train as train_here
from train.config import TrainConfig
from train.distributed import ProcessGroup
from train.metrics import validation_tokens, window_nats
from train.presets import PRESETS
from train.run import Run


def test_folder_has_what_the_page_and_a_person_read(whole: Path) -> None:
    assert sorted(path.name for path in whole.iterdir()) == [
        "best",
        "config.json",
        "metrics.jsonl",
        "samples.jsonl",
        "state",
        "status.json",
        "train.log",
    ]
    config = TrainConfig.from_json((whole / "config.json").read_text())
    assert (config.preset, config.max_steps, config.dropout) == ("tiny", 24, PRESETS["tiny"].config.dropout)
    lines = metrics(whole)
    assert [(line["step"], "val_loss" in line) for line in lines] == [
        (1, False),
        (7, True),
        (10, False),
        (14, True),
        (20, False),
        (21, True),
        (24, True),
    ]
    steps = [line for line in lines if "val_loss" not in line]
    assert all(line["tokens"] == line["step"] * 8 * 32 and line["tokens_per_second"] > 0 for line in steps)
    log = (whole / "train.log").read_text()
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d from step 0 of 24: python -m train --preset tiny", log)
    assert "step 14: training loss" in log
    assert log.rstrip().endswith("finished at step 24")


def test_best_checkpoint_has_its_record_card_and_figures(whole: Path, text: Path) -> None:
    checkpoint = load_checkpoint(whole / "best")
    record = checkpoint.record
    assert (record.preset, record.corpus, record.corpus_characters) == ("tiny", "text.txt", 6000)
    assert (record.steps, record.tokens, record.seed) == (24, 24 * 256, 1)
    assert [entry["step"] for entry in record.curve] == [7, 14, 21, 24]
    assert record.best_step == min(record.curve, key=lambda entry: entry["val_loss"])["step"]
    assert record.seconds > 0
    assert record.command.startswith("python -m train --preset tiny --out ")
    content = text.read_text(encoding="utf-8")
    tokens = validation_tokens(checkpoint.tokenizer, content[:5400], content[5400:])
    block, sliding = (window_nats(checkpoint.model, tokens, stride) / 600 for stride in (32, 16))
    assert record.nats_per_character == {
        "block": pytest.approx(block, abs=1e-4),
        "sliding": pytest.approx(sliding, abs=1e-4),
    }
    card = (whole / "best" / "README.md").read_text()
    assert f"{block:.4f}" in card
    assert record.command in card
    assert [info.name for info in list_checkpoints(whole.parent)] == ["run"]


def test_same_command_gives_the_same_bits_and_other_seeds_others(whole: Path, text: Path, tmp_path: Path) -> None:
    assert train_here(*options(tmp_path / "again", text, **SHORT, sample_tokens=0)) == 0
    again = {**essence(tmp_path / "again"), "config": None, "samples": None}
    assert again == {**essence(whole), "config": None, "samples": None}, "a sample must not change what is learnt"
    assert train_here(*options(tmp_path / "other", text, **SHORT, seed=2)) == 0
    assert essence(tmp_path / "other")["best/model.safetensors"] != essence(whole)["best/model.safetensors"]


def test_best_is_kept_apart_from_the_last(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([3.0, 2.0, 2.5, 2.4])
    monkeypatch.setattr(train.trainer, "token_nats", lambda model, windows: torch.tensor([[next(losses)]]))
    saved: list[dict[str, torch.Tensor]] = []
    at_step(monkeypatch, 16, lambda: saved.append(load_file(tmp_path / "run" / "best" / "model.safetensors")))
    assert train_here(*options(tmp_path / "run", text, **SHORT)) == 0
    assert load_checkpoint(tmp_path / "run" / "best").record.best_step == 14
    best, last = (load_file(tmp_path / "run" / name / "model.safetensors") for name in ("best", "state"))
    assert all(torch.equal(best[name], tensor) for name, tensor in saved[0].items())
    assert not all(torch.equal(best[name], tensor) for name, tensor in last.items())


def test_best_is_stored_as_asked(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert train_here(*options(out, text, max_steps=4, eval_interval=2, checkpoint_dtype="float16")) == 0
    assert {tensor.dtype for tensor in load_file(out / "best" / "model.safetensors").values()} == {torch.float16}
    assert {tensor.dtype for tensor in load_file(out / "state" / "model.safetensors").values()} == {torch.float32}


def test_ranks_start_from_the_same_weights_and_draw_other_dropout(text: Path, tmp_path: Path) -> None:
    """Each rank's own generator decides its dropout; the weights come from the seed alone."""
    found = []
    for rank in (0, 1):
        processes = ProcessGroup({"RANK": str(rank)}, "gloo")
        config = TrainConfig(preset="tiny", data=str(text), tokenizer="character", embed_dim=32)
        run = Run(
            config,
            tmp_path / str(rank),
            resume=False,
            data_root=text.parent,
            checkpoints_root=text.parent,
            tiktoken_cache=None,
            device=torch.device("cpu"),
            processes=processes,
            command="",
        )
        run.close()
        found.append((run.trainer.model.head.weight, torch.rand(4)))
    assert torch.equal(found[0][0], found[1][0])
    assert not torch.equal(found[0][1], found[1][1])
    assert (tmp_path / "0").exists()
    assert not (tmp_path / "1").exists(), "only the main process writes"


@pytest.mark.parametrize("tokenizer", ["character", "bpe"])
def test_character_that_only_the_validation_part_has_is_known(tmp_path: Path, text: Path, tokenizer: str) -> None:
    strange = tmp_path / "strange.txt"
    strange.write_text(text.read_text(encoding="utf-8") + "Ω, quoth he.\n", encoding="utf-8")
    out = tmp_path / "run"
    assert train_here(*options(out, strange, max_steps=2, eval_interval=1, tokenizer=tokenizer, vocab_dim=100)) == 0
    known = load_checkpoint(out / "best").tokenizer
    assert known.decode(known.encode("Ω")) == "Ω"


def test_vocabulary_that_a_poor_text_cannot_fill_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    poor = tmp_path / "poor.txt"
    poor.write_text("ab\n" * 400)
    out = tmp_path / "run"
    arguments = ["--preset", "laptop", "--data", str(poor), "--out", str(out), "--device", "cpu"]
    assert train_here(*arguments) == 1
    assert re.search(
        r"vocab_dim is 1024, .* gives at most \d+ tokens; give fewer, or a longer text", one_sentence(capsys)
    )
    assert not out.exists()
    poor.write_text("".join(chr(0x4E00 + index) for index in range(1200)) * 2)
    assert train_here(*arguments) == 1
    assert re.search(r"vocab_dim is 1024, .* 1200 distinct characters.*give at least 1200", one_sentence(capsys))


def test_sample_prompt_must_be_known(tmp_path: Path, text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_here(*options(tmp_path / "run", text, sample_prompt="no Ω")) == 1
    assert "--sample-prompt: the text has 'Ω' (U+03A9) at position 4" in one_sentence(capsys)
    assert not (tmp_path / "run").exists()


def test_text_without_line_breaks_is_sampled_from_its_first_character(tmp_path: Path) -> None:
    flat = tmp_path / "flat.txt"
    flat.write_text("all in one line and on and on " * 60)
    assert train_here(*options(tmp_path / "run", flat, max_steps=2)) == 0
