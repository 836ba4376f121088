"""Which tokens of two texts differ."""

from __future__ import annotations

from gpt.ui.difference import differing


def test_equal_texts_do_not_differ_however_they_are_cut() -> None:
    assert differing(["What", " light"], ["What", " light"]) == ([], [])
    assert differing(["Wh", "at ", "light"], ["What", " li", "ght"]) == ([], [])
    assert differing([], []) == ([], [])


def test_tokens_of_other_words_are_found_on_both_sides() -> None:
    assert differing(["But", " soft", "!", " what"], ["But", " hark", "!", " what"]) == ([1], [1])
    assert differing(["But", " so", "ft", "!"], ["But", " ha", "rk", "!"]) == ([1, 2], [1, 2])


def test_a_word_put_in_leaves_what_follows_the_same() -> None:
    assert differing(["a", " b", " c"], ["a", " x", " b", " c"]) == ([], [1])
    assert differing(["a"], ["a", " b"]) == ([], [1])
    assert differing([], ["a", " b"]) == ([], [0, 1])
