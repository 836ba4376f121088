"""SuffixArray: every suffix of a text in order, so that what another text shares with it is found at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Numbers of runs are above 0: this is what the text's own runs have behind its end, so that it comes before all else.
END = 0
# What another text has there, and for a run that the text does not have.
UNKNOWN = -1


class SuffixArray:
    """The suffixes of a text in their order (Manber and Myers 1993), and numbers for the runs of characters in it.

    Built by prefix doubling (Karp, Miller and Rosenberg 1972): runs of 1, 2, 4, ... characters get numbers in their
    order, equal runs equal ones, each level from pairs of the level before it, until every suffix has a number of its
    own. N characters take N log N steps a level, and four bytes a character and level; a megabyte about two seconds.

    Args:
        text: at least one character.
    """

    def __init__(self, text: str) -> None:
        self.alphabet, names = np.unique(_code_points(text), return_inverse=True)
        # Level k: the number of the 2^k characters from each position on, fewer where the text ends.
        self._levels = [(names + 1).astype(np.int32)]
        self._pairs: list[NDArray[np.int64]] = []
        while int(self._levels[-1].max()) < len(text):
            pairs, names = np.unique(_paired(self._levels[-1], 1 << len(self._pairs), END), return_inverse=True)
            self._pairs.append(pairs)
            self._levels.append((names + 1).astype(np.int32))
        self.positions = np.argsort(self._levels[-1]).astype(np.int32)
        """Where each suffix begins, (N,), the suffixes in order."""

    def shared_lengths(self, text: str) -> NDArray[np.int64]:
        """For each position of another text, the length of the longest run from there on that this text has too.

        These are the matching statistics of Chang and Lawler (1994); exact, for any lengths.

        Returns:
            (n,), n the characters of `text`; 0 where a character does not occur at all.
        """
        if not text:
            return np.zeros(0, dtype=np.int64)
        levels = self._numbers_of(_code_points(text))
        starts = np.arange(len(text))
        # The longest shared run is shared with one of the two suffixes between which this one belongs.
        low, high = np.zeros(len(text), dtype=np.int64), np.full(len(text), len(self.positions))
        best = np.zeros(len(text), dtype=np.int64)
        while (open_ := np.flatnonzero(low < high)).size:
            middle = (low[open_] + high[open_]) // 2
            length, after = self._compare(levels, starts[open_], self.positions[middle].astype(np.int64))
            best[open_] = np.maximum(best[open_], length)
            low[open_] = np.where(after, middle + 1, low[open_])
            high[open_] = np.where(after, high[open_], middle)
        return best

    def _numbers_of(self, characters: NDArray[np.int64]) -> list[NDArray[np.int32]]:
        """The levels of another text in this one's numbers; -1 for what this one does not have as a whole."""
        levels = [_looked_up(self.alphabet, characters)]
        for level, pairs in enumerate(self._pairs):
            levels.append(_looked_up(pairs, _paired(levels[-1], 1 << level, UNKNOWN)))
        return levels

    def _compare(
        self, levels: list[NDArray[np.int32]], starts: NDArray[np.int64], others: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """How much the suffixes of another text and of this one share, and whether the former come after the latter."""
        length = np.zeros(len(starts), dtype=np.int64)
        top = len(levels) - 1
        going = np.arange(len(starts))
        while going.size:  # equal over the whole of the longest level: perhaps over another one behind it
            same = self._same(levels, top, starts[going] + length[going], others[going] + length[going])
            going = going[same]
            length[going] += 1 << top
        for level in reversed(range(top)):
            length += np.where(self._same(levels, level, starts + length, others + length), 1 << level, 0)
        # Behind it one of the two ends, or they differ.
        return length, _at(levels[0], starts + length, END) > _at(self._levels[0], others + length, END)

    def _same(
        self, levels: list[NDArray[np.int32]], level: int, starts: NDArray[np.int64], others: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Whether the runs of 2^level characters at these positions of another text and of this one are equal."""
        equal: NDArray[np.bool_] = _at(levels[level], starts, UNKNOWN) == _at(self._levels[level], others, END)
        return equal


def _code_points(text: str) -> NDArray[np.int64]:
    return np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32).astype(np.int64)


def _paired(numbers: NDArray[np.int32], distance: int, behind: int) -> NDArray[np.int64]:
    """Each number with the one `distance` behind it as one number, in the order of the pairs."""
    second = np.full(len(numbers), behind, dtype=np.int64)
    second[: max(0, len(numbers) - distance)] = numbers[distance:]
    return (numbers.astype(np.int64) << 32) + second


def _looked_up(values: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int32]:
    """The place of each wanted number among the rising values, counted from 1; UNKNOWN where it is not among them."""
    places = np.minimum(np.searchsorted(values, wanted), len(values) - 1)
    return np.where(values[places] == wanted, places + 1, UNKNOWN).astype(np.int32)


def _at(numbers: NDArray[np.int32], positions: NDArray[np.int64], behind: int) -> NDArray[np.int32]:
    """The numbers at these positions, `behind` for those past the end."""
    return np.where(positions < len(numbers), numbers[np.minimum(positions, len(numbers) - 1)], behind)
