"""The n-gram ladder: what counting characters reaches, the line that a trained model must beat."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

DISCOUNT = 0.75


def ngram_ladder(train_text: str, validation_text: str, max_order: int = 6) -> list[float]:
    """Nats per character of character n-grams of order 1 to max_order on the validation text.

    Interpolated absolute discounting (Ney, Essen and Kneser 1994): every count is lowered by DISCOUNT, and what that
    frees goes to the next shorter context, at last to the uniform distribution over the characters of both texts,
    which a trained tokenizer knows too.

    Returns:
        one figure an order.
    """
    characters = len(set(train_text) | set(validation_text))
    counts: list[dict[str, Counter[str]]] = []
    for length in range(max_order):
        table: dict[str, Counter[str]] = defaultdict(Counter)
        for position in range(length, len(train_text)):
            table[train_text[position - length : position]][train_text[position]] += 1
        counts.append(table)
    totals = [{context: counter.total() for context, counter in table.items()} for table in counts]
    nats = [0.0] * max_order
    text = train_text[-max_order:] + validation_text
    for position in range(len(text) - len(validation_text), len(text)):
        probability = 1.0 / characters
        for length in range(max_order):
            context = text[position - length : position]
            if counter := counts[length].get(context):
                kept = max(counter[text[position]] - DISCOUNT, 0.0)
                probability = (kept + DISCOUNT * len(counter) * probability) / totals[length][context]
            nats[length] -= math.log(probability)
    return [total / len(validation_text) for total in nats]
