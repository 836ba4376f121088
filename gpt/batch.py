"""Batch: the sequences that are being generated, each in its row.

The rows in use stay together at the front, those that decode before those that still read, so every forward pass
works on a slice of them. What the engine does past the context happens here: see `gpt.engine`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpt.errors import BackendError, GPTError
from gpt.generation import Generation
from gpt.logprobs import Scores
from gpt.model import GPT
from gpt.piece import Piece
from gpt.sampling import SamplingParams, Uniforms
from gpt.torch_rows import TorchRows

if TYPE_CHECKING:
    from gpt.compiled_rows import CompiledRows  # which needs numba

BURST_S = 0.002
"""Seconds that advancing by more than one token may take, so that whoever comes meanwhile is not kept waiting."""


@dataclass(eq=False)
class Sequence:
    """One request's text and how it goes on.

    Attributes:
        generation: where its tokens go.
        params, uniforms: how they are drawn.
        logprobs: None for no log-probabilities; n gives also those of the n most probable tokens.
        ids: the prompt and what was generated so far.
        unread: the ids that its row still has to read before it decodes.
        remaining: tokens to generate.
        seen: as in `gpt.sampling.sample`; None when the request has no penalties.
        failed: whether its work raised an exception.
    """

    generation: Generation
    params: SamplingParams
    uniforms: Uniforms
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


class Advanced(NamedTuple):
    """What one forward left to be handed over.

    Attributes:
        sequences: those that get their next token.
        logits: (len(sequences), V) float32 behind their newest tokens.
        drawn: (steps, len(sequences)) tokens already drawn, one after another; -1 where the draw is still to be made.
        scores: of those that asked for them, with no more alternatives than these hold; None where they are not known.
    """

    sequences: list[Sequence]
    logits: Tensor
    drawn: NDArray[np.int64]
    scores: Scores | None


class Batch:
    """Sequences over one model, advanced together.

    Args:
        model: in evaluation mode.
        max_streams: rows.
        prefill_tokens: tokens of reading sequences that one forward takes.

    Attributes:
        sequences: by row.
        capacity: tokens that a row has room for, the model's sequence_dim.
    """

    def __init__(self, model: GPT, max_streams: int, prefill_tokens: int) -> None:
        self.sequences: list[Sequence] = []
        self.capacity = model.config.sequence_dim
        self._prefill_tokens = prefill_tokens
        self._rows: TorchRows | CompiledRows = TorchRows(model, max_streams)
        self._decoding = 0  # the first so many rows decode, the others still read
        self._step_s = 0.0  # of the last compiled step

    def adopt(self, rows: CompiledRows) -> None:
        """Go on with these rows: each sequence reads again what its row held, and stands where it stood."""
        self._empty_full_rows()
        lengths = self._rows.lengths
        for row, sequence in enumerate(self.sequences):
            held = lengths[row] + (len(sequence.unread) or 1)  # a decoding one's newest token is not yet in its row
            sequence.unread = sequence.ids[-held:]
        self._rows, self._decoding = rows, 0

    def close(self) -> None:
        """Let go of what the rows hold besides memory."""
        if not isinstance(self._rows, TorchRows):
            self._rows.close()

    def join(self, sequence: Sequence) -> None:
        """Give a sequence the next row, which must be free."""
        self._rows.clear(len(self.sequences))
        self.sequences.append(sequence)

    def leave(self) -> None:
        """Free the rows of the sequences that ended, and close the gaps."""
        for row in reversed(range(len(self.sequences))):
            sequence = self.sequences[row]
            if sequence.generation.ended:
                if sequence.failed:
                    self._rows.erase(row)
                if row < self._decoding:
                    self._decoding -= 1
                    self._move(self._decoding, row)
                    row = self._decoding
                self._move(len(self.sequences) - 1, row)
                self.sequences.pop()

    def forward(self, alone: bool = False) -> Advanced | None:
        """Feed every decoding row its newest token, and reading rows up to prefill_tokens in all; in inference mode.

        Args:
            alone: nobody waits to join, so the rows may be advanced by a few tokens at once.

        Returns:
            what can be handed over; None if nothing can.
        """
        self._empty_full_rows()
        if isinstance(self._rows, TorchRows):
            return self._forward_by_torch(self._rows)
        return self._forward_compiled(self._rows, alone)

    def _forward_by_torch(self, rows: TorchRows) -> Advanced | None:
        sequences, states = self.sequences[: self._decoding], list[Tensor]()
        if sequences:
            with failing(sequences):
                states.append(rows.decode([sequence.ids[-1] for sequence in sequences]))
            if not states:
                sequences = []
        for row, piece in self._pieces():
            sequence = self.sequences[row]
            state = None
            with failing([sequence]):
                state = rows.read(row, piece)
            if state is None:
                break  # its row must go before the next one may count as decoding
            if self._has_read(sequence, piece):
                sequences.append(sequence)
                states.append(state)
        with failing(sequences):
            if sequences:
                logits = rows.head(states[0] if len(states) == 1 else torch.cat(states))
                return Advanced(sequences, logits, np.full((1, len(sequences)), -1), None)
        return None

    def _forward_compiled(self, rows: CompiledRows, alone: bool) -> Advanced | None:
        reading = list(self._pieces())
        taking_part = self.sequences[: self._decoding + len(reading)]
        pieces = [self._piece(rows, sequence, sequence.ids[-1:]) for sequence in taking_part[: self._decoding]]
        pieces += [self._piece(rows, self.sequences[row], ids) for row, ids in reading]
        steps = self._steps(rows, taking_part) if alone and not reading else 1
        with failing(taking_part):
            started = time.perf_counter()
            logits, drawn, scores = rows.advance(pieces, steps)
            self._step_s = (time.perf_counter() - started) / steps
            if steps > 1:  # these logits are the last step's: what an earlier one lacked is not drawn from them
                logits[(drawn < 0).any(axis=0)] = np.nan
            sequences = taking_part[: self._decoding]
            sequences += [self.sequences[row] for row, ids in reading if self._has_read(self.sequences[row], ids)]
            return Advanced(sequences, torch.from_numpy(logits), drawn, scores) if sequences else None
        return None

    def _pieces(self) -> Iterator[tuple[int, list[int]]]:
        """The rows that read in this forward, and what they read."""
        room = self._prefill_tokens
        for row in range(self._decoding, len(self.sequences)):
            if room:
                piece = self.sequences[row].unread[:room]
                room -= len(piece)
                yield row, piece

    def _has_read(self, sequence: Sequence, piece: list[int]) -> bool:
        """Take note that a sequence has read a piece; whether it decodes from here on."""
        del sequence.unread[: len(piece)]
        if not sequence.unread:
            self._decoding += 1
        return not sequence.unread

    def _piece(self, rows: CompiledRows, sequence: Sequence, ids: list[int]) -> Piece:
        """What a sequence's row is fed; penalties are left to the caller, as they depend on the text."""
        wanted = len(ids) >= len(sequence.unread)
        params = None if sequence.seen is not None else sequence.params
        alternatives = sequence.logprobs if rows.gives(sequence.logprobs) else None
        return Piece(ids, wanted, params, sequence.uniforms, alternatives)

    def _steps(self, rows: CompiledRows, sequences: list[Sequence]) -> int:
        """Tokens by which all can be advanced at once: a few where a step is so short that handing over counts."""
        if any(sequence.seen is not None or not rows.gives(sequence.logprobs) for sequence in sequences):
            return 1
        room = min(self.capacity - length for length in rows.lengths[: len(sequences)])
        quick = int(BURST_S / self._step_s) if self._step_s else 1
        return max(1, min(rows.MAX_STEPS, quick, room, *(sequence.remaining for sequence in sequences)))

    def _empty_full_rows(self) -> None:
        """Turn the rows that have no room for another token into rows that read the last half of their context."""
        lengths = self._rows.lengths
        for row in reversed(range(self._decoding)):
            if lengths[row] == self.capacity:
                sequence = self.sequences[row]
                sequence.unread = sequence.ids[-max(1, self.capacity // 2) :]
                self._decoding -= 1
                self._move(self._decoding, row)
                self.sequences[self._decoding] = sequence
                self._rows.clear(self._decoding)

    def _move(self, source: int, target: int) -> None:
        """Put what stands in row `source` into row `target`, whose own content is no longer needed."""
        if source != target:
            self._rows.move(source, target)
            self.sequences[target] = self.sequences[source]
