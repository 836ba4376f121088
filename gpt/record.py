"""TrainingRecord: how a checkpoint came to be."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field

from gpt.errors import CheckpointError


@dataclass(frozen=True, kw_only=True)
class TrainingRecord:
    """How a checkpoint came to be; saved beside its weights. A field that is not known keeps its default.

    Attributes:
        preset: name of the preset.
        command: the command that repeats the training.
        corpus: the corpus's name.
        corpus_sha256: the hash of its text in UTF-8.
        corpus_characters: the length of its text.
        created_at: ISO 8601, UTC.
        machine: processor and number of threads, or the GPUs.
        torch_version: torch's.
        steps: optimizer steps taken.
        tokens: tokens trained on, repetitions counted.
        seconds: time spent training.
        seed: the run's.
        nats_per_character: validation figures by protocol, "block" and "sliding".
        curve: one entry an evaluation, with "step" and, in nats per token, "train_loss" and "val_loss".
        best_step: the step whose weights these are.
        memorisation: what texts have in common with the training text, one entry a source of texts, with "source" and
            "longest" in words, and numbers; `python -m train.memorised --record` writes it.
    """

    preset: str = ""
    command: str = ""
    corpus: str = ""
    corpus_sha256: str = ""
    corpus_characters: int = 0
    created_at: str = ""
    machine: str = ""
    torch_version: str = ""
    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0
    seed: int = 0
    nats_per_character: dict[str, float] = field(default_factory=dict)
    curve: list[dict[str, float]] = field(default_factory=list)
    best_step: int = 0
    memorisation: list[dict[str, str | float]] = field(default_factory=list)

    def to_json(self) -> str:
        """The record as JSON text; without `memorisation` where that is not known, as before there was such a field."""
        values = dataclasses.asdict(self)
        if not self.memorisation:
            del values["memorisation"]
        return json.dumps(values, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> TrainingRecord:
        """The record that `to_json` wrote.

        Raises:
            CheckpointError: the text is not JSON in Unicode, a field is unknown or has another type.
        """
        try:
            values = json.loads(text)
            json.dumps(values, ensure_ascii=False).encode()  # an escape can be half a character, which no page can show
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"the training record is not JSON ({error})") from error
        if not isinstance(values, dict):
            raise CheckpointError(f"the training record is {type(values).__name__}; a JSON object is needed")
        expected = dataclasses.asdict(cls())
        for name, value in values.items():
            if name not in expected:
                raise CheckpointError(
                    f"the training record has the unknown field {name}; known are {', '.join(expected)}"
                )
            allowed = (int, float) if isinstance(expected[name], float) else type(expected[name])
            if not isinstance(value, allowed) or isinstance(value, bool):
                raise CheckpointError(
                    f"the training record's {name} is {value!r}; it must be {type(expected[name]).__name__}"
                )
        for figures in (values.get("nats_per_character", {}), *values.get("curve", [])):
            if not isinstance(figures, dict) or not all(
                isinstance(figure, (int, float)) for figure in figures.values()
            ):
                raise CheckpointError(f"the training record's figures are {figures!r}; they must be numbers with names")
        for row in values.get("memorisation", []):
            if not isinstance(row, dict) or not all(isinstance(value, (str, int, float)) for value in row.values()):
                raise CheckpointError(
                    f"the training record's memorisation has {row!r}; it must be words and numbers with names"
                )
        return cls(**values)
