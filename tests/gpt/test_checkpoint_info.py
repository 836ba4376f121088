"""The list of checkpoints: what each is, read without its weights."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from gpt.checkpoint import TrainingRecord, list_checkpoints, load_checkpoint, save_checkpoint
from gpt.config import GPTConfig
from gpt.errors import CheckpointError
from gpt.model import GPT
from gpt.tokenizer import CharacterTokenizer

TOKENIZER = CharacterTokenizer("abcdefgh")
CONFIG = GPTConfig(vocab_dim=8, sequence_dim=6, embed_dim=8, num_heads=2, num_layers=2)
TIED = GPTConfig(**{**vars(CONFIG), "tie_head": True, "head_bias": False})
RECORD = TrainingRecord(preset="tiny", steps=3, nats_per_character={"block": 2.0})


def test_folder_of_a_run_is_told_from_a_checkpoint(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "run" / "best", GPT.from_config(CONFIG), TOKENIZER)
    with pytest.raises(CheckpointError, match=f"is the folder of a run, not a checkpoint; give {tmp_path}/run/best"):
        load_checkpoint(tmp_path / "run")


def test_list_shows_checkpoints_and_best_of_runs_by_name(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "zebra", GPT.from_config(TIED), TOKENIZER)
    save_checkpoint(tmp_path / "run" / "best", GPT.from_config(CONFIG), TOKENIZER, RECORD, dtype=torch.float16)
    save_checkpoint(tmp_path / "run" / "last", GPT.from_config(CONFIG), TOKENIZER)
    (tmp_path / "run" / "metrics.jsonl").write_text("{}")
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("")
    shutil.copytree(tmp_path / "zebra", tmp_path / ".hidden.partial")
    run, zebra = list_checkpoints(tmp_path)
    assert (run.name, run.folder) == ("run", tmp_path / "run" / "best")
    assert (zebra.name, zebra.folder) == ("zebra", tmp_path / "zebra")
    assert (run.config, run.record, run.tokenizer_kind) == (CONFIG, RECORD, "character")
    assert zebra.record == TrainingRecord()
    for info in (run, zebra):
        assert info.parameters == GPT.from_config(info.config).num_parameters()
        assert info.size_bytes == sum(path.stat().st_size for path in info.folder.iterdir())


def test_list_loads_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path / "c", GPT.from_config(CONFIG), TOKENIZER)
    opened: list[Any] = []

    class HeaderOnly:
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._file = safe_open(*args, **kwargs)

        def __enter__(self) -> HeaderOnly:
            opened.append(self._file.__enter__())
            return self

        def __exit__(self, *args: Any) -> None:
            self._file.__exit__(*args)

        def keys(self) -> list[str]:
            return opened[0].keys()

        def get_slice(self, name: str) -> Any:
            return opened[0].get_slice(name)

    monkeypatch.setattr("gpt.checkpoint_info.safe_open", HeaderOnly)
    assert len(list_checkpoints(tmp_path)) == 1 and len(opened) == 1


def test_list_of_a_missing_root_is_empty(tmp_path: Path) -> None:
    assert list_checkpoints(tmp_path / "none") == []


def test_reference_configurations_have_their_parameter_counts_in_the_list(tmp_path: Path) -> None:
    characters = CharacterTokenizer("".join(map(chr, range(0x10000, 0x10000 + 50257))))
    config = GPTConfig(vocab_dim=50257, sequence_dim=100, embed_dim=78, num_heads=13, num_layers=4)
    save_checkpoint(tmp_path / "shakespeare", GPT.from_config(config), characters, dtype=torch.float16)
    (info,) = list_checkpoints(tmp_path)
    assert info.parameters == 8_193_457
    assert info.size_bytes < 17_000_000
