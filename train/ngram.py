"""The n-gram ladder: what counting characters reaches, the line that a trained model must beat."""

from __future__ import annotations

import numpy as np

DISCOUNT = 0.75
MAX_CHARACTERS = 5_000_000


def ngram_ladder(train_text: str, validation_text: str, max_order: int = 6) -> list[float]:
    """Nats per character of character n-grams of order 1 to max_order on the validation text.

    Interpolated absolute discounting (Ney, Essen and Kneser 1994): every count is lowered by DISCOUNT, and what that
    frees goes to the next shorter context, at last to the uniform distribution over the characters of both texts,
    which a trained tokenizer knows too.

    Returns:
        one figure an order; none for a text that is too long to count in a few seconds.
    """
    if len(train_text) + len(validation_text) > MAX_CHARACTERS:
        return []
    # One text, so that the first validation characters have the training text's last ones as their context.
    text = np.frombuffer((train_text + validation_text).encode("utf-32-le"), dtype=np.uint32)
    alphabet, characters = np.unique(text, return_inverse=True)
    boundary = len(train_text)
    probability = np.full(len(validation_text), 1.0 / len(alphabet))
    # Every position's context as a number: equal contexts, equal numbers. Order 1 has the empty one.
    contexts = np.zeros(len(text), dtype=np.int64)
    nats = []
    for length in range(max_order):
        # A gram is a context and the character behind it; the first `length` positions lack a whole context.
        values, grams = np.unique(contexts * len(alphabet) + characters, return_inverse=True)
        gram_counts = np.bincount(grams[length:boundary], minlength=len(values))
        number = contexts.max() + 1
        context_counts = np.bincount(contexts[length:boundary], minlength=number)
        followers = np.bincount(values[gram_counts > 0] // len(alphabet), minlength=number)
        own = contexts[boundary:]
        known = context_counts[own] > 0  # a context that never occurred leaves the word to the shorter one
        kept = np.maximum(gram_counts[grams[boundary:]] - DISCOUNT, 0.0)
        freed = DISCOUNT * followers[own] * probability
        probability = np.where(known, (kept + freed) / np.maximum(context_counts[own], 1), probability)
        nats.append(float(-np.log(probability).mean()))
        # The next longer context is this gram, seen from the position behind it.
        contexts = np.concatenate([[0], grams[:-1]])
    return nats
