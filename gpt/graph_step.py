"""GraphStep: one token a row through the model as a CUDA graph.

A step of a small model is some hundred kernels of a few microseconds, and launching them one by one takes longer than
they do. A graph is recorded once for a number of rows and then launched as one.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gpt.decode_step import DecodeStep
from gpt.kv_cache import KVCache
from gpt.static_cache import StaticCache

_WARM_UPS = 3  # the libraries choose their kernels and take their memory in the first calls


def record_cuda_graph(work: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
    """Record what `work` launches; its result, and a function that does the same again into the same memory."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(_WARM_UPS):
            expected = work()
    torch.cuda.current_stream().wait_stream(side)
    expected = expected.clone()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads may use the device meanwhile
        result = work()
    graph.replay()
    torch.testing.assert_close(result, expected, rtol=1e-2, atol=1e-2)  # a graph that says something else is no use
    return result, graph.replay


class GraphStep:
    """Decodes the first rows of a cache; for one row, two, four, and so on, each recorded when it is first needed.

    Args:
        step: what `gpt.decode_step.decode_step` made.
        cache: all rows.
        record: records what a function launches.
    """

    def __init__(
        self,
        step: DecodeStep,
        cache: KVCache,
        record: Callable[[Callable[[], Tensor]], tuple[Tensor, Callable[[], None]]] = record_cuda_graph,
    ) -> None:
        self._step, self._cache, self._record = step, cache, record
        self._keys, self._values = cache.tensors
        self._inputs = torch.zeros(2, cache.batch_size, dtype=torch.int64, device=self._keys[0].device)
        self._recorded: dict[int, tuple[Tensor, Callable[[], None]]] = {}

    def decode(self, ids: list[int]) -> Tensor:
        """Feed each of the first len(ids) rows one token; the states behind them (len(ids), embed_dim).

        The result stands in memory that the next step of as many rows writes to.
        """
        rows = self._cache.batch_size
        size = min(rows, 1 << (len(ids) - 1).bit_length())
        lengths = self._cache.lengths[:size]
        # A row that is only there to fill up writes behind what it holds, which it will itself write over.
        places = [min(length, self._cache.capacity - 1) for length in lengths]
        filled = torch.tensor([ids + [0] * (size - len(ids)), places])
        self._inputs[:, :size].copy_(filled, non_blocking=True)
        if size not in self._recorded:
            input_ids, places_there = self._inputs[0, :size, None], self._inputs[1, :size]
            keys, values = ([tensor[:size] for tensor in tensors] for tensors in (self._keys, self._values))
            cache = StaticCache(keys, values, places_there)
            self._recorded[size] = self._record(lambda: self._step(input_ids, cache)[:, -1])
        result, again = self._recorded[size]
        again()
        self._cache.rows(0, len(ids)).advance(1)
        return result[: len(ids)]
