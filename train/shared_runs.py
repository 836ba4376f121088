"""SharedRuns: what texts have in common with a training text, in runs of characters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gpt.errors import ConfigError
from train.suffix_array import SuffixArray

LONG_RUN = 50


@dataclass(frozen=True)
class SharedRuns:
    """What texts of one source have in common with the training text; a checkpoint's record can hold it.

    Attributes:
        source: where they come from.
        texts, characters: how many, each of how many characters.
        median, percentile_90, maximum: over the texts, of each one's longest run of characters that the training text
            has too.
        covered: the part of all characters, 0 to 1, that stand in such a run of LONG_RUN characters or more.
        longest: the longest run.
    """

    source: str
    texts: int
    characters: int
    median: float
    percentile_90: float
    maximum: int
    covered: float
    longest: str


def shared_runs(index: SuffixArray, source: str, texts: Sequence[str]) -> SharedRuns:
    """What the texts, one at least and all of the same length, have in common with the indexed one."""
    longest, runs, covered = "", [], 0
    for text in texts:
        lengths = index.shared_lengths(text)
        start = int(lengths.argmax())
        runs.append(int(lengths[start]))
        if runs[-1] > len(longest):
            longest = text[start : start + runs[-1]]
        # A character is covered if a long run that begins at it, or before it, reaches beyond it.
        places = np.arange(len(text))
        ends = np.where(lengths >= LONG_RUN, places + lengths, 0)
        covered += int((np.maximum.accumulate(ends) > places).sum())
    median, percentile_90 = (round(float(value), 1) for value in np.percentile(runs, (50, 90)))
    share = round(covered / sum(map(len, texts)), 6)
    return SharedRuns(source, len(texts), len(texts[0]), median, percentile_90, max(runs), share, longest)


def held_out_pieces(text: str, count: int, characters: int) -> list[str]:
    """`count` pieces of so many characters, evenly spaced and none overlapping; fewer if the text has not as many.

    Raises:
        ConfigError: it has not even one.
    """
    if characters > len(text):
        raise ConfigError(
            f"characters is {characters:,}, but the validation part has {len(text):,}; give no more than it has"
        )
    count = min(count, len(text) // characters)
    starts = [number * len(text) // count for number in range(count)]
    return [text[start : start + characters] for start in starts]
