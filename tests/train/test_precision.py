"""Which number type products are made in: bfloat16 only where the device has instructions for it."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

import pytest
import torch

from tests.train.test_trainer import make
from train.config import TrainConfig
from train.precision import faster_precision, resolve_precision

CPU = torch.device("cpu")


def has(monkeypatch: pytest.MonkeyPatch, *, avx512_bf16: bool = False, amx: bool = False) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)


@pytest.mark.parametrize("features", [{"avx512_bf16": True}, {"amx": True}])
def test_processor_with_instructions_for_it_gets_bfloat16(
    monkeypatch: pytest.MonkeyPatch, features: dict[str, bool]
) -> None:
    has(monkeypatch, **features)
    assert faster_precision(CPU) == "bfloat16"


def test_processor_without_them_gets_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch)
    assert faster_precision(CPU) == "float32"


def test_a_torch_that_does_not_say_gets_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert faster_precision(CPU) == "float32"


@pytest.mark.parametrize(("supported", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_gpu_is_asked_without_emulation(monkeypatch: pytest.MonkeyPatch, supported: bool, expected: str) -> None:
    asked: list[torch.device] = []

    def current(device: torch.device) -> contextlib.nullcontext[None]:
        asked.append(device)
        return contextlib.nullcontext()

    monkeypatch.setattr(torch.cuda, "device", current)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported or including_emulation)
    assert faster_precision(torch.device("cuda:1")) == expected
    assert asked == [torch.device("cuda:1")]


def test_a_named_precision_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch)
    assert resolve_precision("bfloat16", CPU) == "bfloat16"
    has(monkeypatch, amx=True)
    assert resolve_precision("float32", CPU) == "float32"
    assert resolve_precision("auto", CPU) == "bfloat16"


def test_presets_leave_it_to_the_machine() -> None:
    assert TrainConfig().precision == "auto"


@pytest.mark.parametrize(("amx", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_trainer_multiplies_in_what_the_machine_is_fast_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, amx: bool, expected: str
) -> None:
    has(monkeypatch, amx=amx)
    trainer = make(tmp_path, precision="auto")
    seen: set[torch.dtype] = set()
    for block in trainer._copy.blocks:
        block.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    trainer.step()
    assert trainer.precision == expected
    assert seen == {getattr(torch, expected)}
    assert dataclasses.asdict(trainer.config)["precision"] == "auto", "another machine decides for itself"
