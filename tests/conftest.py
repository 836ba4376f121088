"""What all tests share: one thread a process; the emulator and the hub, each started for the first test that asks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.emulator.emulator import Emulator
    from tests.loopback_hub import LoopbackHub

# The cores are shared by pytest's workers and by what they start, all of it small; threads that wait for each other
# while others have their core spin, and everything takes twice as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def _running_emulator() -> Iterator[Emulator]:
    from tests.emulator.emulator import Emulator

    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def emulator(_running_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """The cloud on this machine: empty, and in the environment, so that what a test starts uses it."""
    for name, value in _running_emulator.environment().items():
        monkeypatch.setenv(name, value)
    yield _running_emulator
    _running_emulator.clear()


@pytest.fixture(scope="session")
def _running_hub() -> Iterator[LoopbackHub]:
    import huggingface_hub

    from tests.loopback_hub import LoopbackHub

    with LoopbackHub().served() as hub:
        yield hub
        huggingface_hub.close_session()


@pytest.fixture
def loopback(_running_hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LoopbackHub]:
    """A hub on this machine: empty, and in the environment, so that the real client uses it here and in what a test
    starts; downloads are kept in the test's folder.
    """
    from huggingface_hub import constants

    from tests.loopback_hub import TOKEN

    home = tmp_path / "hf-home"
    found = {"HF_ENDPOINT": _running_hub.endpoint, "HF_TOKEN": TOKEN, "HF_HOME": str(home)}
    for name, value in (found | {"HF_HUB_DISABLE_XET": "1"}).items():
        monkeypatch.setenv(name, value)
    # What the client read when it was imported.
    template = f"{_running_hub.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "ENDPOINT", _running_hub.endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    yield _running_hub
    _running_hub.clear()
