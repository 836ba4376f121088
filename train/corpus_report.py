"""CorpusReport: what a text is, and how it suits a run's settings; python -m train.corpus_report prints it."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt.errors import GPTError, TokenizerError
from gpt.tokenizer import BPETokenizer, Tokenizer, load_tokenizer
from train.config import TrainConfig
from train.corpus import MIN_CHARACTERS, Corpus, load_corpus
from train.encoding import encode_text, fresh_tokenizer
from train.presets import PRESETS

ROOT = Path(__file__).resolve().parent.parent
# A longer text is counted by its beginning.
COUNTED_CHARACTERS = 2_000_000
# A rule of thumb for laptop-sized models: passes after which more are hardly worth their time; the preset `best`, with
# this much dropout, makes 17.
GOOD_PASSES, MORE_PASSES = 12, 18
MUCH_DROPOUT = 0.2
MANY_PASSES = 30
SHORT_CHARACTERS = 50_000
# A learnt token should occur often enough to be learnt from.
CHARACTERS_PER_VOCABULARY_ENTRY = 150
SMALLEST_STEPS = 60


@dataclass(frozen=True)
class CorpusReport:
    """A text beside a run's settings.

    Attributes:
        characters: in the whole text.
        distinct_characters: among them.
        train_tokens: of the training part; reckoned from the beginning of a long text.
        passes: how often the run reads the training part.
        warnings: what a person should know before the run, a sentence each.
        refusal: why the run cannot be made at all, in words; empty if it can.
    """

    characters: int
    distinct_characters: int
    train_tokens: int
    passes: float
    warnings: tuple[str, ...]
    refusal: str = ""


def suited(config: TrainConfig, corpus: Corpus) -> TrainConfig:
    """The settings, with the steps, the vocabulary and the evaluations that suit a text of this length.

    A short text is learnt by heart long before a preset made for a megabyte ends, and cannot fill its vocabulary.
    """
    changes: dict[str, Any] = {}
    characters = config.train_fraction * len(corpus.text)
    if config.tokenizer == "bpe" and not config.init:
        most = int(characters / CHARACTERS_PER_VOCABULARY_ENTRY)
        distinct = len(set(corpus.text))
        wish = max(distinct + 1, min(config.vocab_dim, max(most, distinct + 32)))
        changes["vocab_dim"] = _filled(corpus.text[: int(characters)], distinct, wish)
    characters_per_token = {"bpe": 2.5, "gpt2": 3.1}.get(config.tokenizer, 1.0)
    tokens_per_step = config.batch_size * config.accumulation_steps * config.sequence_dim
    steps = int(good_passes(config) * characters / characters_per_token / tokens_per_step)
    changes["max_steps"] = min(config.max_steps, max(SMALLEST_STEPS, steps // 10 * 10))
    changes["eval_interval"] = min(config.eval_interval, max(5, changes["max_steps"] // 24))
    changes["save_interval"] = min(config.save_interval, max(10, changes["max_steps"] // 10))
    return dataclasses.replace(config, **changes)


def good_passes(config: TrainConfig) -> int:
    """The passes over a text after which a model of such a size learns it by heart; dropout puts that off."""
    return GOOD_PASSES if config.dropout < MUCH_DROPOUT else MORE_PASSES


def _filled(train_text: str, distinct: int, vocab_dim: int) -> int:
    """The vocabulary, or the largest found in a few halvings that the text fills: one that repeats itself has few."""
    while vocab_dim > distinct and len(train_text) < SHORT_CHARACTERS:
        try:
            BPETokenizer.train(train_text, vocab_dim, "")
            break
        except TokenizerError:
            vocab_dim = (vocab_dim + distinct) // 2
    return vocab_dim


def examine(config: TrainConfig, corpus: Corpus, checkpoints_root: Path, tiktoken_cache: str | None) -> CorpusReport:
    """Count the text's tokens as the run would have them, and say what does not fit."""
    distinct = len(set(corpus.text))
    warnings: list[str] = []
    try:
        train_text, validation_text = corpus.split(config.train_fraction)
        counted = train_text[:COUNTED_CHARACTERS]
        tokenizer: Tokenizer
        if config.init:
            tokenizer = load_tokenizer(Path(config.init))
            encode_text(tokenizer, corpus.text[:COUNTED_CHARACTERS])  # meets the characters that it does not know
        else:
            tokenizer = fresh_tokenizer(config, counted, corpus.text, checkpoints_root, tiktoken_cache)
        tokens_per_character = len(encode_text(tokenizer, counted)) / len(counted)
    except GPTError as error:
        return CorpusReport(len(corpus.text), distinct, 0, 0.0, (), str(error))
    train_tokens = round(len(train_text) * tokens_per_character)
    validation_tokens = len(validation_text) * tokens_per_character
    passes = config.max_steps * config.batch_size * config.accumulation_steps * config.sequence_dim / train_tokens
    refusal = ""
    if validation_tokens <= config.sequence_dim + 1:
        refusal = (
            f"the text is too short for a context of {config.sequence_dim} tokens: the part that validates has "
            f"{validation_tokens:,.0f}; give a longer text or a smaller context"
        )
    elif len(corpus.text) < SHORT_CHARACTERS:
        warnings.append(
            f"The text is short: {len(corpus.text):,} characters teach a manner of speaking, but few words. "
            f"{SHORT_CHARACTERS:,} or more do better."
        )
    if not refusal and passes > MANY_PASSES:
        warnings.append(
            f"The run reads the text {passes:,.0f} times; after about {good_passes(config)} it is being learnt by "
            "heart. The best checkpoint on the way is kept; fewer steps save the time."
        )
    return CorpusReport(len(corpus.text), distinct, train_tokens, round(passes, 1), tuple(warnings), refusal)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m train.corpus_report",
        description="What a text is, and how it suits a preset: what the page's Train tab says of it.",
    )
    parser.add_argument("--data", default="sonnets", help="shakespeare, sonnets, or a UTF-8 file (default: sonnets)")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="laptop", help="(default: %(default)s)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Print the report; give the exit code: 0, or 1 where the text cannot be trained on, in words."""
    import os

    arguments = build_parser().parse_args(argv)
    try:
        corpus = load_corpus(arguments.data, ROOT / "data", min_characters=MIN_CHARACTERS)
        config = suited(PRESETS[arguments.preset].config, corpus)
        report = examine(config, corpus, ROOT / "checkpoints", os.environ.get("TIKTOKEN_CACHE_DIR"))
        if report.refusal:
            raise TokenizerError(report.refusal)
    except GPTError as error:
        print(f"python -m train.corpus_report: error: {error}", file=sys.stderr)
        return 1
    print(f"{corpus.name}: {report.characters:,} characters, {report.distinct_characters} of them distinct")
    print(f"training part: about {report.train_tokens:,} tokens of the {config.tokenizer} tokenizer")
    print(
        f"suited to it: --max-steps {config.max_steps} --vocab-dim {config.vocab_dim} "
        f"--eval-interval {config.eval_interval}; that reads it {report.passes:.1f} times"
    )
    for warning in report.warnings:
        print(warning)
    return 0


if __name__ == "__main__":
    sys.exit(main())
