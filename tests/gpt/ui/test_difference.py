"""Which tokens of two texts differ."""

from __future__ import annotations

from gpt.ui.difference import differing, words


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


def test_words_say_how_many_tokens_of_one_tokenizer_differ() -> None:
    alike = ("bpe 1", "bpe 1")
    assert words(["a", " b"], ["a", " b"], alike) == "The two texts are the same, word for word."
    assert words(["a", " b", " c"], ["a", " b", " d", " e"], alike) == (
        "The first 2 tokens are the same. Of the first text 1 of 3 tokens are not in the second, "
        "of the second 2 of 4 are not in the first."
    )
    assert words(["a", " c"], ["a", " d"], alike).startswith("The first token is the same. ")
    assert words(["b"], ["c"], alike).startswith("They part at the first token. ")


def test_words_warn_of_tokens_of_different_tokenizers() -> None:
    said = words(["so", "ft", " air"], ["soft", " light"], ("bpe 1", "gpt2 2"))
    assert said.startswith("The first 5 characters are the same. Of the first text 1 of 3 tokens ")
    assert " The two models have different tokenizers, which cut " in said
    assert said.endswith("go by what is underlined, not by the counts.")
    for pair in (("bpe 1", ""), ("", "")):
        assert "The two may have different tokenizers, which cut " in words(["b"], ["c"], pair)
