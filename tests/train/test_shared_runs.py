"""What texts have in common with a training text: the figures over them, and the pieces that nobody copied."""

from __future__ import annotations

import pytest

from gpt.errors import ConfigError
from train.shared_runs import LONG_RUN, held_out_pieces, shared_runs
from train.suffix_array import SuffixArray

TEXT = "".join(chr(0x4E00 + place) for place in range(500))  # no character twice, so that no run is shared by chance


def test_runs_are_found_and_counted() -> None:
    texts = ["x" * 90 + TEXT[10:20], TEXT[:30] + "y" * 70, "z" * 100]
    found = shared_runs(SuffixArray(TEXT), "us", texts)
    assert (found.source, found.texts, found.characters) == ("us", 3, 100)
    assert (found.median, found.percentile_90, found.maximum) == (10, 26, 30)
    assert (found.longest, found.covered) == (TEXT[:30], 0)


def test_characters_in_long_runs_are_covered_once() -> None:
    two_runs = TEXT[100:160] + TEXT[:LONG_RUN] + "?" + TEXT[: LONG_RUN - 1]
    found = shared_runs(SuffixArray(TEXT), "us", [two_runs, "?" * len(two_runs)])
    assert found.covered == pytest.approx((60 + LONG_RUN) / (2 * len(two_runs)), abs=1e-6)


def test_runs_that_overlap_are_covered_once() -> None:
    index = SuffixArray(TEXT[:80] + "?" + TEXT[40:120])  # the text's first 80 and its characters from 40 on
    found = shared_runs(index, "us", [TEXT[:120]])
    assert (found.maximum, found.covered) == (80, 1)


def test_pieces_are_spread_and_do_not_overlap() -> None:
    assert held_out_pieces(TEXT, 2, 100) == [TEXT[:100], TEXT[250:350]]
    assert held_out_pieces(TEXT, 9, 240) == [TEXT[:240], TEXT[250:490]]
    with pytest.raises(ConfigError, match="characters is 501, but the validation part has 500"):
        held_out_pieces(TEXT, 1, 501)
