"""Model flops utilisation, by hand."""

from __future__ import annotations

import pytest
import torch

from gpt import GPT, GPTConfig
from train.utilisation import flops_per_token, peak_flops, utilisation


def test_flops_are_six_a_multiplying_weight_and_those_of_attention() -> None:
    config = GPTConfig(
        vocab_dim=100,
        sequence_dim=10,
        embed_dim=8,
        num_heads=2,
        num_layers=3,
        bias=False,
        norm_bias=False,
        head_bias=False,
    )
    model = GPT.from_config(config)
    matrices = sum(p.numel() for name, p in model.named_parameters() if p.dim() > 1 and "embedding" not in name)
    norms = 7 * 8
    assert flops_per_token(config, model.num_parameters()) == 6 * (matrices + norms) + 12 * 3 * 8 * 10


def test_flops_of_a_tied_head_and_rotary_positions_leave_nothing_out() -> None:
    config = GPTConfig(
        vocab_dim=100,
        sequence_dim=10,
        embed_dim=8,
        num_heads=2,
        num_layers=1,
        tie_head=True,
        head_bias=False,
        rotary=True,
    )
    count = GPT.from_config(config).num_parameters()
    assert flops_per_token(config, count) == 6 * count + 12 * 8 * 10


@pytest.mark.parametrize(
    ("name", "bfloat16"), [("NVIDIA H100 80GB HBM3", 989e12), ("NVIDIA A100-SXM4-40GB", 312e12), ("NVIDIA L4", 121e12)]
)
def test_peaks_are_found_by_the_devices_name(name: str, bfloat16: float) -> None:
    assert peak_flops(name, "bfloat16") == bfloat16
    float32 = peak_flops(name, "float32")
    assert float32 is not None and float32 < bfloat16


def test_an_unknown_device_has_no_peak() -> None:
    assert peak_flops("Voodoo 3", "bfloat16") is None


def test_a_gpu_that_learns_at_half_its_peak_is_used_by_half(monkeypatch: pytest.MonkeyPatch) -> None:
    config = GPTConfig(vocab_dim=100, sequence_dim=10, embed_dim=8, num_heads=2, num_layers=1)
    model = GPT.from_config(config)
    assert utilisation(model, "bfloat16", 1000.0) is None  # on a CPU

    class Weight:
        device = torch.device("cuda")

    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA L4")
    monkeypatch.setattr(model.head, "__dict__", {**model.head.__dict__, "_parameters": {}, "weight": Weight()})
    monkeypatch.setattr(model, "num_parameters", lambda: 10_000)
    half = 121e12 / 2 / flops_per_token(config, 10_000)
    assert utilisation(model, "bfloat16", half) == pytest.approx(0.5)
