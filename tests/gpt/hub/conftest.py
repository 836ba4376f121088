"""A hub on this machine and the real client, which keeps its downloads in the test's folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest

from gpt.hub.repository import Hub
from tests.loopback_hub import TOKEN, LoopbackHub


@pytest.fixture
def loopback(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", "/nowhere")
    with LoopbackHub().served() as hub:
        yield hub
        huggingface_hub.close_session()


@pytest.fixture
def hub(loopback: LoopbackHub, tmp_path: Path) -> Hub:
    return Hub(loopback.endpoint, TOKEN, tmp_path / "cache")
