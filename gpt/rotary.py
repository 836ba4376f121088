"""Rotary positions: queries and keys turned by an angle that grows with their position (Su et al. 2021)."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

BASE = 10000.0


@lru_cache(maxsize=16)
def rotary_table(max_positions: int, head_dim: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the angles position * BASE ** (-2 i / head_dim), for i below head_dim / 2.

    Returns:
        cos, sin: (max_positions, head_dim / 2). Kept for later calls, since every layer needs the same.
    """
    with torch.inference_mode(False):  # a table made while generating must also serve training
        # The angles are taken in float64: float32 loses digits of large positions.
        frequencies = BASE ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
        angles = torch.outer(torch.arange(max_positions, dtype=torch.float64), frequencies)
        return angles.cos().to(device, dtype), angles.sin().to(device, dtype)


def apply_rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (x[i], x[i + D / 2]) by its angle.

    Args:
        x: (..., D), with D even.
        cos, sin: broadcastable to (..., D / 2).
    """
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)
