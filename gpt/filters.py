"""The filters of sampling: which tokens are kept, found without sorting a whole vocabulary.

Shapes: N is the number of tokens.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_FEW = 2048
"""Tokens that are sorted to find where a border is among them."""

_SAMPLED = 512
"""Of more tokens, at least so many are sorted to find about where."""


def top_k(logits: NDArray[np.float32], k: int) -> NDArray[np.bool_]:
    """Which of more than k logits (N,) are the k largest; of tied ones the first (Fan et al. 2018)."""
    return _keep_largest(logits, k, None)


def top_p(weights: NDArray[np.float64], p: float) -> NDArray[np.bool_]:
    """Which of the weights (N,) are the smallest set whose sum reaches p of all (Holtzman et al. 2020).

    The token that crosses p is kept; of tied ones the first.
    """
    total = weights.sum()
    # Tokens less probable than (1 - p) / N hold less than 1 - p together, so the border is among the others.
    probable = weights[weights >= (1 - p) * total / len(weights)]
    return _keep_largest(weights, p * total, probable)


def _keep_largest(
    values: NDArray[np.floating], needed: float, probable: NDArray[np.floating] | None
) -> NDArray[np.bool_]:
    """Which of the values are the smallest set of the largest that reaches what is needed; of tied ones the first.

    Args:
        values: (N,).
        needed: what their sum must reach; or, without `probable`, their number.
        probable: those among which the border is.
    """
    rest, above, counts = (values, 0.0, True) if probable is None else (probable, 0.0, False)

    def mass(part: NDArray[np.floating]) -> float:
        return len(part) if counts else float(part.sum())

    while len(rest) > _FEW:
        # Where the border is in a sample tells within which values it is, most likely.
        sample = np.sort(rest[:: len(rest) // _SAMPLED])[::-1]
        ranks = np.arange(1, len(sample) + 1) if counts else sample.cumsum()
        place = int(ranks.searchsorted((needed - above) * (len(sample) / len(rest))))
        spread = 3 * math.isqrt(len(sample)) // 2
        high, low = sample[max(place - spread, 0)], sample[min(place + spread, len(sample) - 1)]
        higher = rest > high
        from_higher = float(np.count_nonzero(higher) if counts else np.dot(rest, higher))
        if above + from_higher >= needed:
            part = rest[higher]
        else:
            above += from_higher
            part, lower = rest[(rest <= high) & (rest >= low)], rest[rest < low]
            if above + mass(part) < needed and len(lower):
                above, part = above + mass(part), lower
        if len(part) == len(rest):  # so many are tied
            break
        rest = part
    falling = np.sort(rest)[::-1]
    if counts:
        crossing = int(needed - above) - 1
    else:
        crossing = min(int(falling.cumsum().searchsorted(needed - above)), len(falling) - 1)
    border = falling[crossing]
    keep: NDArray[np.bool_] = values >= border
    if crossing + 1 < len(falling) and falling[crossing + 1] == border:  # some of those tied are not kept
        tied = (values == border).nonzero()[0]
        keep[tied[crossing + 1 - int(np.count_nonzero(falling > border)) :]] = False
    return keep
