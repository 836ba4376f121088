"""The page's parts: what others rely on by name, and what it asks of the server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gpt.ui.token_view import token_view
from tests.fake_backend import FakeBackend
from tests.fake_page import in_event_loop, make_catalogue

ELEMENTS = {
    "prompt",
    "generate",
    "stop",
    "clear",
    "output",
    "temperature",
    "top_k",
    "max_new_tokens",
    "seed",
    "checkpoint",
    "backend",
    "inspect",
    "compare",
    "copy-link",
    "save-txt",
    "save-json",
}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    from gpt.ui.page import build_page

    catalogue = make_catalogue(tmp_path_factory.mktemp("checkpoints"), {"laptop": FakeBackend("laptop")})
    return in_event_loop(lambda: build_page(catalogue).get_config_file())


def test_the_elements_that_others_rely_on_are_there(config: Mapping[str, Any]) -> None:
    identifiers = [component["props"].get("elem_id") for component in config["components"]]
    for element in ELEMENTS:
        assert identifiers.count(element) == 1


def test_only_generate_is_public(config: Mapping[str, Any]) -> None:
    public = [one["api_name"] for one in config["dependencies"] if one["api_visibility"] == "public"]
    assert public == ["generate"]


def test_texts_are_written_side_by_side(config: Mapping[str, Any]) -> None:
    streams = [one for one in config["dependencies"] if one["types"]["generator"]]
    assert len(streams) == 11, (
        "text, dialogue, comparison, inspection, endpoint, two ways to change the checkpoint, four for elsewhere"
    )


def test_a_token_view_leaves_no_file_beside_the_source() -> None:
    view = token_view(elem_id="view", name="Text", empty="", stop="#stop")
    assert view.apply_default_css is False
    assert not list((Path(__file__).parents[3] / "gpt" / "ui").glob("*.pyi"))
