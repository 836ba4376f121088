"""StaticCache: a KVCache as a step of one token a row sees it, with nothing in it that changes from step to step.

Where a row's new token goes is read from a tensor instead of from Python's numbers, and every row attends to the whole
capacity behind a mask. That costs some reading, and lets the same kernels on the same memory be launched again and
again: what a CUDA graph needs.
"""

from __future__ import annotations

import torch
from torch import Tensor


class StaticLayer:
    """One layer's keys and values, each (R, num_heads, C, head_dim); stands in for `gpt.kv_cache.LayerCache`."""

    def __init__(self, cache: StaticCache, keys: Tensor, values: Tensor) -> None:
        self._cache, self._keys, self._values = cache, keys, values

    def positions(self, new: int) -> Tensor:
        """Where the new token of every row goes, (R, 1) int64."""
        return self._cache.positions(new)

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write one token a row, (R, num_heads, 1, head_dim); give all keys and values, most of which are masked."""
        places = self._cache.places
        rows = self._cache.row_numbers
        self._keys[rows, :, places] = keys[:, :, 0]
        self._values[rows, :, places] = values[:, :, 0]
        return self._keys, self._values


class StaticCache:
    """The first R rows of a cache; stands in for `gpt.kv_cache.KVCache` in `gpt.decode_step`.

    Args:
        keys, values: per layer (R, num_heads, C, head_dim), parts of a KVCache's memory.
        places: (R,) int64, where each row's token goes; read anew in every step.
    """

    uniform = False
    """As far as is known beforehand."""

    def __init__(self, keys: list[Tensor], values: list[Tensor], places: Tensor) -> None:
        self.places = places
        self.row_numbers = torch.arange(len(places), device=places.device)
        self._columns = torch.arange(keys[0].shape[2], device=places.device)
        self.layers = [StaticLayer(self, k, v) for k, v in zip(keys, values, strict=True)]

    def positions(self, new: int) -> Tensor:
        """Where the new token of every row goes, (R, 1) int64."""
        return self.places[:, None]

    def causal_mask(self, new: int) -> Tensor:
        """(R, 1, 1, C) bool, True behind each row's own token."""
        return (self._columns > self.places[:, None])[:, None, None]

    def advance(self, tokens: int) -> None:
        """Nothing: the lengths are the KVCache's."""
