"""The text to choose settings by: the training part alone, so that the reported split is not looked at."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from gpt.atomic import write_file
from gpt.errors import ConfigError
from train.corpus import MIN_CHARACTERS, load_corpus
from train.sweep.rows import SweepRow

SELECTION_FILE = "training-part.txt"
# Of the training part; the rest of it validates.
TRAIN_FRACTION = 0.9


def selecting(rows: Sequence[SweepRow], data_root: Path, out: Path) -> list[SweepRow]:
    """The rows on the training part of their text, whose last tenth then validates.

    It is written into the sweep's folder `out` as a text of its own: the runs, their tokenizers and their alphabets
    know nothing of the validation part.

    Raises:
        ConfigError: a row has teachers, which have learnt what is to validate here.
        CorpusError: the text will not do.
        OSError: it cannot be written.
    """
    if taught := [row.name for row in rows if row.config.teachers]:
        raise ConfigError(
            f"the row {taught[0]} has teachers, which have learnt the last tenth of the training part too, by which "
            "--select would judge it; leave the row out with --rows"
        )
    base = rows[0].config
    text, _ = load_corpus(base.data, data_root, min_characters=MIN_CHARACTERS).split(base.train_fraction)
    path = out / SELECTION_FILE
    write_file(path, text)
    return [
        dataclasses.replace(row, config=dataclasses.replace(row.config, data=str(path), train_fraction=TRAIN_FRACTION))
        for row in rows
    ]
