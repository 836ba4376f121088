"""RunText: what a run learns and is scored on, as tokens, whether its text fits in memory or not."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from gpt.errors import CorpusError, UnknownCharacterError
from gpt.hub.repository import Hub
from gpt.tokenizer import Tokenizer
from train.bpe_dropout import BPEDropout
from train.config import TrainConfig
from train.corpus import MIN_CHARACTERS, load_corpus
from train.dataset import TextTokens
from train.encoding import FITTED_CHARACTERS, encode_text
from train.hub_name import is_hub_name
from train.hub_text import HubText
from train.metrics import validation_tokens
from train.ngram import ngram_ladder
from train.progress import Progress
from train.token_shards import (
    ShardIndex,
    TokenShards,
    check_shards,
    read_validation,
    smallest_dtype,
    tokenizer_hash,
    write_shards,
    write_validation,
)
from train.turns import in_turn

# Gives a run's tokenizer, from what reads the training text that it may be fitted on, and a text with all characters.
ChooseTokenizer = Callable[[Callable[[], str], str], Tokenizer]


@dataclass(frozen=True)
class RunText:
    """A run's text.

    Attributes:
        name: the corpus's.
        sha256: of the whole text.
        characters: of the whole text.
        tokenizer: the run's.
        train_tokens: of the training part, the same in every pass or by the pass.
        validation_tokens: (n + 1,) int64, of the validation part behind the training part's last one.
        validation_characters: of the validation part.
        first_character: the training part begins with it.
        count_ngrams: gives the ladder to measure the run by; empty for a text that is too long.
    """

    name: str
    sha256: str
    characters: int
    tokenizer: Tokenizer
    train_tokens: TextTokens
    validation_tokens: Tensor
    validation_characters: int
    first_character: str
    count_ngrams: Callable[[], list[float]]


def read_run_text(config: TrainConfig, data_root: Path, choose: ChooseTokenizer) -> RunText:
    """The text that the settings name.

    Args:
        config: the run's settings; of a data set of the Hub, `data` has the commit.
        data_root: the folder of the named corpora.
        choose: gives the tokenizer.

    Raises:
        ConfigError: a setting does not go with the text or the tokenizer.
        CorpusError: the text is missing, cannot be fetched, or will not do.
        TokenizerError: as `choose` says; or the text has a character without a token.
    """
    if is_hub_name(config.data):
        return _read_hub_text(config, data_root, choose)
    corpus = load_corpus(config.data, data_root, min_characters=MIN_CHARACTERS)
    train_text, validation_text = corpus.split(config.train_fraction)
    tokenizer = choose(lambda: train_text, corpus.text)
    try:
        train_tokens: TextTokens = (
            BPEDropout(tokenizer, train_text, config.bpe_dropout, config.seed)
            if config.bpe_dropout
            else encode_text(tokenizer, train_text)
        )
    except UnknownCharacterError as error:
        raise _unfit(config, corpus.name, error) from error
    return RunText(
        name=corpus.name,
        sha256=corpus.sha256,
        characters=len(corpus.text),
        tokenizer=tokenizer,
        train_tokens=train_tokens,
        validation_tokens=validation_tokens(tokenizer, train_text, validation_text),
        validation_characters=len(validation_text),
        first_character=train_text[0],
        count_ngrams=lambda: ngram_ladder(train_text, validation_text),
    )


def _read_hub_text(config: TrainConfig, data_root: Path, choose: ChooseTokenizer) -> RunText:
    """A data set's text, its tokens in shards, which are made once for a tokenizer and a split."""
    text = HubText.open(config.data, data_root, Hub())
    source, end = text.source, text.training_end(config.train_fraction)
    if source.train_characters + source.validation_characters < MIN_CHARACTERS:
        raise CorpusError(f"the corpus {text.name} is too short; training needs {MIN_CHARACTERS} characters at least")
    tokenizer = choose(lambda: text.beginning(min(end, FITTED_CHARACTERS)), source.alphabet)
    folder = text.folder / f"{tokenizer_hash(tokenizer)[:16]}-{end}"
    try:
        with in_turn(folder, lambda: print(f"waiting for another process that prepares {folder}", file=sys.stderr)):
            index = _prepared(text, tokenizer, folder, end)
    except OSError as error:
        raise CorpusError(
            f"the tokens of {text.name} cannot be kept in {folder} ({error.strerror or error}); free some space"
        ) from error
    except UnknownCharacterError as error:
        raise _unfit(config, str(text.name), error) from error
    assert index.validation is not None
    tokens = TokenShards(folder, index)
    return RunText(
        name=str(text.name),
        sha256=source.sha256,
        characters=source.train_characters + source.validation_characters,
        tokenizer=tokenizer,
        train_tokens=tokens,
        validation_tokens=read_validation(folder, index),
        validation_characters=index.validation.characters,
        first_character=tokenizer.decode([int(np.memmap(folder / index.shards[0].file, index.dtype, "r")[0])])[:1],
        count_ngrams=list,
    )


def _prepared(text: HubText, tokenizer: Tokenizer, folder: Path, end: int) -> ShardIndex:
    """The complete and verified index of the shards in `folder`, which are made as far as they are missing."""
    name = tokenizer_hash(tokenizer)
    index = ShardIndex.read(folder)
    if index is None or index.tokenizer != name:
        index = ShardIndex(name, smallest_dtype(tokenizer.vocab_dim))
    check_shards(folder, index)
    if index.validation is None:
        progress = Progress(f"Tokenizing {text.name.repository}")
        for done in write_shards(folder, index, text.training_pieces(end), tokenizer):
            progress(done, end)
        progress.close()
        validation = text.validation(end)
        tokens = validation_tokens(tokenizer, text.training_tail(end), validation)
        write_validation(folder, index, tokens, len(validation))
    return index


def _unfit(config: TrainConfig, name: str, error: UnknownCharacterError) -> UnknownCharacterError:
    """The error itself, or where the tokenizer is a checkpoint's, with the checkpoint."""
    if not config.init:
        return error
    return UnknownCharacterError(f"the checkpoint {config.init} cannot go on with the text {name}: {error}")
