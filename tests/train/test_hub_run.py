"""Runs on a data set of a hub on this machine: pinned, resumed bit for bit, and the same as on the text as a file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import train.__main__
from gpt.checkpoint import load_checkpoint
from tests.gpt.hub.test_transformers_import import SHAKESPEARE, save_gpt2
from tests.loopback_hub import LoopbackHub
from tests.train.tiny_run import (
    SHORT,
    SONNETS,
    assert_same_run,
    at_step,
    metrics,
    one_sentence,
    options,
    resume_options,
)
from tests.train.tiny_run import train as train_here
from train import evaluate, token_shards
from train.control import PAUSE_FILE, ask

TEXT = SONNETS.read_text(encoding="utf-8")[:6000]
NAME = "hf:someone/verse"


@pytest.fixture
def root(tmp_path: Path, loopback: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in the repository's place, and a data set of two files on the hub."""
    monkeypatch.setattr(train.__main__, "ROOT", tmp_path)
    monkeypatch.setattr(evaluate, "ROOT", tmp_path)
    (tmp_path / "checkpoints").mkdir()
    half = TEXT.index("\n\n", 2000)
    loopback.add("someone/verse", {"a.txt": TEXT[:half].encode(), "b.txt": TEXT[half + 2 :].encode()}, "datasets")
    yield tmp_path


def option(out: Path, data: object = NAME, **settings: object) -> list[str]:
    return options(out, data, **{**SHORT, **settings})  # type: ignore[arg-type]


def test_run_learns_the_same_as_from_a_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_shards, "SHARD_TOKENS", 500)
    (root / "verse.txt").write_text(TEXT, encoding="utf-8")
    assert train_here(*option(root / "hub")) == 0
    assert train_here(*option(root / "file", root / "verse.txt")) == 0
    for one, other in zip(metrics(root / "hub"), metrics(root / "file"), strict=True):
        assert one.get("val_loss") == other.get("val_loss") and one.get("train_loss") == other.get("train_loss")
    records = [load_checkpoint(root / name / "best").record for name in ("hub", "file")]
    assert records[0].corpus_sha256 == records[1].corpus_sha256
    assert records[0].nats_per_character == records[1].nats_per_character
    assert records[0].corpus_characters == records[1].corpus_characters == len(TEXT)


def test_resumed_run_is_bit_identical_though_the_data_set_went_on(
    root: Path, loopback: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train_here(*option(root / "whole")) == 0
    pinned = json.loads((root / "whole" / "config.json").read_text())["data"]
    assert pinned.startswith(f"{NAME}@") and load_checkpoint(root / "whole" / "best").record.corpus == pinned
    with monkeypatch.context() as patch:
        at_step(patch, 9, lambda: ask(root / "part", PAUSE_FILE))
        assert train_here(*option(root / "part")) == 130
    loopback.repositories["datasets", "someone/verse"].commit({"a.txt": b"another text altogether"})
    loopback.asked.clear()
    assert train_here(*resume_options(root / "part")) == 0
    assert loopback.asked == []  # the shards are there, and nobody is asked
    assert_same_run(root / "whole", root / "part")


def test_shards_are_made_once(root: Path, loopback: LoopbackHub, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_here(*option(root / "one", max_steps=2)) == 0
    assert "Tokenizing someone/verse: 100%" in capsys.readouterr().err
    assert train_here(*option(root / "two", max_steps=2)) == 0
    assert "Tokenizing" not in capsys.readouterr().err


def test_damaged_shard_is_one_sentence(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_here(*option(root / "one", max_steps=2)) == 0
    shard = next((root / "data" / "hub").rglob("00000.bin"))
    shard.write_bytes(b"\0\0" + shard.read_bytes()[2:])
    capsys.readouterr()
    assert train_here(*option(root / "two", max_steps=2)) == 1
    assert "00000.bin is missing or damaged; delete the folder" in one_sentence(capsys)


def test_wrong_name_is_one_sentence_and_leaves_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_here(*option(root / "run", "hf:someone/nothing")) == 1
    assert "hf:someone/nothing cannot be had" in one_sentence(capsys)
    assert train_here(*option(root / "run", "hf:someone")[:-2], "--estimate") in (1, 2)
    assert not (root / "run").exists()


def test_checkpoint_is_evaluated_on_the_same_part(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_here(*option(root / "run")) == 0
    capsys.readouterr()
    assert evaluate.main([str(root / "run" / "best"), "--data", NAME, "--protocols", "block,sliding"]) == 0
    printed = capsys.readouterr().out
    for name, figure in load_checkpoint(root / "run" / "best").record.nats_per_character.items():
        assert f"{name:<10} {figure:.4f} nats per character" in printed


def test_gpt2_is_imported_and_fine_tuned_by_its_preset(root: Path, loopback: LoopbackHub, tmp_path: Path) -> None:
    save_gpt2(tmp_path / "theirs")
    files = {path.name: path.read_bytes() for path in (tmp_path / "theirs").iterdir()}
    loopback.add("openai-community/gpt2", files | {"merges.txt": (SHAKESPEARE / "vocab.bpe").read_bytes()})
    short = ["--max-steps", "2", "--eval-windows", "4", "--sample-tokens", "2", "--accumulation-steps", "1"]
    common = ["--preset", "gpt2-shakespeare", "--device", "cpu", "--data", str(root / "verse.txt")]
    (root / "verse.txt").write_text(TEXT, encoding="utf-8")
    assert train_here(*common, *short, "--out", str(root / "run")) == 0
    config = json.loads((root / "run" / "config.json").read_text())
    assert (config["learning_rate"], config["embed_dim"], config["sequence_dim"]) == (3e-5, 24, 64)
    before, after = (load_checkpoint(root / name) for name in ("checkpoints/gpt2", "run/best"))
    assert after.config.tie_head and after.config.activation == before.config.activation == "gelu_tanh"
    loopback.asked.clear()
    shutil.rmtree(root / "run")
    assert train_here(*common, *short, "--out", str(root / "run"), "--init", "gpt2") == 0
    assert loopback.asked == []  # it is here now


def test_tokens_on_disk_cannot_be_spelt_anew(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_here(*option(root / "run", bpe_dropout=0.1, tokenizer="bpe", vocab_dim=100)) == 2
    said = capsys.readouterr().err
    assert "bpe_dropout is 0.1, but the tokens of" in said
    assert "give 0, or a text file" in said
