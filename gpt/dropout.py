"""Dropout: torch.nn.Dropout with cheap random numbers on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_LEVELS = 2**16


class Dropout(nn.Dropout):
    """Zero each number with probability p in training and scale the others by 1 / (1 - p) (Srivastava et al. 2014).

    On a CPU torch draws one random number per element, in one thread: in a small model a tenth of the training
    step. Here each 64-bit number serves four elements, and p is rounded to a multiple of 1 / 65536.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Apply dropout to a tensor of any shape."""
        dropped = round(self.p * _LEVELS)
        if not self.training or dropped in (0, _LEVELS) or input.device.type != "cpu":
            return super().forward(input)
        words = torch.empty((input.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        bits = words.view(torch.int16)[: input.numel()].view(input.shape)
        border = dropped - _LEVELS // 2  # bits >= border are kept; a comparison's bools take six times as long
        keep = bits.clamp(border - 1, border).sub_(border - 1).to(input.dtype)
        return input * keep.mul_(_LEVELS / (_LEVELS - dropped))
