"""Model flops utilisation: the part of a GPU's peak that training uses (Chowdhery et al. 2022, appendix B)."""

from __future__ import annotations

import torch

from gpt.config import GPTConfig
from gpt.model import GPT

# Dense products of bfloat16 (float32 as TF32) in 10^12 operations a second, from the makers' data sheets.
_PEAKS = {
    "H200": (989.0, 494.0),
    "H100 PCIe": (756.0, 378.0),
    "H100": (989.0, 494.0),
    "A100": (312.0, 156.0),
    "L40S": (362.0, 183.0),
    "L4": (121.0, 60.0),
    "RTX 4090": (165.0, 83.0),
}


def flops_per_token(config: GPTConfig, parameters: int) -> float:
    """Operations that learning from one token takes: 6 a weight that multiplies, 12 L E S for the attention.

    The embeddings are looked up and multiply nothing; a tied head is counted once, as the head. What dropout, norms
    and the optimizer compute is not counted.
    """
    looked_up = 0 if config.tie_head else config.vocab_dim * config.embed_dim
    if not config.rotary:
        looked_up += config.sequence_dim * config.embed_dim
    attention = 12 * config.num_layers * config.embed_dim * config.sequence_dim
    return 6.0 * (parameters - looked_up) + attention


def peak_flops(device_name: str, precision: str) -> float | None:
    """What a GPU of this name multiplies at most, operations a second; None where it is not known here."""
    for name, (bfloat16, float32) in _PEAKS.items():
        if name in device_name:
            return (bfloat16 if precision == "bfloat16" else float32) * 1e12
    return None


def utilisation(model: GPT, precision: str, tokens_per_second: float) -> float | None:
    """The part of its GPU's peak that training a model at such a speed uses; None on a CPU or an unknown GPU."""
    device = model.head.weight.device
    peak = peak_flops(torch.cuda.get_device_name(device), precision) if device.type == "cuda" else None
    if peak is None:
        return None
    return flops_per_token(model.config, model.num_parameters()) * tokens_per_second / peak
