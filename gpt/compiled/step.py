"""The step, compiled: token rows through the model, and a token drawn for each that wants one."""

from __future__ import annotations

from typing import Any

from gpt.compiled.kernel import SOURCES, entry
from gpt.compiled.layers import embed, norm, remember
from gpt.compiled.memory import integers
from gpt.compiled.team import ATTEND, HEAD, LINEAR1, QKV, share

STAGES = 5  # of a layer: QKV, ATTEND, OUT_PROJ, LINEAR1, LINEAR2; behind the last layer, HEAD and DRAW


def _of_version(version: int) -> Any:
    @entry
    def advance(state, rows, wanted, steps):
        """Feed the model `rows` tokens, give `wanted` of them logits and draw; with more steps, feed it what was drawn.

        The rows of one sequence stand in the order of their places. With more than one step each row is wanted.
        """
        s = state[version * 0]
        asked, tokens, places = integers(s.wanted, 0, wanted), integers(s.tokens, 0, rows), integers(s.places, 0, rows)
        before_head = STAGES * s.num_layers
        for step in range(steps):
            for row in range(rows):
                embed(s, row)
            for stage in range(before_head + (2 if wanted else 0)):  # one call of `share`, which is long to compile
                layer, kind = stage // STAGES, stage % STAGES
                if stage >= before_head:
                    kind = HEAD + stage - before_head
                if kind == HEAD:
                    for row in range(wanted):
                        norm(s, 2 * s.num_layers, asked[row], row)
                elif kind in (QKV, LINEAR1):
                    for row in range(rows):
                        norm(s, 2 * layer + (kind == LINEAR1), row, row)
                elif kind == ATTEND:
                    for row in range(rows):  # all of them before any attends: a row looks at those before it
                        remember(s, layer, row)
                share(s, kind, layer, wanted if kind >= HEAD else rows, step)
            if step + 1 < steps:
                drawn = integers(s.drawn, step * s.max_slots, rows)
                for row in range(rows):
                    tokens[row] = max(drawn[row], 0)
                    places[row] += 1

    return advance


advance = _of_version(SOURCES)
