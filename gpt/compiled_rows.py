"""CompiledRows: the sequences being generated, advanced by compiled code on a CPU."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from gpt.compiled.compiled_model import MAX_STEPS, CompiledModel, Row
from gpt.compiled.prepare import compile_entries
from gpt.compiled.score import MAX_ALTERNATIVES
from gpt.logprobs import Scores
from gpt.model import GPT
from gpt.piece import Piece
from gpt.sampling import SamplingParams, Uniforms


class CompiledRows:
    """Rows, those in use at the front; each stands in a slot of a CompiledModel, so that none is ever copied.

    Args:
        model: in evaluation mode, on the CPU at float32.
        max_streams: rows.
        prefill_tokens: tokens that one step reads besides those that the rows decode.
        num_threads, int8: see CompiledModel.
    """

    MAX_STEPS = MAX_STEPS

    def __init__(self, model: GPT, max_streams: int, prefill_tokens: int, num_threads: int, int8: bool) -> None:
        self._model = CompiledModel(model, max_streams, max_streams + prefill_tokens, num_threads, int8)
        self._slots = list(range(max_streams))
        self.lengths = [0] * max_streams
        """Tokens that each row holds."""

    def gives(self, alternatives: int | None) -> bool:
        """Whether it gives so many of the most probable tokens; to ask for none is fine."""
        return alternatives is None or alternatives <= MAX_ALTERNATIVES

    def advance(self, pieces: Sequence[Piece], steps: int = 1) -> tuple[NDArray[np.float32], NDArray[np.int64], Scores]:
        """Feed the first len(pieces) rows, and with more steps each of them what was drawn for it.

        Args:
            pieces: with more steps than one, of one token each, all wanted and drawn.
            steps: 1 to MAX_STEPS; each row must have room for them.

        Returns:
            logits: (wanted rows, vocab_dim) of the last step; drawn: (steps, wanted rows), -1 where none was drawn or
            none can be; scores of the rows that asked for them. All are views that the next call overwrites.
        """
        rows = []
        for row, (ids, wanted, params, uniforms, alternatives) in enumerate(pieces):
            settings, numbers = None, _NONE
            if wanted and params is not None:
                settings = (params.temperature, params.top_k, params.top_p, params.min_p)
                numbers = uniforms.peek(steps) if params.temperature else _NONE
            elif wanted:
                settings = _LEFT
            scored = -1 if alternatives is None else alternatives
            rows.append(Row(self._slots[row], self.lengths[row], ids, settings, numbers, scored))
        result = self._model.advance(rows, steps)
        for row, piece in enumerate(pieces):
            self.lengths[row] += len(piece.ids) + steps - 1
        return result

    def warm_up(self) -> None:
        """Compile, or load what is kept on disk, and make one token."""
        compile_entries()
        greedy = SamplingParams(temperature=0)
        self.advance([Piece([0], True, greedy, Uniforms(torch.Generator()))])
        self.clear(0)

    def clear(self, row: int) -> None:
        """Empty a row."""
        self.lengths[row] = 0

    def erase(self, row: int) -> None:
        """Empty a row and zero it: after a failure it may hold what is not a number."""
        self.lengths[row] = 0
        self._model.erase(self._slots[row])

    def move(self, source: int, target: int) -> None:
        """Put what stands in row `source` into row `target`, whose own content is no longer needed."""
        for of_row in (self._slots, self.lengths):
            of_row[source], of_row[target] = of_row[target], of_row[source]

    def close(self) -> None:
        """End the helping threads."""
        self._model.close()


_NONE = np.zeros(1)
_LEFT = (-1.0, 0, 1.0, 0.0)
