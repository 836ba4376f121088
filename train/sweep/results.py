"""RunResult: what a run of a sweep found; a line of results.jsonl, which tables are made from."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt.atomic import write_file
from gpt.errors import ConfigError, TrainingError
from train.config import TrainConfig
from train.presets import PRESETS

RESULTS_FILE = "results.jsonl"
# What the figures are of: the text's own validation part, or the last tenth of its training part.
SPLITS = ("validation", "selection")


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """A finished run.

    Attributes:
        row: the name of its row.
        options: the settings in which the row differs from the base.
        seed: the run's.
        steps: optimizer steps taken.
        tokens: tokens trained on, repetitions counted.
        parameters: the model's.
        seconds: spent training.
        budget_s: seconds that its steps were chosen for; 0 where the row gives them.
        split: one of SPLITS.
        block, sliding: nats per character of the split.
        machine: processor and number of threads, or the GPU.
        torch_version: torch's.
        date: when it ended, ISO 8601, UTC.
        corpus: the text's name.
        corpus_sha256: the text's hash.
        config: all settings.
    """

    row: str
    options: dict[str, Any]
    seed: int
    steps: int
    tokens: int
    parameters: int
    seconds: float
    budget_s: float
    split: str
    block: float
    sliding: float
    machine: str
    torch_version: str
    date: str
    corpus: str
    corpus_sha256: str
    config: TrainConfig

    def to_json(self) -> str:
        """The result as a line."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> RunResult:
        """The result that `to_json` wrote.

        Raises:
            ConfigError: it is none, in words.
        """
        try:
            fields = json.loads(text)
        except ValueError as error:
            raise ConfigError(f"it is not JSON ({error})") from error
        types = typing.get_type_hints(cls)
        if not isinstance(fields, dict) or set(fields) != set(types):
            differs = sorted(set(fields) ^ set(types)) if isinstance(fields, dict) else []
            raise ConfigError(f"it is no result; missing or unknown: {', '.join(differs) or 'everything'}")
        for name, kind in types.items():
            value = fields[name]
            allowed = {float: (float, int), int: (int,), str: (str,)}.get(kind, (dict,))
            if not isinstance(value, allowed) or isinstance(value, bool):
                raise ConfigError(f"{name} is {value!r}; it must be of type {allowed[0].__name__}")
        fields["config"] = config = TrainConfig.from_json(json.dumps(fields["config"]))
        if fields["split"] not in SPLITS:
            raise ConfigError(f"split is {fields['split']!r}; it must be one of {', '.join(SPLITS)}")
        if config.preset not in PRESETS:
            raise ConfigError(f"preset is {config.preset!r}; it must be one of {', '.join(PRESETS)}")
        return cls(**fields)


def read_results(path: Path) -> list[RunResult]:
    """The results in a file; none where there is no file.

    Raises:
        TrainingError: it cannot be read, or a line is no result.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"the results {path} cannot be read ({error})") from error
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            found.append(RunResult.from_json(line))
        except ConfigError as error:
            raise TrainingError(
                f"line {number} of {path} will not do: {error}; mend it, or take it out, and its run is collected again"
            ) from error
    return found


def write_results(path: Path, results: Sequence[RunResult]) -> None:
    """Replace the file, which holds the old results or the new ones at every moment; OSError if it cannot be."""
    write_file(path, "".join(result.to_json() + "\n" for result in results))
