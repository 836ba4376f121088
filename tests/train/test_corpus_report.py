"""What is said of a text beside a run's settings, and the settings that suit it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from train.corpus import Corpus, load_corpus
from train.corpus_report import GOOD_PASSES, CorpusReport, examine, main, suited
from train.presets import PRESETS

ROOT = Path(__file__).parents[2]
LAPTOP = PRESETS["laptop"].config
SONNETS = load_corpus("sonnets", ROOT / "data")


def report(corpus: Corpus, **changes: object) -> CorpusReport:
    return examine(dataclasses.replace(LAPTOP, **changes), corpus, ROOT / "checkpoints", None)  # type: ignore[arg-type]


def short(characters: int) -> Corpus:
    return Corpus("short", SONNETS.text[:characters], "")


def test_sonnets_are_counted() -> None:
    found = report(SONNETS)
    assert (found.characters, found.distinct_characters) == (94_370, 70)
    assert 25_000 < found.train_tokens < 32_000
    assert found.passes == pytest.approx(LAPTOP.max_steps * 2048 / found.train_tokens, abs=0.1)
    assert found.refusal == ""
    assert found.warnings == (
        f"The run reads the text {found.passes:,.0f} times; after about {GOOD_PASSES} it is being learnt by heart. "
        "The best checkpoint on the way is kept; fewer steps save the time.",
    )


def test_characters_and_gpt2_count_by_their_own_tokens() -> None:
    assert report(SONNETS, tokenizer="character").train_tokens == int(0.9 * 94_370)
    assert report(SONNETS, tokenizer="gpt2", vocab_dim=50257).train_tokens < report(SONNETS).train_tokens


@pytest.mark.parametrize("characters", [3_000, 20_000, 94_370])
def test_suited_settings_train_without_a_refusal(characters: int) -> None:
    corpus = short(characters)
    config = suited(LAPTOP, corpus)
    found = examine(config, corpus, ROOT / "checkpoints", None)
    assert found.refusal == ""
    assert config.max_steps == 60 or found.passes <= GOOD_PASSES + 1
    assert config.max_steps / config.eval_interval >= 10
    assert config.save_interval <= config.max_steps


def test_text_that_repeats_itself_gets_a_vocabulary_that_it_fills() -> None:
    corpus = Corpus("one line", "All work and no play makes Jack a dull boy.\n" * 400, "")
    config = suited(LAPTOP, corpus)
    assert examine(config, corpus, ROOT / "checkpoints", None).refusal == ""
    assert config.vocab_dim < 90


def test_long_text_keeps_the_presets_steps() -> None:
    config = suited(LAPTOP, Corpus("long", SONNETS.text * 12, ""))
    assert (config.max_steps, config.vocab_dim) == (LAPTOP.max_steps, LAPTOP.vocab_dim)


def test_short_text_is_warned_of_and_too_short_a_one_refused() -> None:
    assert "The text is short: 20,000 characters" in report(short(20_000), vocab_dim=300, max_steps=60).warnings[0]
    refused = report(short(1_000), tokenizer="character")
    assert refused.refusal == "" or "context" in refused.refusal
    assert (
        "the text is too short for a context of 256 tokens"
        in report(short(2_000), tokenizer="character", sequence_dim=256).refusal
    )
    assert "gives at most" in report(short(2_000)).refusal


def test_text_that_a_checkpoint_does_not_know_is_refused() -> None:
    found = report(SONNETS, init=str(ROOT / "checkpoints" / "laptop"))
    assert "for which the vocabulary has no token" in found.refusal
    assert report(SONNETS, init=str(ROOT / "checkpoints" / "shakespeare")).refusal == ""


def test_command_says_what_the_page_says(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main([]) == 0
    output = capsys.readouterr().out
    assert output.startswith("sonnets: 94,370 characters, 70 of them distinct\n")
    assert "suited to it: --max-steps 190 --vocab-dim 566 --eval-interval 7" in output
    (tmp_path / "short.txt").write_text("too short " * 15, encoding="utf-8")
    assert main(["--data", str(tmp_path / "short.txt"), "--preset", "character"]) == 1
    assert "python -m train.corpus_report: error: the text is too short for a context of 256" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["laptop", "best", "shakespeare"])
def test_presets_keep_their_steps_on_the_text_that_they_were_made_for(name: str) -> None:
    long_as_the_plays = (SONNETS.text * 12)[:1_115_394]
    config = PRESETS[name].config
    assert suited(config, Corpus("plays", long_as_the_plays, "")).max_steps == config.max_steps
