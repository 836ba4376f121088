"""What a text shares with another: against looking for every run in it, and on texts that repeat themselves."""

from __future__ import annotations

import random

import pytest

from train.suffix_array import SuffixArray


def brute_force(text: str, other: str) -> list[int]:
    """For each position of `other`, the longest run from there on that Python finds in `text`."""
    lengths = []
    for start in range(len(other)):
        length = 0
        while start + length < len(other) and other[start : start + length + 1] in text:
            length += 1
        lengths.append(length)
    return lengths


@pytest.mark.parametrize("seed", range(40))
def test_shared_lengths_are_what_brute_force_finds(seed: int) -> None:
    chance = random.Random(seed)
    alphabet = "abcdefgh"[: chance.choice([1, 2, 3, 8])]
    text = "".join(chance.choices(alphabet, k=chance.randrange(1, 80)))
    other = "".join(chance.choices(alphabet + chance.choice(["", "?", "é\U0001f600"]), k=chance.randrange(0, 60)))
    if seed % 2:  # with a run of the text inside, perhaps its end
        start = chance.randrange(len(text))
        other += text[start : start + chance.randrange(1, 80)] + other[:3]
    assert SuffixArray(text).shared_lengths(other).tolist() == brute_force(text, other)


@pytest.mark.parametrize("seed", range(10))
def test_positions_are_the_suffixes_in_order(seed: int) -> None:
    chance = random.Random(seed)
    text = "".join(chance.choices("ab\U0001f600"[: 1 + seed % 3], k=50))
    assert SuffixArray(text).positions.tolist() == sorted(range(50), key=lambda start: text[start:])


def test_copy_is_shared_from_every_position_to_its_end() -> None:
    text = "to be, or not to be: that is the question" * 3
    assert SuffixArray(text).shared_lengths(text).tolist() == list(range(len(text), 0, -1))
    assert SuffixArray(text).shared_lengths(text + "?" + text)[: len(text)].tolist() == list(range(len(text), 0, -1))
