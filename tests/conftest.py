"""The emulator, started for the first test that asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.emulator.emulator import Emulator


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
