"""The draw, compiled: one token of the distribution that `gpt.sampling` documents, with the same number in 0..1.

Same filters in the same order, the ids rising when the number is looked up; only the work differs. The head leaves
the largest logit of each panel behind, so most panels are never looked at again, and a border between what is kept
and what is not is found by bisection, without sorting. Over a whole vocabulary the exponentials are float32 (relative
error 1e-7) and their sums float64; among the candidates of a top-k everything is float64.
"""

from __future__ import annotations

import math

import numpy as np

from gpt.compiled.functions import exp
from gpt.compiled.kernel import kernel, summing, within
from gpt.compiled.memory import bits_of_float, doubles, float_of_bits, integers, reals
from gpt.compiled.panel import WIDTH

NONE = -1
"""In place of a token: a logit is not a number, or none is finite."""

_ZERO, _ONE = np.float32(0.0), np.float32(1.0)
_LOW_31 = np.int32(0x7FFFFFFF)


@kernel
def draw(s, index, step):
    """Draw the token of wanted row `index`; nothing where its temperature is below 0."""
    temperature, top_k, top_p, min_p = doubles(s.settings, 4 * index, 4)
    panels, at = s.logits_width // WIDTH, step * s.max_slots + index
    if temperature < 0:
        integers(s.drawn, at, 1)[0] = NONE
        return
    logits = reals(s.logits, index * s.logits_width, s.vocab_dim)
    maxima, uniform = reals(s.maxima, index * panels, panels), doubles(s.uniforms, at, 1)[0]
    integers(s.drawn, at, 1)[0] = choose(logits, maxima, temperature, int(top_k), top_p, min_p, uniform)


@kernel
def choose(row, maxima, temperature, top_k, top_p, min_p, uniform):
    """One token of a row of logits (V,), whose panels have these maxima; NONE if it has none."""
    highest = maxima[0]
    for maximum in maxima:
        if maximum != maximum:
            return NONE
        highest = max(highest, maximum)
    if not math.isfinite(highest):
        return NONE
    if temperature == 0 or top_k == 1:
        return _first(row, maxima, highest)
    some = 0 < top_k < len(row)
    if some:
        # k panels have a logit that reaches the k-th largest of their maxima.
        bound = np.float64(_kth_largest(maxima if top_k <= len(maxima) // 4 else row, top_k))
    elif top_p == 1 and min_p > 0:
        bound = highest + temperature * math.log(min_p)
        bound -= 1e-5 * (1 + abs(bound))
    else:
        # Tokens less probable than (1 - p) / V hold less than 1 - p together: what is kept is among the others.
        weights, sums = np.empty(len(row), np.float32), np.empty(len(maxima))
        total = _weigh(row, highest, temperature, weights, sums)
        if top_p == 1:
            return _walk(weights, sums, uniform * total)
        bound = highest + temperature * math.log((1 - top_p) * total / len(row))
        bound -= 1e-5 * (1 + abs(bound))
    ids = _collect(row, maxima, bound)
    logits = np.empty(len(ids), np.float32)
    for i in range(len(ids)):
        logits[i] = row[ids[i]]
    keep = np.ones(len(ids), np.bool_)
    if some and len(ids) > top_k:
        _keep_top_k(logits, top_k, keep)
    masses = np.empty(len(ids))
    if some or top_p == 1:
        for i in range(len(ids)):
            masses[i] = math.exp((np.float64(logits[i]) - highest) / temperature) if keep[i] else 0.0
        total = _mass_from(logits, masses, np.float32(-np.inf))
    else:  # the total of the whole vocabulary is in float32's exponentials; so are these
        for i in range(len(ids)):
            masses[i] = weights[ids[i]]
    if top_p < 1:
        _keep_top_p(logits, masses, top_p * total, keep)
    if min_p > 0:
        lowest = math.log(min_p)
        for i in range(len(ids)):
            keep[i] &= (np.float64(logits[i]) - highest) / temperature >= lowest
    return _look_up(ids, masses, keep, uniform)


@kernel
def _first(row, maxima, highest):
    """The lowest id of the largest logit."""
    for panel in range(len(maxima)):
        if maxima[panel] == highest:
            for token in range(panel * WIDTH, min((panel + 1) * WIDTH, len(row))):
                if row[token] == highest:
                    return token
    return NONE


@within
def _order(value):
    """A whole number that rises with a float32."""
    bits = bits_of_float(value)
    return bits if bits >= 0 else bits ^ _LOW_31


@within
def _of_order(number):
    """The float32 of that number."""
    bits = np.int32(number)
    return float_of_bits(bits if bits >= 0 else bits ^ _LOW_31)


@summing
def _range(values):
    """The number of the smallest, and the one behind the largest's."""
    smallest = largest = values[0]
    for i in range(len(values)):
        smallest = values[i] if values[i] < smallest else smallest
        largest = values[i] if values[i] > largest else largest
    return np.int64(_order(smallest)), np.int64(_order(largest)) + 1


@summing
def _count_from(values, border):
    """How many reach the border; counted in float32, whose lanes are the values'."""
    count = _ZERO
    for i in range(len(values)):
        count += _ONE if values[i] >= border else _ZERO
    return int(count)


@kernel
def _kth_largest(values, k):
    """The k-th largest of fewer than 2 ** 24 float32, by bisection between smallest and largest."""
    low, high = _range(values)
    while high - low > 1:  # k values reach low, fewer reach high
        middle = (low + high) // 2
        if _count_from(values, _of_order(middle)) >= k:
            low = middle
        else:
            high = middle
    return _of_order(low)


@kernel
def _keep_top_k(logits, k, keep):
    """Keep the k largest; of tied ones the first."""
    border = _kth_largest(logits, k)
    room = k
    for logit in logits:
        room -= logit > border
    for i in range(len(logits)):
        if logits[i] == border and room > 0:
            room -= 1
        else:
            keep[i] = logits[i] > border


@summing
def _mass_from(logits, masses, border):
    total = 0.0
    for i in range(len(logits)):
        total += masses[i] if logits[i] >= border else 0.0
    return total


@kernel
def _keep_top_p(logits, masses, needed, keep):
    """Keep the smallest set of the largest whose mass reaches what is needed; of tied ones the first."""
    low, high = _range(logits)
    while high - low > 1:  # the mass from low on reaches it, that from high on does not
        middle = (low + high) // 2
        if _mass_from(logits, masses, _of_order(middle)) >= needed:
            low = middle
        else:
            high = middle
    border = _of_order(low)
    reached = _mass_from(logits, masses, _of_order(low + 1))
    for i in range(len(logits)):
        if logits[i] == border and reached < needed:
            reached += masses[i]
        else:
            keep[i] &= logits[i] > border


@kernel
def _collect(row, maxima, bound):
    """The ids, rising, of the logits that reach the bound."""
    count = 0
    for panel in range(len(maxima)):
        if maxima[panel] >= bound:
            for token in range(panel * WIDTH, min((panel + 1) * WIDTH, len(row))):
                count += row[token] >= bound
    ids, place = np.empty(count, np.int64), 0
    for panel in range(len(maxima)):
        if maxima[panel] >= bound:
            for token in range(panel * WIDTH, min((panel + 1) * WIDTH, len(row))):
                if row[token] >= bound:
                    ids[place] = token
                    place += 1
    return ids


@kernel
def _look_up(ids, masses, keep, uniform):
    """The first id at which the mass of those that are kept is above the number's part of it."""
    total = 0.0
    for i in range(len(ids)):
        total += masses[i] if keep[i] else 0.0
    reached, last = 0.0, NONE
    for i in range(len(ids)):
        if keep[i]:
            last = ids[i]
            reached += masses[i] / total
            if reached > uniform:
                break
    return last


@kernel
def _exp_all(row, highest, scale, weights):
    for token in range(len(row)):
        weights[token] = exp((row[token] - highest) * scale)


@summing
def _weigh(row, highest, temperature, weights, sums):
    """Put e ** ((logit - highest) / temperature) into weights, each panel's sum into sums; the sum of all."""
    _exp_all(row, highest, np.float32(1.0 / max(temperature, 1e-30)), weights)
    total = 0.0
    for panel in range(len(sums)):
        part = 0.0
        for token in range(panel * WIDTH, min((panel + 1) * WIDTH, len(row))):
            part += weights[token]
        sums[panel] = part
        total += part
    return total


@kernel
def _walk(weights, sums, target):
    """The first id at which the sum of the weights is above the target."""
    reached = 0.0
    for panel in range(len(sums)):
        if reached + sums[panel] > target:
            inside = reached
            for token in range(panel * WIDTH, min((panel + 1) * WIDTH, len(weights))):
                inside += weights[token]
                if inside > target:
                    return token
        reached += sums[panel]
    for token in range(len(weights) - 1, -1, -1):  # rounding left the target at the very end
        if weights[token] > 0:
            return token
    return NONE
