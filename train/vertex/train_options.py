"""TrainOptions: the options of `python -m train` on their way to another machine, checked before one is rented."""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

from gpt.errors import ConfigError
from gpt.vertex.bucket import SCHEME, Storage
from train.config import TrainConfig
from train.corpus import NAMES, load_corpus
from train.hub_name import is_hub_name
from train.presets import PRESETS

DATA_ROOT = Path(__file__).resolve().parents[2] / "data"
MIN_CHARACTERS = 100
MAY_CHANGE = ("max_steps", "patience")  # in a run that is resumed


@dataclass(frozen=True)
class TrainOptions:
    """What the trainer will be told.

    Attributes:
        words: of its command line; --data among them only if it names a corpus, for paths mean nothing elsewhere.
        preset: its name.
        config: the settings that come of them; of a resumed run, only those that may change count.
        changed: the settings that are not the preset's.
    """

    words: list[str]
    preset: str
    config: TrainConfig
    changed: tuple[str, ...]

    @classmethod
    def parse(cls, words: list[str]) -> TrainOptions:
        """Read the words as the trainer would; one that it does not know ends the command with exit status 2.

        Raises:
            ConfigError: a value is out of range, or an option means nothing on another machine.
        """
        from train.__main__ import DEFAULT_PRESET, build_parser, overrides

        given = build_parser().parse_args(words)
        if given.out is not None:
            raise ConfigError("out is given; the run's folder is in the bucket: name the run with --name")
        if given.resume:
            raise ConfigError("resume is given; a pipeline's training always begins anew, and a job's goes on by name")
        if given.teachers:
            raise ConfigError("teachers is given; they are folders of this machine, and a job has none: train here")
        changed = overrides(given)
        preset = given.preset or DEFAULT_PRESET
        config = PRESETS[preset].config.with_changes(**changed)
        if not _is_named(config.data):
            own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
            own.add_argument("--data")
            words = own.parse_known_args(words)[1]
        names = sorted(changed) + ["preset"] * (given.preset is not None)
        return cls(words, preset, config, tuple(names))

    def check_resumable(self) -> None:
        """Raise ConfigError if a setting is given that cannot change in a run that is resumed."""
        if refused := [name for name in self.changed if name not in MAY_CHANGE]:
            raise ConfigError(
                f"{', '.join('--' + name.replace('_', '-') for name in refused)} cannot change in a resumed run; "
                "only --max-steps and --patience can: leave the others out, or begin anew under another --name"
            )

    @property
    def is_named(self) -> bool:
        """Whether the corpus is one that every machine has or fetches."""
        return _is_named(self.config.data)

    @property
    def is_on_this_machine(self) -> bool:
        """Whether the corpus is a file here, and so has to travel."""
        return not self.is_named and not self.config.data.startswith(SCHEME)

    def check_text(self) -> None:
        """Look at the corpus, if it is a text of this machine.

        Raises:
            CorpusError: it is missing, or no text that can be learnt from.
        """
        if self.is_on_this_machine:
            load_corpus(self.config.data, DATA_ROOT, min_characters=MIN_CHARACTERS)

    def send_text(self, storage: Storage, address: str) -> None:
        """Copy the text that the options give, of this machine or of a bucket, to where the training finds it.

        Args:
            storage: of both buckets.
            address: gs:// address of the copy, which a run keeps for when it goes on.

        Raises:
            CorpusError: it is missing, or no text that can be learnt from.
            VertexError: a bucket cannot be read or written.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = Path(self.config.data)
            if self.config.data.startswith(SCHEME):
                path = Path(folder) / self.config.data.rpartition("/")[2]
                storage.download(self.config.data, path)
            load_corpus(path, DATA_ROOT, min_characters=MIN_CHARACTERS)
            storage.upload(path, address)


def _is_named(data: str) -> bool:
    """Whether `--data` is a name that means the same everywhere."""
    return data in NAMES or is_hub_name(data)
