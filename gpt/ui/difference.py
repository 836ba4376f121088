"""Which tokens of two texts differ, whatever the tokens are cut from, and what that says in words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

# A word with the space before it: spaces alone would be found the same everywhere.
UNIT = re.compile(r"\s*\w+|\s*[^\w\s]|\s+")


def differing(first: Sequence[str], second: Sequence[str]) -> tuple[list[int], list[int]]:
    """The places of the tokens that stand in one text only.

    Two tokenizers cut one text differently, so the words are compared, in the order that leaves most of them the same,
    and a token differs when a part of it belongs to a word that does.
    """
    texts = ["".join(tokens) for tokens in (first, second)]
    units: list[list[str]] = [UNIT.findall(text) for text in texts]
    blocks = SequenceMatcher(None, units[0], units[1], autojunk=False).get_matching_blocks()
    same = [[False] * len(text) for text in texts]
    for side, found in enumerate(units):
        starts = [0]
        for unit in found:
            starts.append(starts[-1] + len(unit))
        for block in blocks:
            begin = block[side]
            for place in range(starts[begin], starts[begin + block.size]):
                same[side][place] = True
    return _outside(first, same[0]), _outside(second, same[1])


def words(first: Sequence[str], second: Sequence[str], tokenizers: tuple[str, str]) -> str:
    """What two texts' tokens have in common, for a reader.

    Where the tokenizers differ, or one is not known (empty), it says that tokens are not comparable numbers, and the
    common beginning is counted in characters.
    """
    places = differing(first, second)
    if not any(places):
        return "The two texts are the same, word for word."
    alike = tokenizers[0] == tokenizers[1] != ""
    same = _common(first, second) if alike else _common("".join(first), "".join(second))
    unit = "token" if alike else "character"
    begin = f"The first {same} {unit}s are the same. " if same > 1 else f"The first {unit} is the same. "
    counts = [f"{len(found)} of {len(texts)}" for found, texts in zip(places, (first, second), strict=True)]
    said = begin if same else f"They part at the first {unit}. "
    said += (
        f"Of the first text {counts[0]} tokens are not in the second, of the second {counts[1]} are not in the first."
    )
    if alike:
        return said
    why = "The two models have different tokenizers" if all(tokenizers) else "The two may have different tokenizers"
    return f"{said} {why}, which cut the same words into other pieces: go by what is underlined, not by the counts."


def _common(first: Sequence[str], second: Sequence[str]) -> int:
    """How many items both begin with."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((n for n, (one, two) in pairs if one != two), min(len(first), len(second)))


def _outside(tokens: Sequence[str], same: Sequence[bool]) -> list[int]:
    """The places of the tokens of which a character is not the same."""
    places, start = [], 0
    for place, token in enumerate(tokens):
        end = start + len(token)
        if not all(same[start:end]):
            places.append(place)
        start = end
    return places
