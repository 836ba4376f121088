"""Which tokens of two texts differ, whatever the tokens are cut from."""

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


def _outside(tokens: Sequence[str], same: Sequence[bool]) -> list[int]:
    """The places of the tokens of which a character is not the same."""
    places, start = [], 0
    for place, token in enumerate(tokens):
        end = start + len(token)
        if not all(same[start:end]):
            places.append(place)
        start = end
    return places
