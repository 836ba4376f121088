"""KVCache: its bookkeeping, and attention over it in every chunking."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from gpt.attention import MultiheadAttention
from gpt.config import GPTConfig
from gpt.errors import ConfigError
from gpt.kv_cache import KVCache

E, H, D = 12, 3, 4
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rotary": {"rotary": True},
    "normalised": {"qk_norm": True, "rotary": True},
}
PATHS = ["fused", "written", "weights"]


def compositions(n: int) -> Iterator[list[int]]:
    """Every way to write n as an ordered sum: 2 ** (n - 1)."""
    if n == 0:
        yield []
    for first in range(1, n + 1):
        for rest in compositions(n - first):
            yield [first, *rest]


def attention(variant: str, path: str, monkeypatch: pytest.MonkeyPatch) -> MultiheadAttention:
    monkeypatch.setattr(MultiheadAttention, "_use_fused", lambda *_: path == "fused")
    torch.manual_seed(0)
    return MultiheadAttention(E, H, dtype=torch.float64, **VARIANTS[variant]).eval()


def empty_cache(rows: int, capacity: int = 12) -> KVCache:
    return KVCache(1, rows, H, D, capacity, dtype=torch.float64)


def step(module: MultiheadAttention, x: Tensor, cache: KVCache, path: str) -> tuple[Tensor, Tensor | None]:
    result = module(
        x, x, x, is_causal=True, kv_cache=cache.layers[0], need_weights=path == "weights", average_attn_weights=False
    )
    cache.advance(x.shape[1])
    return result


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_attention_over_a_cache_equals_attention_without_for_every_chunking(
    variant: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = attention(variant, path, monkeypatch)
    x = torch.randn(2, 6, E, dtype=torch.float64)
    expected, expected_weights = module(x, x, x, is_causal=True, average_attn_weights=False)
    chunkings = list(compositions(6))
    assert len(chunkings) == 32
    for chunking in chunkings:
        cache = empty_cache(2)
        start = 0
        for part in x.split(chunking, dim=1):
            end = start + part.shape[1]
            output, weights = step(module, part, cache, path)
            torch.testing.assert_close(output, expected[:, start:end])
            assert (weights is not None) == (path == "weights")
            if weights is not None:
                torch.testing.assert_close(weights, expected_weights[:, :, start:end, :end])
            start = end


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("lengths", [(4, 1, 0), (0, 3, 3), (2, 5, 4)])
def test_attention_over_rows_of_different_lengths(
    lengths: tuple[int, ...], variant: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each row gives what it gives alone, whatever an earlier sequence left behind its end."""
    module = attention(variant, path, monkeypatch)
    x = torch.randn(3, 9, E, dtype=torch.float64)
    cache = empty_cache(3)
    step(module, 100 * torch.randn(3, 12, E, dtype=torch.float64), cache, path)  # a stale past, to be masked
    for row, length in enumerate(lengths):
        cache.truncate(row)
        if length:
            step(module, x[row : row + 1, :length], cache.rows(row, row + 1), path)
    assert cache.lengths == list(lengths)
    for new in (1, 3):
        starts = cache.lengths
        tokens = torch.stack([x[row, start : start + new] for row, start in enumerate(starts)])
        output, _ = step(module, tokens, cache, path)
        for row, start in enumerate(starts):
            alone = x[row : row + 1, : start + new]
            expected, _ = module(alone, alone, alone, is_causal=True)
            torch.testing.assert_close(output[row], expected[0, start:])


def test_attention_trains_over_an_empty_cache() -> None:
    """Dropout and the causal mask hold there too: the first position sees itself alone."""
    module = MultiheadAttention(E, H, dropout=0.5)
    x = torch.randn(1, 3, E)
    _, weights = module(x, x, x, is_causal=True, kv_cache=KVCache(1, 1, H, D, 3).layers[0], average_attn_weights=False)
    assert weights.triu(1).eq(0).all()
    assert set(weights[0, :, 0, 0].tolist()) <= {0.0, 2.0}


def test_attention_refuses_a_cache_with_masks_or_without_causality() -> None:
    module, cache = MultiheadAttention(E, H), KVCache(1, 1, H, D, 4).layers[0]
    x = torch.randn(1, 3, E)
    for arguments in (
        {},
        {"is_causal": True, "attn_mask": torch.zeros(3, 3)},
        {"is_causal": True, "key_padding_mask": torch.zeros(1, 3)},
    ):
        with pytest.raises(ConfigError, match="kv_cache was given with a mask or without is_causal; a cache goes with"):
            module(x, x, x, kv_cache=cache, **arguments)


def filled(lengths: list[int], capacity: int = 6, num_layers: int = 2) -> KVCache:
    """A cache with random rows of these lengths."""
    cache = KVCache(num_layers, len(lengths), H, D, capacity)
    for row, length in enumerate(lengths):
        part = cache.rows(row, row + 1)
        for layer in part.layers:
            layer.append(*torch.randn(2, 1, H, length, D))
        part.advance(length)
    return cache


def test_cache_keeps_what_was_appended() -> None:
    cache = KVCache(1, 2, H, D, 5)
    assert (cache.batch_size, cache.capacity, cache.lengths, cache.uniform) == (2, 5, [0, 0], True)
    first, second = torch.randn(2, 2, H, 3, D), torch.randn(2, 2, H, 2, D)
    cache.layers[0].append(*first)
    assert cache.lengths == [0, 0]  # until every layer has appended
    cache.advance(3)
    keys, values = cache.layers[0].append(*second)
    cache.advance(2)
    assert cache.lengths == [5, 5] == cache.layers[0].lengths
    assert torch.equal(keys, torch.cat((first[0], second[0]), dim=2))
    assert torch.equal(values, torch.cat((first[1], second[1]), dim=2))


def test_cache_from_config_fits_the_model() -> None:
    config = GPTConfig(vocab_dim=5, sequence_dim=7, embed_dim=E, num_heads=H, num_layers=2)
    cache = KVCache.from_config(config, 3, dtype=torch.bfloat16)
    assert (cache.batch_size, cache.capacity, len(cache.layers)) == (3, 7, 2)
    keys, _ = cache.layers[1].append(*torch.zeros(2, 3, H, 1, D))
    assert (keys.dtype, keys.shape) == (torch.bfloat16, (3, H, 1, D))
    assert KVCache.from_config(config, 1, 4).capacity == 4


def test_cache_rows_share_memory_and_lengths() -> None:
    cache = filled([2, 3, 1])
    part = cache.rows(1, 3)
    assert (part.batch_size, part.lengths) == (2, [3, 1])
    new = torch.randn(2, 2, H, 1, D)
    part.layers[1].append(*new)
    part.advance(1)
    assert cache.lengths == [2, 4, 2]
    part.rows(1, 2).truncate(0)
    assert cache.lengths == [2, 4, 0]
    keys, values = cache.layers[1].append(*torch.zeros(2, 3, H, 1, D))
    assert torch.equal(keys[1, :, 3], new[0, 0, :, 0])
    assert torch.equal(values[1, :, 3], new[1, 0, :, 0])


def test_cache_mask_blocks_later_and_stale_positions() -> None:
    ragged = filled([2, 0])
    mask = ragged.causal_mask(2)
    assert mask is not None
    assert (~mask).int().tolist() == [[[[1, 1, 1, 0], [1, 1, 1, 1]]], [[[1, 0, 0, 0], [1, 1, 0, 0]]]]
    assert ragged.layers[1].causal_mask(2) is mask  # made once for all layers of a step
    ragged.truncate(0, 1)
    mask = ragged.causal_mask(1)
    assert mask is not None
    assert (~mask).int().tolist() == [[[[1, 1]]], [[[1, 0]]]]
    even = filled([2, 2])
    assert even.causal_mask(1) is None  # one new token sees all there is
    mask = even.causal_mask(2)
    assert mask is not None
    assert (~mask).int().tolist() == [[[[1, 1, 1, 0], [1, 1, 1, 1]]]]


def test_cache_copies_a_row_into_another() -> None:
    cache = filled([2, 4, 3])
    before = [layer.append(*torch.zeros(2, 3, H, 1, D)) for layer in cache.layers]
    expected = [(keys[2, :, :3].clone(), values[2, :, :3].clone()) for keys, values in before]
    cache.copy_row(2, 0)
    assert cache.lengths == [3, 4, 3]
    for (keys, values), (expected_keys, expected_values) in zip(before, expected, strict=True):
        assert torch.equal(keys[0, :, :3], expected_keys)
        assert torch.equal(values[0, :, :3], expected_values)


def test_cache_erases_a_row_that_holds_nan() -> None:
    cache = filled([2, 2], num_layers=1)
    keys, values = cache.rows(1, 2).layers[0].append(*torch.full((2, 1, H, 1, D), torch.nan))
    cache.erase(1)
    assert cache.lengths == [2, 0]
    assert keys.eq(0).all() and values.eq(0).all()


def test_cache_says_when_it_is_full() -> None:
    cache = filled([3, 5])
    with pytest.raises(ConfigError, match="room for 6 tokens a row, but 7 are needed; make it with a larger capacity"):
        cache.layers[0].append(*torch.zeros(2, 2, H, 2, D))
    assert cache.lengths == [3, 5]
    cache.rows(0, 1).layers[0].append(*torch.zeros(2, 1, H, 3, D))  # the shorter row alone has room


def test_cache_refuses_another_number_of_rows() -> None:
    with pytest.raises(ConfigError, match="1 rows were given to a cache of 2; they must be as many"):
        filled([3, 3]).layers[0].append(*torch.zeros(2, 1, H, 1, D))
