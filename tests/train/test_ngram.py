"""The n-gram ladder: probabilities that sum to one, and the figures it is known by."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pytest

from train.corpus import load_corpus
from train.ngram import DISCOUNT, NgramSampler, ngram_ladder

DATA = Path(__file__).parents[2] / "data"
TEXT = "the cat sat on the mat, and the hen sat on the hat."


@pytest.mark.parametrize("end", ["", " the", " xyz", "t"])
def test_probabilities_of_a_context_sum_to_one(end: str) -> None:
    train_text = TEXT + "xyz" + TEXT + end
    alphabet = sorted(set(train_text))
    sums = [0.0] * 6
    for character in alphabet:
        for order, nats in enumerate(ngram_ladder(train_text, character)):
            sums[order] += math.exp(-nats)
    assert sums == pytest.approx([1.0] * 6)


def test_first_orders_are_the_formula() -> None:
    unigram, bigram = ngram_ladder("abab", "b", max_order=2)
    # the context of "b" is the training text's last character, "b", which "a" followed once, and "b" never
    share = (2 - DISCOUNT) / 4 + DISCOUNT * 2 / 4 * (1 / 2)
    assert unigram == pytest.approx(-math.log(share))
    assert bigram == pytest.approx(-math.log(DISCOUNT * 1 * share / 1))


def test_context_of_the_validation_text_is_the_training_texts_end() -> None:
    expected, unexpected = (ngram_ladder(TEXT * 3 + " the ha", character)[5] for character in "te")
    assert expected < 1 < unexpected


def test_unseen_character_has_its_share_of_what_the_discount_frees() -> None:
    (nats,) = ngram_ladder("abab", "?", max_order=1)
    assert nats == pytest.approx(-math.log(DISCOUNT * 2 / 4 * (1 / 3)))


def test_sonnets_have_their_ladder() -> None:
    train_text, validation_text = load_corpus("sonnets", DATA).split()
    found = [round(nats, 3) for nats in ngram_ladder(train_text, validation_text)]
    assert found == [3.148, 2.371, 1.983, 1.797, 1.806, 1.886]


@pytest.mark.skipif(
    not (DATA / "shakespeare.txt").exists(), reason="data/shakespeare.txt is not here; python -m train fetches it"
)
def test_tiny_shakespeare_has_the_published_ladder() -> None:
    train_text, validation_text = load_corpus("shakespeare", DATA).split()
    found = [round(nats, 3) for nats in ngram_ladder(train_text, validation_text)]
    assert found == [3.347, 2.487, 2.056, 1.790, 1.692, 1.721]


@pytest.mark.parametrize("order", [1, 2, 4, 6])
@pytest.mark.parametrize("end", ["", " the", "xyz"])
def test_drawn_characters_are_as_frequent_as_the_ladder_says(order: int, end: str) -> None:
    train_text, draws = TEXT + "xyz" + TEXT + end, 20_000
    drawn = Counter(NgramSampler(train_text).sample(order, draws, 1, prompt=train_text[-6:]))
    for character in sorted(set(train_text)):
        probability = math.exp(-ngram_ladder(train_text, character)[order - 1])
        spread = math.sqrt(probability * (1 - probability) / draws)
        assert drawn[character] / draws == pytest.approx(probability, abs=5 * spread)


def test_drawn_texts_repeat_by_their_seed_and_go_on_from_themselves() -> None:
    sampler = NgramSampler(TEXT * 3)
    first, second = sampler.sample(6, 2, 40, seed=3)
    assert len(first) == len(second) == 40 and first != second
    assert [first, second] == sampler.sample(6, 2, 40, seed=3)
    assert [first, second] != sampler.sample(6, 2, 40, seed=4)
    # What follows one of its characters has followed it, but for the few draws that the discount gives away.
    known = sum(first[start : start + 4] in TEXT * 3 for start in range(37))
    assert known > 20


def test_large_alphabet_has_the_orders_that_fit_a_number() -> None:
    sampler = NgramSampler("".join(chr(0x4E00 + place) for place in range(5000)))
    assert sampler.max_order == 5
    (text,) = sampler.sample(5, 1, 10, prompt="\u4e00")
    assert len(text) == 10 and set(text) <= {chr(0x4E00 + place) for place in range(5000)}
