"""Piece: what one sequence is fed in a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gpt.sampling import SamplingParams, Uniforms


class Piece(NamedTuple):
    """What one row is fed in a step, and how the token after it is drawn.

    Attributes:
        ids: its next tokens.
        wanted: whether a token is to follow the last of them.
        params: how it is drawn; None leaves the draw to the caller.
        uniforms: what it is drawn with.
        alternatives: how many of the most probable tokens to give besides it; None for no log-probabilities, or where
            they are left to the caller.
    """

    ids: Sequence[int]
    wanted: bool
    params: SamplingParams | None
    uniforms: Uniforms
    alternatives: int | None = None
