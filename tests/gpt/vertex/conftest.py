"""The emulator as the tests of deploying want it."""

from __future__ import annotations

from pathlib import Path

import pytest

import gpt.vertex.deployment
from tests.emulator.emulator import Emulator
from tests.gpt.vertex.deploying import make_checkpoint, plain_container


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A tiny one."""
    return make_checkpoint(tmp_path / "tiny")


@pytest.fixture
def cloud(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """The emulator, with containers that start at once and a command that does not wait long for them."""
    emulator.predictor = plain_container()
    monkeypatch.setattr(gpt.vertex.deployment, "PAUSES_S", (0.01,))
    return emulator
