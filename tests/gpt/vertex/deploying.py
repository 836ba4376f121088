"""What the tests of deploying share: tiny checkpoints, the command, and containers that start at once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from gpt.checkpoint import save_checkpoint
from gpt.config import GPTConfig
from gpt.model import GPT
from gpt.record import TrainingRecord
from gpt.tokenizer import CharacterTokenizer
from gpt.vertex.deploy import main
from tests.emulator.emulator import BUCKET, Emulator

ROOT = Path(__file__).resolve().parents[3]
CONFIG = GPTConfig(vocab_dim=8, sequence_dim=16, embed_dim=8, num_heads=2, num_layers=1)
IMAGE = "us-docker.pkg.dev/rehearsal/gpt/serve:1"
PROGRAM = "python -m gpt.vertex.deploy"
CHANGING = ("POST", "PUT", "PATCH", "DELETE")
HARMLESS = ("/token", ":predict")


def make_checkpoint(folder: Path, seed: int = 0) -> Path:
    """Write a checkpoint of a few hundred parameters; its path."""
    torch.manual_seed(seed)
    save_checkpoint(folder, GPT.from_config(CONFIG), CharacterTokenizer("abcdefgh"), TrainingRecord(preset="tiny"))
    return folder


def plain_container(behaviour: str = "") -> tuple[str, ...]:
    """A predictor that starts at once; see plain_container.py."""
    script = str(Path(__file__).with_name("plain_container.py"))
    return (sys.executable, script, *([behaviour] if behaviour else []))


def options(checkpoint: Path, *more: str, bucket: str = BUCKET, image: str = IMAGE) -> list[str]:
    """The command line that deploys a checkpoint."""
    return [str(checkpoint), "--bucket", f"gs://{bucket}", "--image", image, *more]


def deploy(checkpoint: Path, *more: str, **changed: str) -> int:
    """Deploy in this process; the exit status."""
    return main(options(checkpoint, *more, **changed))


def sentence(capsys: pytest.CaptureFixture[str]) -> str:
    """The error that the command ended with: one line on standard error, after lines of progress, and no traceback."""
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    *before, last = captured.err.strip().splitlines()
    assert last.startswith(f"{PROGRAM}: error: "), captured.err
    assert not [line for line in before if "error" in line.lower()]
    return last.removeprefix(f"{PROGRAM}: error: ")


def changes(emulator: Emulator) -> list[str]:
    """The requests that change something, since `requests` was last cleared."""
    return [request for request in emulator.requests if request.startswith(CHANGING) and not request.endswith(HARMLESS)]


def endpoint(emulator: Emulator) -> dict[str, Any]:
    """The only endpoint, as the service has it."""
    (found,) = emulator.endpoints.endpoints.values()
    return found


def versions(emulator: Emulator) -> dict[str, dict[str, Any]]:
    """The versions of the only model, by number."""
    (found,) = emulator.models.versions.values()
    return found
