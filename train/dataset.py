"""WindowSampler: training windows in an order that a seed fixes, each seen once a pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from gpt.errors import CorpusError


class Tokens(Protocol):
    """One long sequence of tokens: a tensor (n,) int64, or TokenShards."""

    def __len__(self) -> int:
        """The number of tokens."""
        ...

    def __getitem__(self, positions: Tensor, /) -> Tensor:
        """The tokens at these positions, of the same shape, int64."""
        ...


# The tokens of a text; or what gives those of each pass, by its number, for a text that is encoded anew for each.
TextTokens = Tokens | Callable[[int], Tokens]


@dataclass
class DataPosition:
    """Where a run stands in its data: the pass, and the windows of it that are used up. All that resuming needs."""

    epoch: int = 0
    window: int = 0


class WindowSampler:
    """Batches of windows over one long sequence of tokens.

    Each pass cuts the sequence at a random offset into windows that do not overlap, and shuffles them: every token
    is learnt from once a pass, and the cuts differ from pass to pass.

    Args:
        tokens: the training part's; or what gives those of each pass, such as BPEDropout.
        sequence_dim: S, tokens of a window.
        seed: of offsets and orders.
        position: where to begin.

    Raises:
        CorpusError: too few tokens for one window at every offset.

    Attributes:
        sequence_dim: as given.
        position: where it stands.
    """

    def __init__(self, tokens: TextTokens, sequence_dim: int, seed: int, position: DataPosition | None = None) -> None:
        self._text = tokens
        self.sequence_dim = sequence_dim
        self._seed = seed
        self.position = position or DataPosition()
        self._begin_pass()

    def _begin_pass(self) -> None:
        """Get the tokens of the pass, and the order of its windows."""
        self._tokens = self._text(self.position.epoch) if callable(self._text) else self._text
        if len(self._tokens) < 2 * self.sequence_dim:
            raise CorpusError(
                f"the training part has {len(self._tokens):,} tokens, but at least {2 * self.sequence_dim:,} are "
                f"needed for windows of sequence_dim = {self.sequence_dim}; give a longer text or a smaller "
                "sequence_dim"
            )
        self._starts = self._shuffled_starts(self.position.epoch)

    def _shuffled_starts(self, epoch: int) -> Tensor:
        """The windows' first positions in pass `epoch`, in their order."""
        generator = torch.Generator().manual_seed((self._seed * 1_000_003 + epoch) % 2**63)
        offset = int(torch.randint(self.sequence_dim, (), generator=generator))
        count = (len(self._tokens) - 1 - offset) // self.sequence_dim
        return offset + self.sequence_dim * torch.randperm(count, generator=generator)

    def next_batch(self, batch_size: int) -> tuple[Tensor, Tensor]:
        """The next windows, over the end of a pass if need be.

        Returns:
            inputs, targets: (batch_size, S) int64; the targets are the inputs' next tokens.
        """
        parts: list[Tensor] = []
        missing = batch_size
        while missing:
            starts = self._starts[self.position.window : self.position.window + missing]
            parts.append(self._tokens[starts[:, None] + torch.arange(self.sequence_dim + 1)])
            missing -= len(starts)
            self.position.window += len(starts)
            if self.position.window >= len(self._starts):
                self.position = DataPosition(self.position.epoch + 1, 0)
                self._begin_pass()
        windows = torch.cat(parts)
        return windows[:, :-1], windows[:, 1:]
