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
_HALVINGS = 14  # of the range in which top-p's border lies, before the few tokens that are left are looked at alone
_SAMPLED = 8  # one logit in so many tells about where the k-th largest is
_LOW_31 = np.int32(0x7FFFFFFF)


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
    if 0 < top_k < len(row):
        bound = np.float64(_kth_bound(row, maxima, top_k))
    elif top_p == 1 and min_p > 0:
        bound = _bound(highest, temperature, min_p)
        if _count_from(maxima, np.float32(bound)) > len(maxima) // 8:  # not so few that each has its own exponential
            return _choose_among_all(row, maxima, highest, temperature, top_p, min_p, uniform)
    else:
        return _choose_among_all(row, maxima, highest, temperature, top_p, min_p, uniform)
    ids = _collect(row, maxima, np.float32(bound), np.float32(np.inf))
    logits, masses, keep = np.empty(len(ids), np.float32), np.zeros(len(ids)), np.ones(len(ids), np.bool_)
    for i in range(len(ids)):
        logits[i] = row[ids[i]]
    if 0 < top_k < len(ids):
        _keep_top_k(logits, top_k, keep)
    for i in range(len(ids)):
        if keep[i]:
            masses[i] = math.exp((np.float64(logits[i]) - highest) / temperature)
    if top_p < 1:
        _keep_top_p(logits, masses, top_p * _mass_from(logits, masses, -np.float32(np.inf)), keep)
    if min_p > 0:
        lowest = math.log(min_p)
        for i in range(len(ids)):
            keep[i] &= (np.float64(logits[i]) - highest) / temperature >= lowest
    return _look_up(ids, masses, keep, uniform)


@kernel
def _bound(highest, temperature, part):
    """A logit a little below that of a token so much less probable than the most probable one."""
    bound = highest + temperature * math.log(part)
    return bound - 1e-5 * (1 + abs(bound))


@kernel
def _choose_among_all(row, maxima, highest, temperature, top_p, min_p, uniform):
    """One token of a whole vocabulary, of which top-p and then min-p may keep a part."""
    weights, sums = np.empty(len(row), np.float32), np.empty(len(maxima))
    total = _weigh(row, highest, temperature, weights, sums)
    border, last = -np.float32(np.inf), len(row)
    if top_p < 1:
        border, last = _top_p_border(row, maxima, highest, temperature, weights, total, top_p)
    if min_p > 0:
        lowest = np.float64(highest) + temperature * math.log(min_p)
        if np.float64(border) < lowest:
            border, last = np.float32(lowest), len(row)
            if np.float64(border) < lowest:  # rounded down: the next float32 is the first that reaches it
                border = _of_order(np.int64(_order(border)) + 1)
    if top_p < 1 or min_p > 0:
        total = _drop_below(row, maxima, border, last, weights, sums)
    return _walk(weights, sums, uniform * total)


@kernel
def _top_p_border(row, maxima, highest, temperature, weights, total, top_p):
    """The last token that top-p keeps: its logit and its id. What is above is kept, and of the tied those before."""
    # Tokens less probable than (1 - p) / V hold less than 1 - p together: what is kept is among the others.
    bound = _bound(highest, temperature, min(1.0, (1 - top_p) * total / len(row)))
    low, high, needed = np.int64(_order(np.float32(bound))), np.int64(_order(highest)) + 1, top_p * total
    for _ in range(_HALVINGS):  # the mass from low on reaches what is needed, that from high on does not
        middle = (low + high) // 2
        if _mass_from(row, weights, _of_order(middle)) >= needed:
            low = middle
        else:
            high = middle
    lowest, behind = _of_order(low), _of_order(high)
    ids = _collect(row, maxima, lowest, behind)
    count = len(ids)
    if count == 0:
        return lowest, len(row)
    logits, masses, keep = np.empty(count, np.float32), np.empty(count), np.ones(count, np.bool_)
    for i in range(count):
        logits[i], masses[i] = row[ids[i]], weights[ids[i]]
    _keep_top_p(logits, masses, needed - _mass_from(row, weights, behind), keep)
    border, last = np.float32(np.inf), -1
    for i in range(count):
        if keep[i] and logits[i] <= border:
            border, last = logits[i], ids[i]
    return border, last


@summing
def _drop_below(row, maxima, border, last, weights, sums):
    """Put 0 in place of the weights of tokens below the border, or tied with it and behind `last`; the sum of all."""
    total = 0.0
    for panel in range(len(maxima)):
        part = 0.0
        if maxima[panel] >= border:
            for token in range(panel * WIDTH, panel * WIDTH + WIDTH):
                kept = row[token] > border or (row[token] == border and token <= last)
                weight = weights[token] if kept else _ZERO
                weights[token] = weight
                part += float(weight)
        else:
            for token in range(panel * WIDTH, panel * WIDTH + WIDTH):
                weights[token] = _ZERO
        sums[panel] = part
        total += part
    return total


@kernel
def _first(row, maxima, highest):
    """The lowest id of the largest logit."""
    for panel in range(len(maxima)):
        if maxima[panel] == highest:
            for token in range(panel * WIDTH, panel * WIDTH + WIDTH):
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
def _kth_bound(row, maxima, k):
    """A number that at least k logits reach, and seldom many more."""
    if k <= len(maxima) // 4:  # k panels have a logit that reaches the k-th largest of their maxima
        return _kth_largest(maxima, k)
    sample = np.empty(len(row) // _SAMPLED, np.float32)
    wanted = k // _SAMPLED + 4 * int(math.sqrt(k / _SAMPLED)) + 4
    if wanted < len(sample):
        for i in range(len(sample)):
            sample[i] = row[i * _SAMPLED]
        bound = _kth_largest(sample, wanted)
        if _count_from(row, bound) >= k:
            return bound
    return _kth_largest(row, k)


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


@summing
def _count_between(row, panel, low, high):
    """How many logits of a panel reach low, and not high."""
    count = _ZERO
    for token in range(panel * WIDTH, panel * WIDTH + WIDTH):
        count += _ONE if row[token] >= low and row[token] < high else _ZERO
    return int(count)


@kernel
def _collect(row, maxima, low, high):
    """The ids, rising, of the logits that reach low, and not high."""
    count = 0
    for panel in range(len(maxima)):
        if maxima[panel] >= low:
            count += _count_between(row, panel, low, high)
    ids, place = np.empty(count, np.int64), 0
    for panel in range(len(maxima)):
        if maxima[panel] >= low and _count_between(row, panel, low, high):
            for token in range(panel * WIDTH, panel * WIDTH + WIDTH):
                if row[token] >= low and row[token] < high:
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
        for token in range(panel * WIDTH, panel * WIDTH + WIDTH):
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
            for token in range(panel * WIDTH, panel * WIDTH + WIDTH):
                inside += weights[token]
                if inside > target:
                    return token
        reached += sums[panel]
    for token in range(len(weights) - 1, -1, -1):  # rounding left the target at the very end
        if weights[token] > 0:
            return token
    return NONE
