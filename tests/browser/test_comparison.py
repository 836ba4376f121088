"""The Compare tab: two models, or two settings, side by side."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from gpt.character_tokenizer import CharacterTokenizer
from gpt.vocabulary import TOKENIZER_FILE
from tests.browser.field import fill_new
from tests.fake_backend import FakeBackend
from tests.fake_page import BROKEN

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from gpt.ui.catalogue import Catalogue

    Server = tuple[str, Catalogue, dict[str, FakeBackend]]

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


@pytest.fixture
def other(server: Server, backend: FakeBackend) -> FakeBackend:
    """The backend that the live one is compared with."""
    return server[2]["shakespeare"]


def test_both_write_the_same_prompt_at_once(page: Page, backend: FakeBackend, other: FakeBackend) -> None:
    page.fill("#prompt textarea", "JULIET:")
    page.click("#to-compare")
    _choose(page, "b", "shakespeare")
    assert page.input_value("#compare-prompt textarea") == "JULIET:"
    backend.delay_s = other.delay_s = 0.1
    fill_new(page, "#compare-max_new_tokens input[type=number]", "60")
    page.click("#compare")
    page.wait_for_function(
        "['a', 'b'].every(side => document.querySelectorAll(`#compared-${side} .tv-token`).length > 3)"
    )
    assert max(page.locator(f"#compared-{side} .tv-token").count() for side in "ab") < 60
    backend.delay_s = other.delay_s = 0.01
    page.wait_for_selector("#compare:not(:disabled)")
    assert backend.requests == other.requests and len(other.requests) == 1
    seed = other.requests[0].seed or 0
    for side, words, figure in (("a", "laptop", "1.447"), ("b", "shakespeare", "1.596")):
        view = f"#compared-{side}"
        assert page.inner_text(f"{view} .tv-title") == f"{words} {figure} nats/char, lower is better"
        assert page.locator(f"{view} .tv-text").text_content() == "JULIET:" + other.text(seed, 60)
        assert f"seed {seed}" in page.inner_text(f"{view} .tv-stats")
    assert page.inner_text("#compare-summary") == "The two texts are the same, word for word."
    first, second = (page.locator(f"#compared-{side}").bounding_box() for side in "ab")
    assert first and second and first["x"] + first["width"] < second["x"] and abs(first["y"] - second["y"]) < 2


def test_tokens_that_differ_are_marked(page: Page, backend: FakeBackend, other: FakeBackend) -> None:
    other.words = [" night" if word == " soft" or word == " light" else word for word in other.words]
    _open(page, "shakespeare")
    fill_new(page, "#compare-seed input", "0")
    fill_new(page, "#compare-max_new_tokens input[type=number]", "6")
    page.click("#compare")
    page.wait_for_selector("#compare-summary :text('The first token is the same')")
    page.wait_for_selector("#compare:not(:disabled)")
    for side, word in (("a", " light"), ("b", " night")):
        assert page.locator(f"#compared-{side} .tv-differs").all_text_contents() == [word]


def test_different_tokenizers_are_told(page: Page, server: Server, other: FakeBackend) -> None:
    other.words = ["So", "ft"]
    folder = server[1].folder("shakespeare")[1]
    kept = (folder / TOKENIZER_FILE).read_bytes()
    CharacterTokenizer("abc").save(folder)
    try:
        _open(page, "shakespeare")
        fill_new(page, "#compare-max_new_tokens input[type=number]", "5")
        page.click("#compare")
        page.wait_for_selector("#compare-summary :text('The two models have different tokenizers')")
        page.wait_for_selector("#compare:not(:disabled)")
    finally:
        (folder / TOKENIZER_FILE).write_bytes(kept)
    page.click("#compare")
    page.wait_for_selector("#compare-summary :text('tokenizers')", state="detached")
    page.wait_for_selector("#compare-summary :text('tokens are not in the second')")
    page.wait_for_selector("#compare:not(:disabled)")
    assert "tokenizers" not in page.inner_text("#compare-summary")


def test_one_model_with_two_settings(page: Page, backend: FakeBackend) -> None:
    _open(page, "laptop (live)")
    page.click("#compare-settings-b button")
    fill_new(page, "#b-temperature input[type=number]", "0.3")
    fill_new(page, "#compare-max_new_tokens input[type=number]", "5")
    page.click("#compare")
    page.wait_for_selector("#compare-summary p:text('same')")
    assert sorted(request.temperature for request in backend.requests) == [0.3, 0.8]
    assert len({request.seed for request in backend.requests}) == 1
    assert "temperature 0.8" in page.inner_text("#compared-a .tv-title")
    assert "temperature 0.3" in page.inner_text("#compared-b .tv-title")


def test_stop_ends_both_and_what_is_there_is_compared(page: Page, backend: FakeBackend, other: FakeBackend) -> None:
    _open(page, "shakespeare")
    backend.delay_s = other.delay_s = 0.03
    page.click("#compare")
    page.wait_for_selector("#compared-a .tv-token")
    page.wait_for_selector("#compared-b .tv-token")
    page.click("#compare-stop")
    page.wait_for_selector("#compare:not(:disabled)")
    _wait_until(lambda: backend.active == other.active == 0)
    page.wait_for_selector("#compare-summary p")


def test_one_that_cannot_write_says_so_beside_the_other(page: Page, backend: FakeBackend, other: FakeBackend) -> None:
    _open(page, BROKEN)
    fill_new(page, "#compare-max_new_tokens input[type=number]", "20")
    page.click("#compare")
    page.wait_for_selector("#compared-b .tv-note:has-text('is damaged; copy it again')")
    page.wait_for_selector("#compared-a .tv-token >> nth=19")
    page.wait_for_selector("#compare:not(:disabled)")

    _choose(page, "b", "a model elsewhere")
    page.click("#compare")
    page.wait_for_selector("#compared-b .tv-note:has-text('project')")
    page.wait_for_selector("#compare:not(:disabled)")
    assert page.locator("[data-testid=toast-text]").count() == 0


def test_a_visitor_who_leaves_frees_the_other(address: str, visit: Callable[..., Page], other: FakeBackend) -> None:
    page = visit(address)
    _open(page, "shakespeare")
    fill_new(page, "#compare-max_new_tokens input[type=number]", "5")
    page.click("#compare")
    page.wait_for_selector("#compared-b .tv-token >> nth=4")
    page.close()
    _wait_until(lambda: other.closed)


def test_texts_are_stacked_on_a_phone(address: str, visit: Callable[..., Page], other: FakeBackend) -> None:
    page = visit(address, **PHONE)
    _open(page, "shakespeare")
    page.locator("#compare").tap()
    page.wait_for_selector("#compared-b .tv-token")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    first, second = (page.locator(f"#compared-{side}").bounding_box() for side in "ab")
    assert first and second and first["y"] + first["height"] < second["y"] and second["x"] + second["width"] <= 390
    page.locator("#compare-stop").tap()
    page.wait_for_selector("#compare:not(:disabled)")


def _open(page: Page, name: str) -> None:
    page.get_by_role("tab", name="Compare").click()
    _choose(page, "b", name)


def _choose(page: Page, side: str, name: str) -> None:
    page.wait_for_selector("#compare")
    page.locator(f"#compare-model-{side} input").click()
    page.get_by_role("option", name=name).click()
    page.wait_for_function(
        "([side, name]) => document.querySelector(`#compare-model-${side} input`).value.startsWith(name)",
        arg=[side, name],
    )


def _wait_until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)
