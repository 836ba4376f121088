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


class NgramSampler:
    """Texts drawn character by character from the n-grams of a text, as `ngram_ladder` reckons with them.

    A drawn occurrence of the context in the text says the next character, and stands with the probability
    1 - DISCOUNT / (how often that character follows there); if it does not, the next shorter context is asked. These
    are the interpolated probabilities exactly; the empty context gives way to a character drawn evenly.

    Args:
        train_text: what is counted.
        max_order: the longest grams, in characters.
    """

    def __init__(self, train_text: str, max_order: int = 6) -> None:
        text = np.frombuffer(train_text.encode("utf-32-le"), dtype=np.uint32)
        self._alphabet, characters = np.unique(text, return_inverse=True)
        base = len(self._alphabet)
        while base**max_order >= 2**63:  # a gram is one number
            max_order -= 1
        self.max_order = max_order
        # For each length, every gram of the text in order, as often as it occurs.
        grams = np.zeros(len(characters) + 1, dtype=np.int64)
        self._grams = []
        for length in range(min(max_order, len(characters))):
            grams = grams[:-1] * base + characters[length:]
            self._grams.append(np.sort(grams))

    def sample(self, order: int, count: int, characters: int, *, prompt: str = "", seed: int = 0) -> list[str]:
        """`count` texts of so many characters.

        Args:
            order: of the n-gram, 1 to max_order.
            count: texts.
            characters: of each.
            prompt: what the texts continue; characters of the training text.
            seed: of this call's own generator.
        """
        generator = np.random.default_rng(seed)
        base = len(self._alphabet)
        before = np.searchsorted(self._alphabet, np.frombuffer(prompt.encode("utf-32-le"), dtype=np.uint32))
        drawn = np.empty((len(before) + characters, count), dtype=np.int64)
        drawn[: len(before)] = before[:, None]
        for position in range(len(before), len(drawn)):
            row = generator.integers(base, size=count)
            waiting = np.arange(count)
            for length in reversed(range(min(order, position + 1, len(self._grams)))):
                context = np.zeros(len(waiting), dtype=np.int64)
                for character in drawn[position - length : position, waiting]:
                    context = context * base + character
                grams = self._grams[length]
                first, end = np.searchsorted(grams, context * base), np.searchsorted(grams, (context + 1) * base)
                occurrence = first + (generator.random(len(waiting)) * (end - first)).astype(np.int64)
                gram = grams[np.minimum(occurrence, len(grams) - 1)]
                often = np.searchsorted(grams, gram, side="right") - np.searchsorted(grams, gram)
                stands = (end > first) & (generator.random(len(waiting)) * often >= DISCOUNT)
                row[waiting[stands]] = gram[stands] % base
                waiting = waiting[~stands]
            drawn[position] = row
        letters = self._alphabet[drawn[len(before) :].T]
        return [row.astype("<u4").tobytes().decode("utf-32-le") for row in letters]
