"""Batch: the sequences that are being generated, each in its row of one KVCache.

The rows in use stay together at the front, those that decode before those that still read, so every forward pass
works on a slice of the cache. What the engine does past the context happens here: see `gpt.engine`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from gpt.decode_step import decode_step
from gpt.errors import BackendError, GPTError
from gpt.generation import Generation
from gpt.kv_cache import KVCache
from gpt.model import GPT
from gpt.sampling import SamplingParams


@dataclass(eq=False)
class Sequence:
    """One request's text and how it goes on.

    Attributes:
        generation: where its tokens go.
        params, generator: how they are drawn.
        logprobs: None for no log-probabilities; n gives also those of the n most probable tokens.
        ids: the prompt and what was generated so far.
        unread: the ids that its row still has to read before it decodes.
        remaining: tokens to generate.
        seen: as in `gpt.sampling.sample`; None when the request has no penalties.
        failed: whether its work raised an exception.
    """

    generation: Generation
    params: SamplingParams
    generator: torch.Generator
    logprobs: int | None
    ids: list[int]
    unread: list[int]
    remaining: int
    seen: dict[int, int] | None
    failed: bool = False


@contextmanager
def failing(sequences: list[Sequence]) -> Iterator[None]:
    """Let an exception end these requests, in words, instead of the engine."""
    try:
        yield
    except Exception as error:
        if isinstance(error, GPTError):
            failure = error
        else:
            failure = BackendError(f"the model failed at this request ({type(error).__name__}: {error}); try again")
            failure.__cause__ = error
        for sequence in sequences:
            sequence.failed = True
            sequence.generation.fail(failure)


class Batch:
    """Sequences over one model, advanced together.

    Args:
        model: in evaluation mode; its device and dtype are the cache's.
        max_streams: rows of the cache.
        prefill_tokens: tokens of reading sequences that one forward takes.

    Attributes:
        sequences: by row.
        capacity: tokens that a row has room for, the model's sequence_dim.
    """

    def __init__(self, model: GPT, max_streams: int, prefill_tokens: int) -> None:
        self.sequences: list[Sequence] = []
        self.capacity = model.config.sequence_dim
        self._hidden_states = model.hidden_states
        self._decode_step = decode_step(model)
        self._prefill_tokens = prefill_tokens
        self._device = model.head.weight.device
        self._cache = KVCache.from_config(model.config, max_streams, dtype=model.head.weight.dtype, device=self._device)
        self._fronts = [self._cache.rows(0, rows) for rows in range(1, max_streams + 1)]
        self._decoding = 0  # the first so many rows decode, the others still read

    def join(self, sequence: Sequence) -> None:
        """Give a sequence the next row, which must be free."""
        self._cache.truncate(len(self.sequences))
        self.sequences.append(sequence)

    def leave(self) -> None:
        """Free the rows of the sequences that ended, and close the gaps."""
        for row in reversed(range(len(self.sequences))):
            sequence = self.sequences[row]
            if sequence.generation.ended:
                if sequence.failed:
                    self._cache.erase(row)
                if row < self._decoding:
                    self._decoding -= 1
                    self._move(self._decoding, row)
                    row = self._decoding
                self._move(len(self.sequences) - 1, row)
                self.sequences.pop()

    def forward(self) -> tuple[list[Sequence], list[Tensor]]:
        """Feed every decoding row its newest token, and reading rows up to prefill_tokens in all; in inference mode.

        Returns:
            the sequences that can be given their next token, and in their order the states behind their newest, in
            tensors (n, embed_dim).
        """
        self._empty_full_rows()
        sequences, states = self._decode()
        room = self._prefill_tokens
        while room and self._decoding < len(self.sequences):
            sequence = self.sequences[self._decoding]
            piece = sequence.unread[:room]
            state = self._read(piece)
            if state is None:
                break  # its row must go before the next one may count as decoding
            room -= len(piece)
            del sequence.unread[: len(piece)]
            if not sequence.unread:
                self._decoding += 1
                sequences.append(sequence)
                states.append(state)
        return sequences, states

    def _decode(self) -> tuple[list[Sequence], list[Tensor]]:
        """The decoding sequences, and the states (n, embed_dim) behind their newest tokens."""
        sequences = self.sequences[: self._decoding]
        if sequences:
            with failing(sequences):
                input_ids = torch.tensor([sequence.ids[-1:] for sequence in sequences], device=self._device)
                return sequences, [self._decode_step(input_ids, self._fronts[len(sequences) - 1])[:, -1]]
        return [], []

    def _read(self, piece: list[int]) -> Tensor | None:
        """Read a piece of the first reading sequence; the state (1, embed_dim) at its end, None if it failed."""
        row = self._decoding
        with failing([self.sequences[row]]):
            input_ids = torch.tensor([piece], device=self._device)
            return self._hidden_states(input_ids, self._cache.rows(row, row + 1))[:, -1]
        return None

    def _empty_full_rows(self) -> None:
        """Turn the rows that have no room for another token into rows that read the last half of their context."""
        lengths = self._cache.lengths
        for row in reversed(range(self._decoding)):
            if lengths[row] == self.capacity:
                sequence = self.sequences[row]
                sequence.unread = sequence.ids[-max(1, self.capacity // 2) :]
                self._decoding -= 1
                self._move(self._decoding, row)
                self.sequences[self._decoding] = sequence
                self._cache.truncate(self._decoding)

    def _move(self, source: int, target: int) -> None:
        """Put what stands in row `source` into row `target`, whose own content is no longer needed."""
        if source != target:
            self._cache.copy_row(source, target)
            self.sequences[target] = self.sequences[source]
