"""Precision: which number type the matrix products of a training run are made in."""

from __future__ import annotations

import torch


def faster_precision(device: torch.device) -> str:
    """The faster of "bfloat16" and "float32" on this device.

    A processor without instructions for bfloat16 (AVX-512 BF16 or AMX) has torch convert every number of every
    product, which makes them about ten times slower than float32's. What is not known to have them gets float32.
    """
    if device.type == "cuda":
        with torch.cuda.device(device):
            supported = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # torch has no public name for these; one that is gone some day counts as no
        queries = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        supported = device.type == "cpu" and any(getattr(torch.cpu, query, lambda: False)() for query in queries)
    return "bfloat16" if supported else "float32"


def resolve_precision(precision: str, device: torch.device) -> str:
    """The number type that a run's setting means on this device: what it names, or with "auto" the faster one."""
    return faster_precision(device) if precision == "auto" else precision
