"""The Models tab's handlers: what its script asks for, and what the page shows then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpt.ui import models
from gpt.ui.catalogue import Catalogue
from tests.fake_backend import FakeBackend
from tests.fake_page import make_catalogue


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    (tmp_path / "laptop").mkdir()
    return make_catalogue(tmp_path, {name: FakeBackend(name) for name in ("laptop", "shakespeare")})


@pytest.fixture
def answers(catalogue: Catalogue) -> dict[str, Callable[[Any], dict[str, str]]]:
    return {answer.__name__: answer for answer in models._answers(catalogue)}


def test_a_card_is_html_and_never_a_strangers(answers: dict, tmp_path: Path) -> None:
    (tmp_path / "laptop" / "README.md").write_text("# Card\n\n<img src=x onerror=alert(1)>\n")
    assert answers["show_card"]("laptop") == {"html": "<h1>Card</h1>\n<p>&lt;img src=x onerror=alert(1)&gt;</p>\n"}
    assert answers["show_card"]("shakespeare") == {"html": ""}
    assert "There is no checkpoint 'none'" in answers["show_card"]("none")["error"]
    (tmp_path / "laptop" / "README.md").write_bytes(b"\xff")
    assert "cannot be read" in answers["show_card"]("laptop")["error"]


def test_renaming_and_deleting_answer_with_words_or_nothing(answers: dict, catalogue: Catalogue) -> None:
    assert answers["rename_checkpoint"](["shakespeare", "mine"]) == {}
    assert "mine" in catalogue.entries()
    assert answers["rename_checkpoint"](["mine", "laptop"]) == {"error": "The name 'laptop' is taken; choose another"}
    assert "cannot be a checkpoint's" in answers["rename_checkpoint"](["mine", "<b>"])["error"]
    assert "is live" in answers["delete_checkpoint"]("laptop")["error"]
    assert answers["delete_checkpoint"]("mine") == {}
    assert "mine" not in catalogue.entries()


@pytest.mark.parametrize("data", [None, 7, [], ["a"], ["a", "b", "c"], {"a": 1}, "ab"])
def test_what_no_page_sends_changes_nothing(
    answers: dict, catalogue: Catalogue, data: Any, caplog: pytest.LogCaptureFixture
) -> None:
    before = list(catalogue.entries())
    for answer in answers.values():
        assert answer(data)["error"]
    assert list(catalogue.entries()) == before
