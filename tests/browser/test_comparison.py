"""Two checkpoints side by side in the Playground."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.fake_backend import UNKNOWN, FakeBackend
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
    _compare_with(page, "shakespeare")
    backend.delay_s = other.delay_s = 0.03
    page.fill("#max_new_tokens input[type=number]", "60")
    page.click("#generate")
    page.wait_for_function(
        "['#output', '#compared'].every(id => document.querySelectorAll(`${id} .tv-token`).length > 3)"
    )
    assert max(page.locator(f"{view} .tv-token").count() for view in ("#output", "#compared")) < 60
    page.wait_for_selector("#generate:not(:disabled)")
    assert backend.requests == other.requests and len(other.requests) == 1
    seed = other.requests[0].seed or 0
    for view, words, figure in (("#output", "laptop", "1.447"), ("#compared", "shakespeare", "1.596")):
        assert page.inner_text(f"{view} .tv-title") == f"{words} {figure} nats/char"
        assert page.locator(f"{view} .tv-text").text_content() == "ROMEO:\n" + other.text(seed, 60)
        assert f"seed {seed}" in page.inner_text(f"{view} .tv-stats")
    first, second = (page.locator(view).bounding_box() for view in ("#output", "#compared"))
    assert first and second and first["x"] + first["width"] < second["x"] and abs(first["y"] - second["y"]) < 2


def test_stop_ends_both(page: Page, backend: FakeBackend, other: FakeBackend) -> None:
    _compare_with(page, "shakespeare")
    backend.delay_s = other.delay_s = 0.03
    page.click("#generate")
    page.wait_for_selector("#output .tv-token")
    page.wait_for_selector("#compared .tv-token")
    page.click("#stop")
    page.wait_for_selector("#generate:not(:disabled)")
    _wait_until(lambda: backend.active == other.active == 0)
    assert page.locator("#compared .tv-token").count() > 0


def test_alternatives_go_on_in_the_first_and_are_shown_in_the_second(
    page: Page, backend: FakeBackend, other: FakeBackend
) -> None:
    _compare_with(page, "shakespeare")
    page.fill("#seed input", "0")
    page.fill("#max_new_tokens input[type=number]", "20")
    page.click("#generate")
    page.wait_for_selector("#compared .tv-token >> nth=19")
    page.wait_for_selector("#generate:not(:disabled)")
    page.locator("#compared .tv-token").nth(3).hover()
    page.wait_for_selector("#compared .tv-pop:not([hidden])")
    assert page.locator("#compared .tv-alternative:not(:disabled)").count() == 0
    page.locator("#output .tv-token").nth(3).hover()
    page.click("#output .tv-alternative:has-text('night')")
    page.wait_for_function("document.querySelectorAll('#output .tv-token').length === 24")
    page.wait_for_selector("#generate:not(:disabled)")
    assert backend.requests[1].prompt == "ROMEO:\nWhat light through night"
    assert len(other.requests) == 1 and page.locator("#compared .tv-token").count() == 20
    assert "laptop" in page.inner_text("#output .tv-title")


def test_one_that_cannot_write_says_so_beside_the_other(page: Page, backend: FakeBackend, other: FakeBackend) -> None:
    _compare_with(page, BROKEN)
    page.fill("#max_new_tokens input[type=number]", "20")
    page.click("#generate")
    page.wait_for_selector("#compared .tv-note:has-text('is damaged; copy it again')")
    page.wait_for_selector("#output .tv-token >> nth=19")
    page.wait_for_selector("#generate:not(:disabled)")

    _compare_with(page, "shakespeare")
    backend.knows_all = True
    page.fill("#prompt textarea", UNKNOWN)
    page.click("#generate")
    page.wait_for_selector("#compared .tv-note:has-text('knows no such character')")
    page.wait_for_selector("#output .tv-token >> nth=19")
    page.wait_for_selector("#generate:not(:disabled)")
    assert page.locator("#compared .tv-token").count() == 0
    assert page.locator("[data-testid=toast-text]").count() == 0


def test_nothing_compared_is_as_before_and_frees_the_second(
    page: Page, server: Server, backend: FakeBackend, other: FakeBackend
) -> None:
    _compare_with(page, "shakespeare")
    page.fill("#max_new_tokens input[type=number]", "20")
    page.click("#generate")
    page.wait_for_selector("#compared .tv-token >> nth=19")
    page.wait_for_selector("#generate:not(:disabled)")
    assert not other.closed
    _compare_with(page, "nothing")
    page.wait_for_selector("#compared", state="hidden")
    _wait_until(lambda: other.closed)
    page.click("#generate")
    page.wait_for_selector("#output .tv-title", state="hidden")
    page.wait_for_selector("#output .tv-token >> nth=19")
    assert len(backend.requests) == 2 and len(other.requests) == 1


def test_a_visitor_who_leaves_frees_the_second(address: str, visit: Callable[..., Page], other: FakeBackend) -> None:
    page = visit(address)
    _compare_with(page, "shakespeare")
    page.fill("#max_new_tokens input[type=number]", "5")
    page.click("#generate")
    page.wait_for_selector("#compared .tv-token >> nth=4")
    page.close()
    _wait_until(lambda: other.closed)


def test_the_list_follows_the_live_checkpoint(page: Page) -> None:
    page.locator("#checkpoint input").click()
    page.get_by_role("option", name="shakespeare").click()
    page.wait_for_selector("#backend :text('1.596')")
    option = page.get_by_role("option", name="laptop")
    page.locator("#rival input").click()
    while not option.count():  # the list follows a moment later
        page.keyboard.press("Escape")
        page.locator("#rival input").blur()
        page.locator("#rival input").click()
    option.click()
    page.locator("#rival input").blur()
    page.locator("#rival input").click()
    assert page.get_by_role("option", name="shakespeare").count() == 0


def test_texts_are_stacked_on_a_phone(address: str, visit: Callable[..., Page], other: FakeBackend) -> None:
    page = visit(address, **PHONE)
    _compare_with(page, "shakespeare")
    page.locator("#generate").tap()
    page.wait_for_selector("#compared .tv-token")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    first, second = (page.locator(view).bounding_box() for view in ("#output", "#compared"))
    assert first and second and first["y"] + first["height"] < second["y"] and second["x"] + second["width"] <= 390
    page.locator("#stop").tap()
    page.wait_for_selector("#generate:not(:disabled)")


def _compare_with(page: Page, name: str) -> None:
    page.locator("#rival input").click()
    page.get_by_role("option", name=name).click()
    page.wait_for_function("name => document.querySelector('#rival input').value === name", arg=name)
    if name != "nothing":
        page.wait_for_selector("#compared")


def _wait_until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)
