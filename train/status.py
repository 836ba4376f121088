"""RunStatus: what a run says of itself in status.json, for those who watch it from outside."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STATUS_FILE = "status.json"
STATES = ("training", "scoring", "finished", "paused", "failed")


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """Where a run stands, and the facts that its other files do not hold.

    Attributes:
        state: one of STATES; "training" and "scoring" are true only while a process holds the folder's lock.
        message: why it failed, in words.
        pid: the process that wrote this.
        command: what began the run.
        started_at: when this process began to train, ISO 8601, UTC.
        device: what computes.
        threads: on a CPU.
        corpus: the text's name.
        corpus_characters: its length.
        tokens_per_character: of the validation text; turns nats per token into nats per character.
        parameters: the model's.
        vocab_dim: the tokenizer's.
        tokens_per_step: tokens that an optimizer step learns from.
        ngrams: the n-gram ladder in nats per character, from order 1 on; empty where the text is too long for it.
        scored: part of the validation text that is scored, while the state is "scoring".
        nats_per_character: the best checkpoint's figures by protocol, once it is scored.
    """

    state: str
    message: str = ""
    pid: int = 0
    command: str = ""
    started_at: str = ""
    device: str = ""
    threads: int = 0
    corpus: str = ""
    corpus_characters: int = 0
    tokens_per_character: float = 1.0
    parameters: int = 0
    vocab_dim: int = 0
    tokens_per_step: int = 0
    ngrams: list[float] = field(default_factory=list)
    scored: float = 0.0
    nats_per_character: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> str:
        """The status as JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"


def read_status(folder: Path) -> RunStatus | None:
    """The status of the run in `folder`; None where there is none, or none that this version wrote."""
    try:
        fields: Any = json.loads((folder / STATUS_FILE).read_text(encoding="utf-8"))
        status = RunStatus(**fields)
    except (OSError, ValueError, TypeError):
        return None
    return status if status.state in STATES else None
