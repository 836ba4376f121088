"""TorchRows: the sequences being generated, advanced by PyTorch, on every device; the other path's reference."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from gpt.decode_head import decode_head
from gpt.decode_step import decode_step
from gpt.graph_step import GraphStep
from gpt.kv_cache import KVCache
from gpt.model import GPT

_log = logging.getLogger(__name__)


class TorchRows:
    """The rows of a KVCache, those in use at the front, and the two ways to advance them.

    Args:
        model: in evaluation mode; its device and dtype are the cache's.
        max_streams: rows.
    """

    def __init__(self, model: GPT, max_streams: int) -> None:
        self._device = model.head.weight.device
        self._cache = KVCache.from_config(model.config, max_streams, dtype=model.head.weight.dtype, device=self._device)
        self._fronts = [self._cache.rows(0, rows) for rows in range(1, max_streams + 1)]
        self._hidden_states = model.hidden_states
        self._decode_step = decode_step(model)
        self._graph = GraphStep(self._decode_step, self._cache) if self._device.type == "cuda" else None
        self.head = decode_head(model.head)

    @property
    def lengths(self) -> list[int]:
        """Tokens that each row holds."""
        return self._cache.lengths

    def decode(self, ids: list[int]) -> Tensor:
        """Feed each of the first len(ids) rows one token; the states behind them (len(ids), embed_dim)."""
        if self._graph is not None:
            try:
                return self._graph.decode(ids)
            except (RuntimeError, AssertionError) as error:  # a driver, or a model, that cannot be recorded
                _log.warning("the steps are not recorded as CUDA graphs (%s); they are launched one by one", error)
                self._graph = None
        input_ids = torch.tensor(ids, device=self._device)[:, None]
        return self._decode_step(input_ids, self._fronts[len(ids) - 1])[:, -1]

    def read(self, row: int, ids: list[int]) -> Tensor:
        """Feed one row more tokens; the state behind the last (1, embed_dim)."""
        input_ids = torch.tensor([ids], device=self._device)
        return self._hidden_states(input_ids, self._cache.rows(row, row + 1))[:, -1]

    def clear(self, row: int) -> None:
        """Empty a row."""
        self._cache.truncate(row)

    def erase(self, row: int) -> None:
        """Empty a row and zero it: after a failure it may hold what is not a number."""
        self._cache.erase(row)

    def move(self, source: int, target: int) -> None:
        """Put what stands in row `source` into row `target`, whose own content is no longer needed."""
        self._cache.copy_row(source, target)
