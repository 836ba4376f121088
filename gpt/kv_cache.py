"""KVCache: the keys and values of the sequences being generated.

A cache is a value that is passed to the model, so the model itself holds no request's state: one model serves
many requests, and can be exchanged while they run. Every row of the cache is one sequence and has its own
length; `rows` gives a part of the cache that shares its memory, which is how one row is prefilled while the
others wait, and how only the first n rows take part in a step.

Shapes: see `gpt.model` for the legend; here R is the cache's number of rows and C its capacity in tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gpt.config import GPTConfig
from gpt.errors import ConfigError


class LayerCache:
    """One layer's keys and values, each (R, num_heads, C, head_dim), seen through its cache's lengths."""

    def __init__(self, cache: KVCache, keys: Tensor, values: Tensor) -> None:
        self._cache = cache
        self._keys = keys
        self._values = values

    @property
    def lengths(self) -> list[int]:
        """Tokens already in the cache, per row, before this step's."""
        return self._cache.lengths

    def positions(self, new: int) -> Tensor:
        """`KVCache.positions` of the cache that this layer belongs to."""
        return self._cache.positions(new)

    def causal_mask(self, new: int) -> Tensor | None:
        """`KVCache.causal_mask` of the cache that this layer belongs to."""
        return self._cache.causal_mask(new)

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write this step's keys and values behind each row's length; give all of them, up to the longest row.

        The lengths move only with `KVCache.advance`, once all layers have appended.

        Args:
            keys, values: (R, num_heads, S, head_dim), S new tokens for every row.

        Returns:
            keys, values: (R, num_heads, max(lengths) + S, head_dim), views of the cache. In a row that is shorter
            than the longest one, what lies behind its own length + S is stale and must be masked.

        Raises:
            ConfigError: a row has no room for S more, or there are more or fewer rows than the cache has.
        """
        lengths = self._cache.lengths
        if keys.shape[0] != len(lengths):
            raise ConfigError(f"{keys.shape[0]} rows were given to a cache of {len(lengths)}; they must be as many")
        new = keys.shape[2]
        end = max(lengths) + new
        if end > self._keys.shape[2]:
            raise ConfigError(
                f"the cache has room for {self._keys.shape[2]} tokens a row, but {end} are needed; "
                "make it with a larger capacity or truncate it first"
            )
        if self._cache.uniform:
            self._keys[:, :, end - new : end] = keys
            self._values[:, :, end - new : end] = values
        else:
            index = self._cache.positions(new)[:, None, :, None].expand(keys.shape)
            self._keys.scatter_(2, index, keys.to(self._keys.dtype))
            self._values.scatter_(2, index, values.to(self._values.dtype))
        return self._keys[:, :, :end], self._values[:, :, :end]


class KVCache:
    """The keys and values of R sequences in every layer, with room for C tokens each.

    Args:
        num_layers, num_heads, head_dim: the model's.
        batch_size: R, rows of the cache.
        capacity: C, tokens per row; at most the model's sequence_dim makes sense.
        dtype, device: the model's.

    Memory: 2 * num_layers * R * num_heads * C * head_dim numbers.
    """

    def __init__(
        self,
        num_layers: int,
        batch_size: int,
        num_heads: int,
        head_dim: int,
        capacity: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        # Zeros, not `empty`: masked positions enter a product with weight 0, and 0 * NaN would be NaN.
        keys, values = (
            [
                torch.zeros(batch_size, num_heads, capacity, head_dim, dtype=dtype, device=device)
                for _ in range(num_layers)
            ]
            for _ in range(2)
        )
        self._bind(keys, values, [0] * batch_size, 0)

    def _bind(self, keys: list[Tensor], values: list[Tensor], shared_lengths: list[int], start: int) -> None:
        self._keys, self._values = keys, values
        self._shared_lengths = shared_lengths
        self._start = start
        self._positions: tuple[list[int], int, Tensor] | None = None
        self._mask: tuple[list[int], int, Tensor | None] | None = None
        self.layers = [LayerCache(self, k, v) for k, v in zip(keys, values, strict=True)]

    @classmethod
    def from_config(
        cls,
        config: GPTConfig,
        batch_size: int,
        capacity: int | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> KVCache:
        """A cache that fits a model of this configuration; capacity None means its sequence_dim."""
        return cls(
            config.num_layers,
            batch_size,
            config.num_heads,
            config.head_dim,
            capacity or config.sequence_dim,
            dtype=dtype,
            device=device,
        )

    @property
    def tensors(self) -> tuple[list[Tensor], list[Tensor]]:
        """Keys and values, each a tensor (R, num_heads, C, head_dim) a layer: the cache's own memory."""
        return self._keys, self._values

    @property
    def batch_size(self) -> int:
        """R, the number of rows."""
        return self._keys[0].shape[0]

    @property
    def capacity(self) -> int:
        """C, the number of tokens a row has room for."""
        return self._keys[0].shape[2]

    @property
    def lengths(self) -> list[int]:
        """Tokens in the cache, per row (a copy)."""
        return self._shared_lengths[self._start : self._start + self.batch_size]

    @property
    def uniform(self) -> bool:
        """Whether all rows have the same length, so that a step needs no mask of its own for each row."""
        lengths = self.lengths
        return min(lengths) == max(lengths)

    def positions(self, new: int) -> Tensor:
        """Where the `new` tokens of every row go, (R, new) int64; computed once a step."""
        lengths = self.lengths
        if self._positions is None or self._positions[0] != lengths or self._positions[1] != new:
            device = self._keys[0].device
            positions = torch.tensor(lengths, device=device)[:, None] + torch.arange(new, device=device)
            self._positions = (lengths, new, positions)
        return self._positions[2]

    def causal_mask(self, new: int) -> Tensor | None:
        """What the `new` tokens of every row must not attend to, aligned at the lower right of each row's keys.

        Query i of a row stands at position length + i and attends to the positions up to its own; this also
        blocks what is stale behind a shorter row. It is computed once a step and serves every layer.

        Returns:
            (R or 1, 1, new, max(lengths) + new) bool, True where attention is blocked; None where nothing is.
        """
        lengths = self.lengths
        if self._mask is None or self._mask[0] != lengths or self._mask[1] != new:
            uniform = min(lengths) == max(lengths)
            mask = None
            if not uniform or new > 1:
                query_positions = self.positions(new)[: 1 if uniform else None]
                key_positions = torch.arange(max(lengths) + new, device=query_positions.device)
                mask = (key_positions > query_positions[..., None]).unsqueeze(1)
            self._mask = (lengths, new, mask)
        return self._mask[2]

    def rows(self, start: int, stop: int) -> KVCache:
        """Rows start to stop, not including stop, as a cache that shares this one's memory and lengths."""
        part = object.__new__(KVCache)
        keys, values = ([tensor[start:stop] for tensor in tensors] for tensors in (self._keys, self._values))
        part._bind(keys, values, self._shared_lengths, self._start + start)
        return part

    def advance(self, tokens: int) -> None:
        """Count `tokens` more in every row; the model calls it once all layers have appended."""
        for row in range(self._start, self._start + self.batch_size):
            self._shared_lengths[row] += tokens

    def truncate(self, row: int, length: int = 0) -> None:
        """Forget what row `row` holds behind its first `length` tokens."""
        self._shared_lengths[self._start + row] = length

    def erase(self, row: int) -> None:
        """Empty row `row` and zero it: after a failure it may hold NaN, which no mask takes out of a product."""
        for tensor in (*self._keys, *self._values):
            tensor[row] = 0
        self.truncate(row)

    def copy_row(self, source: int, target: int) -> None:
        """Make row `target` a copy of row `source`, so that the rows in use stay together at the front."""
        length = self._shared_lengths[self._start + source]
        for tensor in (*self._keys, *self._values):
            tensor[target, :, :length] = tensor[source, :, :length]
        self._shared_lengths[self._start + target] = length
