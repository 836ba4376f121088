"""BPEDropout: the tokens of a text, cut otherwise in every pass (Provilkov et al. 2020, BPE-Dropout, algorithm 1).

A byte-pair encoding spells a word in one way, so a model meets few spellings, and the pieces of a common word hardly
ever. With dropout, merging leaves each possible merge out with a small probability, every time it could be made: the
same word comes as several sequences of tokens, which a small text has more to be learnt from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpt.errors import ConfigError
from gpt.tokenizer import Tokenizer
from train.encoding import text_pieces

_NO_MERGE = np.iinfo(np.int64).max
# Symbols of a piece that merge together. A longer piece, as of writing without spaces, is merged in parts: its time
# would grow with the square of its length.
LONGEST = 256


@runtime_checkable
class MergingTokenizer(Protocol):
    """A tokenizer that begins with single symbols and merges pairs of tokens."""

    def merge_rules(self) -> Sequence[tuple[int, int, int]]:
        """The ids of a left and a right token and of the one that they become, the first learnt first."""
        ...

    def unmerged(self, text: str) -> tuple[list[int], list[int]]:
        """The ids of the text's symbols, and how many of them each piece has within which tokens merge."""
        ...


class BPEDropout:
    """One text, encoded anew for each pass.

    Args:
        tokenizer: a byte-pair encoding.
        text: to encode.
        probability: of leaving out a merge that could be made; with 0 every pass is `tokenizer.encode(text)`, unless a
            piece of it is longer than LONGEST symbols.
        seed: of what is left out, together with the pass.

    Raises:
        ConfigError: the tokenizer merges nothing.
        UnknownCharacterError: the text has a character without a token.
    """

    def __init__(self, tokenizer: Tokenizer, text: str, probability: float, seed: int) -> None:
        if not isinstance(tokenizer, MergingTokenizer):
            raise ConfigError(
                f"bpe_dropout is {probability:g}, but the tokenizer {tokenizer.kind} merges nothing that could be left "
                "out; give 0, or the tokenizer bpe or gpt2"
            )
        self._probability = probability
        self._seed = seed
        rules = np.array(tokenizer.merge_rules(), dtype=np.int64).reshape(-1, 3)
        self._base = tokenizer.vocab_dim
        keys = rules[:, 0] * self._base + rules[:, 1]
        order = np.argsort(keys)
        self._keys, self._ranks, self._merged = keys[order], order, rules[order, 2].astype(np.int32)
        symbols: list[NDArray[np.int32]] = []
        sizes: list[NDArray[np.int64]] = []
        for part in text_pieces(text):
            ids, lengths = tokenizer.unmerged(part)
            symbols.append(np.array(ids, dtype=np.int32))
            sizes.append(np.array([size for length in lengths for size in _parts(length)], dtype=np.int64))
        self._symbols = np.concatenate(symbols) if symbols else np.empty(0, np.int32)
        all_sizes = np.concatenate(sizes) if sizes else np.empty(0, np.int64)
        starts = np.cumsum(all_sizes) - all_sizes
        # Pieces of one length merge together: while they do, they stay of one length.
        self._starts = {int(size): starts[all_sizes == size] for size in np.unique(all_sizes)}

    def __call__(self, epoch: int) -> Tensor:
        """The tokens of pass `epoch`, (n,) int64; n varies with it."""
        random = np.random.default_rng((self._seed, epoch))
        tokens = np.full(len(self._symbols), -1, dtype=np.int32)  # each piece's from where it starts
        for length, starts in self._starts.items():
            self._merge(self._symbols[starts[:, None] + np.arange(length)], starts, tokens, random)
        return torch.from_numpy(tokens[tokens >= 0].astype(np.int64))

    def _merge(
        self,
        pieces: NDArray[np.int32],
        starts: NDArray[np.int64],
        tokens: NDArray[np.int32],
        random: np.random.Generator,
    ) -> None:
        """Merge pieces (n, length) until nothing is left to merge, and put each at its start into `tokens`."""
        while len(pieces):
            best, merged = self._choose(pieces, random)
            done = merged < 0
            width = np.arange(pieces.shape[1])
            tokens[starts[done, None] + width] = pieces[done]
            pieces, starts, best, merged = pieces[~done], starts[~done], best[~done], merged[~done]
            pieces[np.arange(len(pieces)), best] = merged
            # the right token of each pair is gone
            pieces = np.take_along_axis(pieces, width[:-1] + (width[:-1] > best[:, None]), axis=1)

    def _choose(
        self, pieces: NDArray[np.int32], random: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Where each piece merges next, and into what: the first learnt of the merges that are not left out; or -1."""
        count, length = pieces.shape
        if length < 2 or not len(self._keys):
            return np.zeros(count, np.int64), np.full(count, -1, np.int32)
        keys = pieces[:, :-1].astype(np.int64) * self._base + pieces[:, 1:]
        slots = np.searchsorted(self._keys, keys).clip(max=len(self._keys) - 1)
        ranks = np.where(self._keys[slots] == keys, self._ranks[slots], _NO_MERGE)
        if self._probability:
            ranks[random.random(ranks.shape) < self._probability] = _NO_MERGE
        best = ranks.argmin(axis=1)
        rows = np.arange(count)
        return best, np.where(ranks[rows, best] < _NO_MERGE, self._merged[slots[rows, best]], -1).astype(np.int32)


def _parts(length: int) -> list[int]:
    """A piece's length, in parts of LONGEST at most."""
    whole, rest = divmod(length, LONGEST)
    return [LONGEST] * whole + [rest] * bool(rest)
