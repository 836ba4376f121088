"""The score, compiled: how probable a token is by the raw logits, and which tokens are the most probable.

What `gpt.logprobs` documents: of tied tokens the lower id first. The exponentials are float32 (relative error 1e-7),
their sum is float64.
"""

from __future__ import annotations

import math

import numpy as np

from gpt.compiled.functions import exp
from gpt.compiled.kernel import kernel, summing
from gpt.compiled.memory import doubles, integers, reals
from gpt.compiled.panel import WIDTH

MAX_ALTERNATIVES = 20
"""The most probable tokens, at most, that are given with each."""


@kernel
def score(s, index, step):
    """Note the total of wanted row `index`, the logit of what was drawn, and its alternatives, if any are asked for."""
    count, at = integers(s.alternatives, index, 1)[0], step * s.max_slots + index
    if count < 0:
        return
    panels = s.logits_width // WIDTH
    row, maxima = reals(s.logits, index * s.logits_width, s.logits_width), reals(s.maxima, index * panels, panels)
    doubles(s.totals, at, 1)[0] = log_total(row, maxima)
    token = integers(s.drawn, at, 1)[0]
    if token >= 0:
        doubles(s.chosen, at, 1)[0] = row[token]
    first = at * MAX_ALTERNATIVES
    rank(row, maxima, s.vocab_dim, integers(s.best_ids, first, count), doubles(s.best_logits, first, count))


@kernel
def log_total(row, maxima):
    """The logarithm of the sum of e ** logit over a row of whole panels, of which these are the maxima."""
    highest, total, weights = maxima.max(), 0.0, np.empty(WIDTH, np.float32)
    for panel in range(len(maxima)):
        for i in range(WIDTH):
            weights[i] = exp(row[panel * WIDTH + i] - highest)
        total += _sum(weights)
    return highest + math.log(total)


@summing
def _sum(weights):
    total = np.float32(0.0)
    for i in range(WIDTH):
        total += weights[i]
    return total


@kernel
def rank(row, maxima, vocab_dim, ids, logits):
    """Put the most probable tokens' ids and logits there, as many as there is room for, by falling probability."""
    count, found = len(ids), 0
    if count == 0:
        return
    for panel in range(len(maxima)):
        if found == count and not maxima[panel] > logits[count - 1]:
            continue
        for token in range(panel * WIDTH, min(panel * WIDTH + WIDTH, vocab_dim)):
            if found == count and not row[token] > logits[count - 1]:
                continue
            found = min(found + 1, count)
            place = found - 1
            while place > 0 and logits[place - 1] < row[token]:  # of tied ones the earlier stays before
                ids[place], logits[place] = ids[place - 1], logits[place - 1]
                place -= 1
            ids[place], logits[place] = token, row[token]
