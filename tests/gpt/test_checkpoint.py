"""Checkpoints: what is saved is what is loaded, and anything else is one clear error."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

import gpt.checkpoint
from gpt.checkpoint import TrainingRecord, list_checkpoints, load_checkpoint, save_checkpoint
from gpt.checkpoint_info import read_config
from gpt.config import GPTConfig
from gpt.errors import CheckpointError
from gpt.model import GPT
from gpt.tokenizer import CharacterTokenizer

TOKENIZER = CharacterTokenizer("abcdefgh")
CONFIG = GPTConfig(vocab_dim=8, sequence_dim=6, embed_dim=8, num_heads=2, num_layers=2)
TIED = GPTConfig(
    **{**vars(CONFIG), "tie_head": True, "head_bias": False, "rotary": True, "qk_norm": True, "norm_bias": False}
)
IDS = torch.arange(6).view(1, 6)
RECORD = TrainingRecord(preset="tiny", steps=3, nats_per_character={"block": 2.0})


def make_model(config: GPTConfig = CONFIG, seed: int = 0) -> GPT:
    torch.manual_seed(seed)
    model = GPT.from_config(config)
    with torch.no_grad():  # zero biases could be lost and not be missed
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model.eval()


def logits(model: nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        return model(IDS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "checkpoint", make_model(), TOKENIZER, RECORD)
    return tmp_path / "checkpoint"


@pytest.mark.parametrize("config", [CONFIG, TIED])
def test_save_then_load_gives_the_same_model(tmp_path: Path, config: GPTConfig) -> None:
    model = make_model(config)
    save_checkpoint(tmp_path / "c", model.train(), TOKENIZER, RECORD, card="# A model")
    loaded = load_checkpoint(tmp_path / "c")
    assert loaded.config == config and loaded.record == RECORD
    assert loaded.tokenizer.encode("fad") == [5, 0, 3]
    assert loaded.stored_dtype == torch.float32
    assert not loaded.model.training
    assert (tmp_path / "c" / "README.md").read_text() == "# A model"
    assert torch.equal(logits(loaded.model), logits(model.eval()))
    assert loaded.model.num_parameters() == model.num_parameters()
    assert not any(tensor.is_meta for tensor in [*loaded.model.parameters(), *loaded.model.buffers()])
    loaded.model(IDS).sum().backward()  # it can be trained further
    assert all(parameter.grad is not None for parameter in loaded.model.parameters())


def test_tied_head_stays_one_parameter_and_is_stored_once(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", make_model(TIED), TOKENIZER)
    assert "head.weight" not in load_file(tmp_path / "c" / "model.safetensors")
    model = load_checkpoint(tmp_path / "c").model
    assert model.head.weight is model.token_embedding.weight


def test_record_and_card_are_optional(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", make_model(), TOKENIZER)
    assert sorted(os.listdir(tmp_path / "c")) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert load_checkpoint(tmp_path / "c").record == TrainingRecord()


def test_half_precision_rounds_once_and_comes_back_exactly(tmp_path: Path) -> None:
    model = make_model()
    save_checkpoint(tmp_path / "once", model, TOKENIZER, dtype=torch.float16)
    loaded = load_checkpoint(tmp_path / "once")
    assert loaded.stored_dtype == torch.float16
    for name, parameter in loaded.model.named_parameters():
        assert parameter.dtype == torch.float32
        assert torch.equal(parameter, model.get_parameter(name).half().float())
    assert not torch.equal(logits(loaded.model), logits(model))
    save_checkpoint(tmp_path / "twice", loaded.model, TOKENIZER, dtype=torch.float16)
    assert (tmp_path / "twice" / "model.safetensors").read_bytes() == (
        tmp_path / "once" / "model.safetensors"
    ).read_bytes()
    assert all(p.dtype == torch.float32 for p in model.parameters())  # the model at hand is not rounded


def test_half_precision_refuses_weights_that_overflow(tmp_path: Path) -> None:
    model = make_model()
    with torch.no_grad():
        model.head.bias[0] = 1e6
    with pytest.raises(CheckpointError, match=r"head.bias has a weight of 1e\+06, too large for torch.float16"):
        save_checkpoint(tmp_path / "c", model, TOKENIZER, dtype=torch.float16)


class Compiled(nn.Module):
    """Names its parameters as torch.compile's result does, without the seconds that importing the compiler takes."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._orig_mod = module


def test_wrapped_models_are_saved_under_the_inner_names(tmp_path: Path) -> None:
    model = make_model()
    wrapped = Compiled(nn.DataParallel(model))
    assert next(iter(wrapped.state_dict())).startswith("_orig_mod.module.")
    save_checkpoint(tmp_path / "c", wrapped, TOKENIZER)
    assert set(load_file(tmp_path / "c" / "model.safetensors")) == set(model.state_dict())


def test_save_refuses_what_is_no_gpt(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="the model is a Linear; a checkpoint holds a GPT"):
        save_checkpoint(tmp_path / "c", nn.Linear(2, 2), TOKENIZER)


def test_save_refuses_another_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="the tokenizer has 2 tokens, but the model's vocab_dim is 8"):
        save_checkpoint(tmp_path / "c", make_model(), CharacterTokenizer("ab"))
    assert not (tmp_path / "c").exists()


def test_first_loading_in_a_process_is_fast_and_draws_no_random_numbers(tmp_path: Path) -> None:
    config = GPTConfig(vocab_dim=8, sequence_dim=64, embed_dim=512, num_heads=8, num_layers=3)  # 9.5M
    save_checkpoint(tmp_path / "c", GPT.from_config(config), TOKENIZER, dtype=torch.float16)
    program = (
        "import sys, time, torch; from gpt import load_checkpoint;"
        "state, started = torch.get_rng_state(), time.process_time();"  # others' work does not count
        "load_checkpoint(sys.argv[1]);"
        "print(time.process_time() - started, torch.equal(torch.get_rng_state(), state))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "c")]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    seconds, unchanged = done.stdout.split()
    assert float(seconds) < 0.5
    assert unchanged == "True"


def test_loaded_weights_do_not_hang_on_the_file(folder: Path) -> None:
    loaded = load_checkpoint(folder)
    before = logits(loaded.model)
    size = (folder / "model.safetensors").stat().st_size
    (folder / "model.safetensors").write_bytes(bytes(size))
    assert torch.equal(logits(loaded.model), before)


def test_weights_file_has_the_rights_of_the_others(folder: Path) -> None:
    assert (folder / "model.safetensors").stat().st_mode == (folder / "config.json").stat().st_mode


def break_config(folder: Path, **changes: Any) -> None:
    fields = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**fields, **changes}))


def break_weights(folder: Path, **changes: torch.Tensor | None) -> None:
    tensors = {**load_file(folder / "model.safetensors"), **changes}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, folder / "model.safetensors")


def truncate(folder: Path, size: int) -> None:
    os.truncate(folder / "model.safetensors", size)


def save_pickle(folder: Path, zipped: bool) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(folder / "ran"),)

    if zipped:
        torch.save({"weight": torch.ones(1), "evil": Evil()}, folder / "model.safetensors")
    else:
        (folder / "model.safetensors").write_bytes(pickle.dumps(Evil(), protocol=2))


NORM = "norm.weight"
FAILURES: dict[str, tuple[Any, str]] = {
    "no folder": (shutil.rmtree, "there is no checkpoint .*checkpoint; give the folder"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "has no model.safetensors; copy"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "has no config.json; copy"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "has no tokenizer.json; copy"),
    "truncated header": (lambda folder: truncate(folder, 100), "model.safetensors is truncated or no safetensors"),
    "truncated weights": (lambda folder: truncate(folder, 3000), "model.safetensors is truncated or no safetensors"),
    "empty": (lambda folder: truncate(folder, 0), "model.safetensors is truncated or no safetensors"),
    "text": (lambda folder: (folder / "model.safetensors").write_text("weights"), "truncated or no safetensors"),
    "pickle": (lambda folder: save_pickle(folder, zipped=False), "is a pickle, .* it is not opened"),
    "torch.save": (lambda folder: save_pickle(folder, zipped=True), "is a pickle, .* it is not opened"),
    "missing": (lambda folder: break_weights(folder, **{NORM: None}), f"lacks weights .*asks for: {NORM}$"),
    "unexpected": (
        lambda folder: break_weights(folder, more=torch.ones(1)),
        "has weights that config.json does not ask for: more$",
    ),
    "all names prefixed": (
        lambda folder: save_file(
            {f"module.{name}": t for name, t in load_file(folder / "model.safetensors").items()},
            folder / "model.safetensors",
        ),
        r"lacks weights that config.json asks for: blocks.0.linear1.bias, .* and \d+ more$",
    ),
    "shape": (
        lambda folder: break_weights(folder, **{NORM: torch.ones(9)}),
        r"norm.weight is \(9,\) instead of \(8,\)",
    ),
    "other config": (
        lambda folder: break_config(folder, sequence_dim=7),
        r"position_embedding.weight is \(6, 8\) instead of \(7, 8\)",
    ),
    "integers": (
        lambda folder: break_weights(folder, **{NORM: torch.ones(8, dtype=torch.int64)}),
        "no floating-point numbers: norm.weight",
    ),
    "vocab_dim": (
        lambda folder: break_config(folder, vocab_dim=9),
        "the tokenizer has 8 tokens, but the model's vocab_dim is 9",
    ),
    "config not JSON": (
        lambda folder: (folder / "config.json").write_text("{"),
        "config.json is not a model's configuration: the configuration is not JSON",
    ),
    "config out of range": (
        lambda folder: break_config(folder, num_heads=3),
        "config.json is not a model's configuration: embed_dim is 8, which num_heads = 3",
    ),
    "config not UTF-8": (
        lambda folder: (folder / "config.json").write_bytes(b"\xff"),
        "config.json cannot be read",
    ),
    "tokenizer": (
        lambda folder: (folder / "tokenizer.json").write_text('{"kind": "words"}'),
        "the tokenizer of the checkpoint .*checkpoint cannot be loaded: .*its kind is none of",
    ),
    "record": (lambda folder: (folder / "record.json").write_text("{"), "record.json is damaged: .*not JSON"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_load_refuses_with_one_clear_error(folder: Path, failure: str) -> None:
    damage, message = FAILURES[failure]
    damage(folder)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)
    assert not (folder / "ran").exists()
    if failure not in ("shape", "missing", "unexpected", "all names prefixed", "other config", "integers", "vocab_dim"):
        assert list_checkpoints(folder.parent) == []


def assert_untouched(folder: Path) -> None:
    """The old checkpoint is whole, and nothing lies beside it."""
    assert torch.equal(logits(load_checkpoint(folder).model), logits(make_model()))
    assert os.listdir(folder.parent) == [folder.name]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(28, "No space left on device"), r"cannot be written \(No space left on device\); free some space"),
        (SafetensorError("I/O error: No space left"), r"cannot be written \(I/O error: No space left\)"),
    ],
)
def test_save_on_a_full_disk_keeps_the_old_checkpoint(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def fail(tensors: Any, path: Path, metadata: Any) -> None:
        path.write_bytes(b"half")
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(gpt.checkpoint, "save_file", fail)
        with pytest.raises(CheckpointError, match=message):
            save_checkpoint(folder, make_model(seed=1), TOKENIZER)
    assert_untouched(folder)


def test_save_keeps_the_old_checkpoint_when_the_system_refuses_bytes(folder: Path) -> None:
    resource = pytest.importorskip("resource", reason="limits on file sizes are set through Unix's resource module")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))  # the weights are larger, the other files smaller
    try:
        with pytest.raises(CheckpointError, match=r"cannot be written \(.*large"):
            save_checkpoint(folder, make_model(seed=1), TOKENIZER)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_untouched(folder)


def test_save_keeps_the_old_checkpoint_when_renaming_fails(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", fail)
        with pytest.raises(
            CheckpointError, match=r"cannot be written \(Permission denied\).*change the folder's rights"
        ):
            save_checkpoint(folder, make_model(seed=1), TOKENIZER)
    assert_untouched(folder)


def test_save_refuses_a_place_under_a_file(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be written"):
        save_checkpoint(folder / "config.json" / "c", make_model(), TOKENIZER)
    with pytest.raises(CheckpointError, match=r"config.json is a file; give a folder"):
        save_checkpoint(folder / "config.json", make_model(), TOKENIZER)
    assert_untouched(folder)


def test_save_refuses_to_replace_other_peoples_files(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("{}")
    with pytest.raises(CheckpointError, match=r"holds other things than a checkpoint: metrics.jsonl; give another"):
        save_checkpoint(tmp_path, make_model(), TOKENIZER)
    assert (tmp_path / "metrics.jsonl").exists()


def test_load_and_list_heal_a_crash_between_the_renames(folder: Path) -> None:
    os.rename(folder, folder.with_name("checkpoint.previous"))
    assert [info.name for info in list_checkpoints(folder.parent)] == ["checkpoint"]
    os.rename(folder, folder.with_name("checkpoint.previous"))
    assert_untouched(folder)


def test_load_repeats_when_the_folder_is_replaced_meanwhile(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    larger = GPTConfig(**{**vars(CONFIG), "embed_dim": 16})
    reads = []

    def replace_after_reading(path: Path) -> GPTConfig:
        config = read_config(path)
        reads.append(config)
        if len(reads) == 1:
            save_checkpoint(path, make_model(larger), TOKENIZER)
        return config

    monkeypatch.setattr(gpt.checkpoint, "read_config", replace_after_reading)
    loaded = load_checkpoint(folder)
    assert len(reads) == 2
    assert loaded.config == larger and torch.equal(logits(loaded.model), logits(make_model(larger)))
