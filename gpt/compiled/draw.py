"""The draw, compiled: one token of the distribution that `gpt.sampling` documents, with the same number in 0..1.

Same filters in the same order, the ids rising when the number is looked up; only the work differs. The head leaves
the largest logit of each panel behind, so where few tokens can be drawn most panels are never looked at again, and
all is float64. Else the whole vocabulary is gone through, some ten times and without sorting: the exponentials are
float32 (relative error 1e-7), as are the sums of a few hundred of them, and the sums of these float64.
"""

from __future__ import annotations

import math

import numpy as np

from gpt.compiled.border import (
    collect,
    count_from,
    find_border,
    keep_largest,
    keep_mass,
    kth_largest,
    mass_from,
    of_order,
    order,
)
from gpt.compiled.functions import exp
from gpt.compiled.kernel import kernel, summing
from gpt.compiled.memory import doubles, integers, reals
from gpt.compiled.panel import WIDTH

NONE = -1
"""In place of a token: a logit is not a number, or none is finite."""

BLOCK = 8 * WIDTH
"""Tokens of a row whose exponentials are added at float32."""

_ZERO, _INFINITY = np.float32(0.0), np.float32(np.inf)
_UNDERFLOW = 87.5  # e ** -87.5 is 0 here
_FEW_K, _FEW_PANELS = 4, 32  # one panel in so many: up to there a top-k, the panels that min-p leaves, are few


@kernel
def draw(s, index, step):
    """Draw the token of wanted row `index`; nothing where its temperature is below 0."""
    temperature, top_k, top_p, min_p = doubles(s.settings, 4 * index, 4)
    panels, at = s.logits_width // WIDTH, step * s.max_slots + index
    if temperature < 0:
        integers(s.drawn, at, 1)[0] = NONE
        return
    logits = reals(s.logits, index * s.logits_width, s.logits_width)
    maxima, uniform = reals(s.maxima, index * panels, panels), doubles(s.uniforms, at, 1)[0]
    integers(s.drawn, at, 1)[0] = choose(logits, maxima, temperature, int(top_k), top_p, min_p, uniform)


@kernel
def choose(row, maxima, temperature, top_k, top_p, min_p, uniform):
    """One token of a row of whole panels (-inf behind its last logit), of which these are the maxima; or NONE."""
    highest = maxima[0]
    for maximum in maxima:
        if maximum != maximum:
            return NONE
        highest = max(highest, maximum)
    if not math.isfinite(highest):
        return NONE
    if temperature == 0 or top_k == 1:
        return _first(row, maxima, highest)
    if 0 < top_k <= len(maxima) // _FEW_K:  # so many panels have a logit that reaches the k-th largest of the maxima
        bound = kth_largest(maxima, top_k)
        return _choose_among(row, maxima, highest, bound, temperature, top_k, top_p, min_p, uniform)
    if top_p == 1 and min_p > 0:
        bound = np.float32(_bound(highest, temperature, min_p))
        if count_from(maxima, bound) <= len(maxima) // _FEW_PANELS:
            return _choose_among(row, maxima, highest, bound, temperature, top_k, top_p, min_p, uniform)
    return _choose_among_all(row, maxima, highest, temperature, top_k, top_p, min_p, uniform)


@kernel
def _bound(highest, temperature, part):
    """A logit a little below that of a token so much less probable than the most probable one."""
    bound = highest + temperature * math.log(part)
    return bound - 1e-5 * (1 + abs(bound))


@kernel
def _choose_among(row, maxima, highest, bound, temperature, top_k, top_p, min_p, uniform):
    """One token of those few that reach the bound, below which none can be drawn."""
    room = WIDTH * count_from(maxima, bound)
    ids = collect(row, maxima, bound, _INFINITY, room)
    logits, masses, keep = np.empty(len(ids), np.float32), np.zeros(len(ids)), np.ones(len(ids), np.bool_)
    for i in range(len(ids)):
        logits[i] = row[ids[i]]
    if 0 < top_k < len(ids):
        keep_largest(logits, top_k, keep)
    for i in range(len(ids)):
        if keep[i]:
            masses[i] = math.exp((np.float64(logits[i]) - highest) / temperature)
    if top_p < 1:
        keep_mass(logits, masses, top_p * mass_from(logits, masses, -_INFINITY), keep)
    if min_p > 0:
        lowest = math.log(min_p)
        for i in range(len(ids)):
            keep[i] &= (np.float64(logits[i]) - highest) / temperature >= lowest
    return _look_up(ids, masses, keep, uniform)


@kernel
def _choose_among_all(row, maxima, highest, temperature, top_k, top_p, min_p, uniform):
    """One token of a whole vocabulary, of which the filters may keep any part."""
    weights, sums = np.empty(len(row), np.float32), np.empty((len(row) + BLOCK - 1) // BLOCK)
    total, border, last = weigh(row, highest, temperature, weights, sums), -_INFINITY, len(row)
    above = of_order(order(highest) + 1)
    low = np.float32(highest - _UNDERFLOW * temperature)  # those below weigh nothing
    if 0 < top_k < len(row) and count_from(row, low) > top_k:
        border, last = find_border(row, maxima, weights, True, float(top_k), low, above)
        total = _keep_from(row, weights, border, last, sums)
    if top_p < 1:
        # Tokens less probable than (1 - p) / V hold less than 1 - p together: what is kept is among the others.
        low = np.float32(_bound(highest, temperature, min(1.0, (1 - top_p) * total / len(row))))
        first, first_last = border, last
        border, last = find_border(row, maxima, weights, False, top_p * total, max(border, low), above)
        if border == first:  # of those tied at the border of top-k, only those that it kept
            last = min(last, first_last)
    if min_p > 0:
        lowest = np.float64(highest) + temperature * math.log(min_p)
        if np.float64(border) < lowest:
            border, last = np.float32(lowest), len(row)
            if np.float64(border) < lowest:  # rounded down: the next float32 is the first that reaches it
                border = of_order(order(border) + 1)
    if top_p < 1 or min_p > 0:
        total = _keep_from(row, weights, border, last, sums)
    return _walk(row, weights, border, last, sums, uniform * total)


@kernel
def _keep_from(row, weights, border, last, sums):
    """Put each block's sum of the weights of tokens above the border, or tied with it to `last`, into sums; the sum."""
    total, above = 0.0, of_order(order(border) + 1)
    for block in range(len(sums)):
        start = block * BLOCK
        part, its = row[start : start + BLOCK], weights[start : start + BLOCK]
        if start <= last < start + len(part):
            here = last + 1 - start
            sums[block] = _sum_from(part[:here], its[:here], border) + _sum_from(part[here:], its[here:], above)
        else:
            sums[block] = _sum_from(part, its, border if start <= last else above)
        total += sums[block]
    return total


@summing
def _sum_from(row, weights, border):
    total = _ZERO
    for i in range(len(row)):
        total += weights[i] if row[i] >= border else _ZERO
    return float(total)


@kernel
def _first(row, maxima, highest):
    """The lowest id of the largest logit."""
    for panel in range(len(maxima)):
        if maxima[panel] == highest:
            for token in range(panel * WIDTH, panel * WIDTH + WIDTH):
                if row[token] == highest:
                    return token
    return NONE


@kernel
def _look_up(ids, masses, keep, uniform):
    """The first id at which the mass of those that are kept is above the number's part of it."""
    total = 0.0
    for i in range(len(ids)):
        total += masses[i] if keep[i] else 0.0
    reached, last, target = 0.0, NONE, uniform * total
    for i in range(len(ids)):
        if keep[i]:
            last = ids[i]
            reached += masses[i]
            if reached > target:
                break
    return last


@kernel
def _exp_all(row, highest, scale, weights):
    for token in range(len(row)):
        weights[token] = exp((row[token] - highest) * scale)


@kernel
def weigh(row, highest, temperature, weights, sums):
    """Put e ** ((logit - highest) / temperature) into weights, each block's sum into sums; the sum of all."""
    _exp_all(row, highest, np.float32(1.0 / max(temperature, 1e-30)), weights)
    total = 0.0
    for block in range(len(sums)):
        sums[block] = _sum(weights[block * BLOCK : block * BLOCK + BLOCK])
        total += sums[block]
    return total


@summing
def _sum(weights):
    total = _ZERO
    for i in range(len(weights)):
        total += weights[i]
    return float(total)


@kernel
def _walk(row, weights, border, last, sums, target):
    """The first id at which the sum of the weights that are kept (see `_keep_from`) is above the target."""
    reached, block = 0.0, 0
    while block + 1 < len(sums) and reached + sums[block] <= target:
        reached += sums[block]
        block += 1
    while sums[block] == 0:  # rounding left the target at the very end
        block -= 1
    chosen = NONE
    for token in range(block * BLOCK, min(block * BLOCK + BLOCK, len(row))):
        if weights[token] > 0 and (row[token] > border or (row[token] == border and token <= last)):
            chosen = token
            reached += weights[token]
            if reached > target:
                break
    return chosen  # added one by one, they may be less than the block's sum
