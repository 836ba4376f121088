"""A model's weights as the compiled step reads them: matrices in panels, everything else in one row of floats."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gpt.block import SelfMultiheadAttentionBlock
from gpt.compiled.panel import FLOAT, GROUP, HALF, HALVES, WHOLE, WIDTH
from gpt.model import GPT
from gpt.rotary import rotary_table

_ALIGNMENT = 64  # bytes


def pack(model: GPT, int8: bool = False) -> tuple[dict[str, NDArray[Any]], list[NDArray[Any]]]:
    """Copy the weights; those that half precision holds exactly, as a shipped checkpoint's, stand at half precision.

    Their products are then the same as at float32, with half the memory to read. The embedding is the model's own.

    With int8 every matrix, but not the embedding, is rounded to 8-bit whole numbers times a scale for each column.

    Returns:
        the arrays that State names, and those to whose addresses they point.
    """
    store = _Store(int8)
    for block in model.blocks:
        assert isinstance(block, SelfMultiheadAttentionBlock)
        attention = block.self_attn
        store.add_norm(block.norm1)
        store.add_norm(block.norm2)
        store.add_matrix(attention.in_proj_weight, attention.in_proj_bias)
        for linear in (attention.out_proj, block.linear1, block.linear2):
            store.add_matrix(linear.weight, linear.bias)
    store.add_norm(model.norm)
    store.add_matrix(model.head.weight, model.head.bias, -math.inf)  # what fills up the head is never the largest
    if model.position_embedding is None:
        cos, sin = rotary_table(model.config.sequence_dim, model.config.head_dim, torch.device("cpu"), torch.float32)
        positions = torch.cat((cos, sin), dim=1)
    else:
        positions = model.position_embedding.weight.detach()
    arrays = {
        "matrices": np.array(store.matrices, np.int64),
        "norms": np.array(store.norms, np.int64),
        "embedding": model.token_embedding.weight.detach().numpy(),
        "positions": positions.numpy(),
    }
    return arrays, store.arrays


class _Store:
    """Collects arrays, and tells the address of each."""

    def __init__(self, int8: bool) -> None:
        self._int8 = int8
        self.matrices: list[tuple[int, int, int, int]] = []
        self.norms: list[tuple[int, int]] = []
        self.arrays: list[NDArray[Any]] = []

    def add_norm(self, norm: nn.LayerNorm) -> None:
        self.norms.append((self._add(norm.weight), self._add(norm.bias)))

    def add_matrix(self, weight: Tensor, bias: Tensor | None, filling: float = 0.0) -> None:
        """A weight (columns, depth) as panels (depth, WIDTH), the last one filled up with zeros, its bias otherwise."""
        weight = weight.detach()
        columns, depth = weight.shape
        padded = -(-columns // WIDTH) * WIDTH
        biases = torch.full((padded,), filling)
        biases[:columns] = 0 if bias is None else bias.detach()
        if self._int8:
            panels, scales = _whole(weight, padded)
            self.matrices.append((WHOLE, self._add(panels), self._add(biases), self._add(scales)))
            return
        half = HALVES and torch.equal(weight.half().float(), weight)
        panels = torch.zeros(padded, depth, dtype=torch.half if half else torch.float)
        panels[:columns] = weight
        panels = panels.view(-1, WIDTH, depth).transpose(1, 2)
        self.matrices.append((HALF if half else FLOAT, self._add(panels), self._add(biases), 0))

    def _add(self, values: Tensor | None) -> int:
        if values is None:
            return 0
        source = values.detach().numpy()
        array = aligned(source.shape, source.dtype)
        array[...] = source
        self.arrays.append(array)
        return array.ctypes.data


def _whole(weight: Tensor, padded: int) -> tuple[Tensor, Tensor]:
    """A weight (columns, depth) as bytes (panels, groups, WIDTH, GROUP), 128 more than they mean, and the scales."""
    columns, depth = weight.shape
    groups = -(-depth // GROUP)
    scales = torch.zeros(padded)
    scales[:columns] = weight.abs().amax(1) / 127
    codes = torch.full((padded, groups * GROUP), 128, dtype=torch.uint8)
    rounded = (weight / scales[:columns, None].clamp(min=torch.finfo(torch.float).tiny)).round()
    codes[:columns, :depth] = (rounded + 128).to(torch.uint8)
    return codes.view(-1, WIDTH, groups, GROUP).transpose(1, 2), scales


def aligned(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Zeros that start at a cache line, so that no vector lies across two."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    room = np.zeros(size + _ALIGNMENT, np.uint8)
    start = -room.ctypes.data % _ALIGNMENT
    array: NDArray[Any] = room[start : start + size].view(dtype).reshape(shape)
    return array
