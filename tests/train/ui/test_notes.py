"""Notes: words as HTML, whatever stands in them."""

from __future__ import annotations

import pytest

from gpt.errors import CorpusError
from train.corpus_report import CorpusReport
from train.ui.notes import duration, facts_html, note, sentence


def test_words_are_escaped() -> None:
    assert "<b>" not in note("<b>", "bad") and "&lt;b&gt;" in note("<b>", "bad")
    report = CorpusReport(10, 5, 0, 0.0, ("<i>",), "<u> is wrong")
    html = facts_html(report, 10, ["<s>"])
    assert not {"<i>", "<u>", "<s>"} & {html[at : at + 3] for at in range(len(html))}


def test_refused_text_has_no_tokens_and_a_good_one_has() -> None:
    refused = facts_html(CorpusReport(10, 5, 0, 0.0, (), "it is too short"), 10, [])
    assert "tokens" not in refused and "It is too short" in refused
    good = facts_html(CorpusReport(94_370, 70, 30_000, 11.7, (), ""), 94_370, [])
    assert "<b>94.4 kB</b> size" in good and "<b>30,000</b> tokens to train on" in good and "<b>11.7</b> passes" in good


def test_error_becomes_a_sentence() -> None:
    assert sentence(CorpusError("the text is bad; give another")) == "The text is bad; give another."
    assert sentence(CorpusError("Done.")) == "Done."


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "About 1 second"), (59, "About 59 seconds"), (190, "About 3.2 minutes"), (9000, "About 2.5 hours")],
)
def test_duration_is_told_in_the_unit_that_people_use(seconds: float, words: str) -> None:
    assert duration(seconds) == words
