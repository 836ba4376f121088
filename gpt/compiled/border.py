"""The border between the tokens that a filter keeps and those that it does not, found without sorting.

The float32 between two logits are numbered by their bits, so that bisection ends at the exact one; among tied tokens
the first are kept, so a border is a logit and, of the tokens that have it, the last that is kept.
"""

from __future__ import annotations

import numpy as np

from gpt.compiled.kernel import kernel, summing, within
from gpt.compiled.memory import bits_of_float, float_of_bits
from gpt.compiled.panel import WIDTH

_ZERO, _ONE = np.float32(0.0), np.float32(1.0)
_SIGN = np.int64(-(1 << 31))  # the bits of a float32 that is -0
_FEW = 128  # tokens, at most, that are looked at one by one
_SUMMED = 4096  # tokens whose masses are added at float32 before the sum goes to float64


@within
def order(value):
    """A whole number that rises with a float32; 0 of both zeros."""
    bits = np.int64(bits_of_float(value))
    return bits if bits >= 0 else _SIGN - bits


@within
def of_order(number):
    """The float32 of that number."""
    return float_of_bits(np.int32(number if number >= 0 else _SIGN - number))


@kernel
def find_border(row, maxima, masses, by_count, needed, low, high):
    """The last token that is kept of the smallest set of the largest whose mass reaches what is needed.

    Args:
        row: logits, of which these are the panels' maxima.
        masses: what each token counts; with `by_count` each counts 1.
        low, high: the mass of the tokens that reach low is known to reach what is needed; none reaches high.

    Returns:
        its logit and its id: what is above is kept, and of the tied those before it.
    """
    from_low, from_high, above = len(row), 0, 0.0  # tokens that reach low, that reach high; the mass of these
    turn = 0
    while from_low - from_high > _FEW and order(high) - order(low) > 1:
        first, second, third = _quarters(low, high, turn % 3 == 2)
        turn += 1
        counts, sums = _from_three(row, masses, by_count, first, second, third)
        # The highest of the thresholds whose mass reaches it becomes the lower end, the one above it the upper.
        if sums[0] < needed:
            high, from_high, above = first, counts[0], sums[0]
        elif sums[1] < needed:
            low, from_low, high, from_high, above = first, counts[0], second, counts[1], sums[1]
        elif sums[2] < needed:
            low, from_low, high, from_high, above = second, counts[1], third, counts[2], sums[2]
        else:
            low, from_low = third, counts[2]
    ids = collect(row, maxima, low, high, from_low - from_high)
    logits, weights, keep = np.empty(len(ids), np.float32), np.ones(len(ids)), np.ones(len(ids), np.bool_)
    for i in range(len(ids)):
        logits[i] = row[ids[i]]
        if not by_count:
            weights[i] = masses[ids[i]]
    border, last = high, len(row)
    if len(ids):
        keep_mass(logits, weights, needed - above, keep)
        for i in range(len(ids)):
            if keep[i] and logits[i] <= border:
                border, last = logits[i], ids[i]
    return border, last


@kernel
def _quarters(low, high, by_number):
    """Three float32 that divide a range: by value, which is quick, or by number, which comes to an end anywhere."""
    if by_number:
        start, step = order(low), order(high) - order(low)
        return of_order(start + step // 4), of_order(start + step // 2), of_order(start + step * 3 // 4)
    bottom, part = np.float64(low), (np.float64(high) - np.float64(low)) / 4
    return np.float32(bottom + part), np.float32(bottom + 2 * part), np.float32(bottom + 3 * part)


@kernel
def _from_three(row, masses, by_count, first, second, third):
    """How many logits reach each of three thresholds, rising; and the sums of what they count."""
    a = b = c = 0
    x = y = z = 0.0
    for start in range(0, len(row), _SUMMED):
        part = row[start : start + _SUMMED]
        if by_count:
            counts = _count_three(part, first, second, third)
        else:
            counts, sums = _mass_three(part, masses[start : start + _SUMMED], first, second, third)
            x, y, z = x + sums[0], y + sums[1], z + sums[2]
        a, b, c = a + counts[0], b + counts[1], c + counts[2]
    return (a, b, c), (float(a), float(b), float(c)) if by_count else (x, y, z)


@summing
def _count_three(row, first, second, third):
    a = b = c = _ZERO
    for i in range(len(row)):
        a += _ONE if row[i] >= first else _ZERO
        b += _ONE if row[i] >= second else _ZERO
        c += _ONE if row[i] >= third else _ZERO
    return int(a), int(b), int(c)


@summing
def _mass_three(row, masses, first, second, third):
    a = b = c = x = y = z = _ZERO
    for i in range(len(row)):
        a += _ONE if row[i] >= first else _ZERO
        b += _ONE if row[i] >= second else _ZERO
        c += _ONE if row[i] >= third else _ZERO
        x += masses[i] if row[i] >= first else _ZERO
        y += masses[i] if row[i] >= second else _ZERO
        z += masses[i] if row[i] >= third else _ZERO
    return (int(a), int(b), int(c)), (float(x), float(y), float(z))


@summing
def _count_between(row, low, high):
    """How many logits reach low, and not high."""
    count = _ZERO
    for i in range(len(row)):
        count += _ONE if row[i] >= low and row[i] < high else _ZERO
    return int(count)


@kernel
def collect(row, maxima, low, high, room):
    """The ids, rising, of the logits that reach low, and not high; they are at most so many."""
    ids, count = np.empty(room, np.int64), 0
    for panel in range(len(maxima)):
        if maxima[panel] >= low:
            start = panel * WIDTH
            if _count_between(row[start : start + WIDTH], low, high):
                for token in range(start, start + WIDTH):
                    if (row[token] >= low) & (row[token] < high):  # as one condition, which is seldom true
                        ids[count] = token
                        count += 1
    return ids[:count]


@summing
def _range(values):
    """The number of the smallest, and the one behind the largest's."""
    smallest = largest = values[0]
    for i in range(len(values)):
        smallest = values[i] if values[i] < smallest else smallest
        largest = values[i] if values[i] > largest else largest
    return order(smallest), order(largest) + 1


@summing
def count_from(values, border):
    """How many reach the border; counted in float32, whose lanes are the values'."""
    count = _ZERO
    for i in range(len(values)):
        count += _ONE if values[i] >= border else _ZERO
    return int(count)


@kernel
def kth_largest(values, k):
    """The k-th largest of fewer than 2 ** 24 float32, by bisection between smallest and largest."""
    low, high = _range(values)
    while high - low > 1:  # k values reach low, fewer reach high
        middle = (low + high) // 2
        if count_from(values, of_order(middle)) >= k:
            low = middle
        else:
            high = middle
    return of_order(low)


@kernel
def keep_largest(logits, k, keep):
    """Keep the k largest; of tied ones the first."""
    border = kth_largest(logits, k)
    room = k
    for logit in logits:
        room -= logit > border
    for i in range(len(logits)):
        if logits[i] == border and room > 0:
            room -= 1
        else:
            keep[i] = logits[i] > border


@summing
def mass_from(logits, masses, border):
    """The mass of those that reach the border."""
    total = 0.0
    for i in range(len(logits)):
        total += masses[i] if logits[i] >= border else 0.0
    return total


@kernel
def keep_mass(logits, masses, needed, keep):
    """Keep the smallest set of the largest whose mass reaches what is needed; of tied ones the first."""
    low, high = _range(logits)
    while high - low > 1:  # the mass from low on reaches it, that from high on does not
        middle = (low + high) // 2
        if mass_from(logits, masses, of_order(middle)) >= needed:
            low = middle
        else:
            high = middle
    border = of_order(low)
    reached = mass_from(logits, masses, of_order(low + 1))
    for i in range(len(logits)):
        if logits[i] == border and reached < needed:
            reached += masses[i]
        else:
            keep[i] &= logits[i] > border
