"""The Playground's text mode, as a visitor uses it."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from gpt.completion import CompletionRequest
from gpt.errors import QueueFullError
from tests.fake_backend import UNKNOWN, FakeBackend

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

    from gpt.ui.catalogue import Catalogue

TOKEN = "#output .tv-token"
POPOVER = "#output .tv-pop"


def test_generate_streams_tokens_tinted_by_probability(page: Page, backend: FakeBackend) -> None:
    backend.delay_s = 0.1
    page.fill("#max_new_tokens input[type=number]", "60")
    page.fill("#seed input", "7")
    page.click("#generate")
    page.wait_for_selector(TOKEN)
    early = page.locator(TOKEN).count()
    assert page.is_enabled("#stop") and page.is_disabled("#generate") and page.is_disabled("#clear")
    backend.delay_s = 0.01
    page.wait_for_selector("#generate:not(:disabled)")
    assert page.is_disabled("#stop")
    assert 0 < early < 60, "all tokens came at once"
    assert page.locator(TOKEN).count() == 60
    assert page.locator("#output .tv-text").text_content() == "ROMEO:\n" + backend.text(7, 60)

    logprobs = [chunk.logprobs[0].logprob for chunk in backend.stream(backend.requests[0])]
    tints = page.locator(TOKEN).evaluate_all("nodes => nodes.map(node => getComputedStyle(node).backgroundColor)")
    assert tints[logprobs.index(max(logprobs))] != tints[logprobs.index(min(logprobs))]
    assert len(set(tints)) > 5

    stats = page.inner_text("#output .tv-stats")
    assert "60 tokens" in stats and "seed 7" in stats
    assert _figure(stats, "perplexity") == pytest.approx(math.exp(-sum(logprobs) / 60), abs=0.01)
    assert 1 < _figure(stats, "tokens/s") < 101


def test_pointing_at_a_token_shows_its_alternatives(page: Page) -> None:
    _generate(page, tokens=20, seed=0)
    page.locator(TOKEN).nth(3).hover()
    page.wait_for_selector(f"{POPOVER}:not([hidden])")
    rows = page.locator(f"{POPOVER} .tv-alternative")
    assert rows.count() == 6
    assert rows.first.inner_text().split() == ["·soft", "50", "%"]
    assert "·yonder" in page.inner_text(f"{POPOVER} .tv-chosen")
    page.hover("#brand")
    page.wait_for_selector(POPOVER, state="hidden")


def test_choosing_an_alternative_continues_the_text_from_there(page: Page, backend: FakeBackend) -> None:
    _generate(page, tokens=20, seed=0)
    page.locator(TOKEN).nth(3).hover()
    page.click(f"{POPOVER} .tv-alternative:has-text('night')")
    page.wait_for_function(f"document.querySelectorAll('{TOKEN}').length === 24")
    page.wait_for_selector("#generate:not(:disabled)")
    assert backend.requests[1].prompt == "ROMEO:\nWhat light through night"
    assert page.locator("#output .tv-text").text_content() == "ROMEO:\nWhat light through night" + backend.text(0, 20)
    assert "24 tokens" in page.inner_text("#output .tv-stats")


def test_choosing_an_alternative_of_a_running_text_stops_it_first(page: Page, backend: FakeBackend) -> None:
    backend.delay_s = 0.03
    page.fill("#seed input", "0")
    page.click("#generate")
    page.wait_for_function(f"document.querySelectorAll('{TOKEN}').length > 6")
    page.locator(TOKEN).nth(3).hover()
    page.click(f"{POPOVER} .tv-alternative:has-text('night')")
    _wait_for_requests(backend, 2)
    page.wait_for_function("document.querySelector('#output').textContent.includes('through nightWhat')")
    assert backend.active == 1
    page.click("#stop")
    page.wait_for_selector("#generate:not(:disabled)")


def test_stop_keeps_the_text_and_frees_the_place(page: Page, backend: FakeBackend) -> None:
    backend.delay_s = 0.06
    page.click("#generate")
    page.wait_for_function(f"document.querySelectorAll('{TOKEN}').length > 10")
    page.click("#stop")
    page.wait_for_selector("#generate:not(:disabled)")
    assert page.is_disabled("#stop")
    kept = page.locator("#output .tv-text").text_content()
    assert page.locator(TOKEN).count() > 10
    _wait_until(lambda: backend.active == 0)
    page.wait_for_timeout(300)
    assert page.locator("#output .tv-text").text_content() == kept
    page.click("#generate")
    _wait_for_requests(backend, 2)
    page.wait_for_function(f"document.querySelectorAll('{TOKEN}').length > 3")


def test_steps_that_arrive_at_once_lose_nothing(page: Page, backend: FakeBackend) -> None:
    # A comparison's text keeps the page's stream open, so that the next text's first steps overtake the late answer
    # that names them, and are read all at once when it has come.
    backend.delay_s = 0.05
    page.click("#to-compare")
    page.click("#compare")
    page.wait_for_selector("#compared-a .tv-token")
    page.get_by_role("tab", name="Playground").click()

    def answer_late(route: Route) -> None:
        response = route.fetch()
        page.wait_for_timeout(500)
        route.fulfill(response=response)

    page.route(re.compile("/queue/join"), answer_late)
    page.click("#generate")
    page.wait_for_selector(f"{TOKEN} >> nth=5")
    assert page.is_enabled("#stop") and page.is_disabled("#generate") and page.is_disabled("#clear")
    page.click("#stop")
    page.wait_for_selector("#generate:not(:disabled)")


def test_the_header_says_what_writes_though_another_browser_chose_it(
    page: Page, server: tuple[str, Catalogue, dict[str, FakeBackend]], other_backend: FakeBackend
) -> None:
    other_backend.delay_s = 0.2
    server[1].use("shakespeare")
    page.click("#generate")
    page.wait_for_selector("#backend :text('1.596')")
    assert page.input_value("#checkpoint input") == "shakespeare"
    assert page.locator(TOKEN).count() < 100, "it said so only at the end"
    page.wait_for_selector("#stop:not(:disabled)")
    page.click("#stop")
    page.wait_for_selector("#generate:not(:disabled)")


def test_closing_the_page_frees_the_place(page: Page, backend: FakeBackend) -> None:
    backend.delay_s = 0.02
    page.click("#generate")
    page.wait_for_selector(TOKEN)
    assert backend.active == 1
    page.close()
    _wait_until(lambda: backend.active == 0)


def test_clear_empties_the_page(page: Page) -> None:
    _generate(page, tokens=5, seed=0)
    page.click("#clear")
    page.wait_for_selector(TOKEN, state="detached")
    assert page.input_value("#prompt textarea") == ""


def test_the_shown_seed_can_be_used_again(page: Page, backend: FakeBackend) -> None:
    _generate(page, tokens=5)
    drawn = backend.requests[0].seed
    page.click("#output .tv-seed")
    page.wait_for_function(f"document.querySelector('#seed input').value === '{drawn}'")


def test_errors_are_words_and_take_nothing_away(page: Page, backend: FakeBackend) -> None:
    _generate(page, tokens=5, seed=0)
    shown = page.locator("#output .tv-text").text_content()
    page.fill("#prompt textarea", "")
    _refused(page, "prompt is empty")
    page.fill("#prompt textarea", f"a {UNKNOWN} b <b>")
    _refused(page, "knows no such character")
    page.fill("#prompt textarea", "ROMEO:")
    backend.error = QueueFullError("8 requests are served and 8 wait; try again in a moment")
    _refused(page, "try again in a moment")
    assert page.locator("#output .tv-text").text_content() == shown

    backend.error, backend.fail_after = None, 3
    _refused(page, "the backend was closed")
    assert page.locator("#output .tv-text").text_content() == "ROMEO:" + backend.text(0, 3)


def test_a_setting_out_of_range_is_named(page: Page, backend: FakeBackend) -> None:
    page.fill("#max_new_tokens input[type=number]", "200000")
    page.locator("#max_new_tokens input[type=number]").blur()
    page.fill("#seed input", "-5")
    _refused(page, "seed is -5")
    page.fill("#seed input", "")
    _refused(page, "seed is empty")
    assert not backend.requests


def test_what_a_model_writes_is_never_markup(page: Page, backend: FakeBackend) -> None:
    backend.words = ("<img src=x onerror=alert(1)>", "</script><b>", "`${alert(2)}`", "{{value}}", "\u2028", "é\n")
    page.fill("#prompt textarea", "<i>{{value}} ${alert(3)}")
    _generate(page, tokens=6, seed=0)
    assert page.locator("#output .tv-text").text_content() == "<i>{{value}} ${alert(3)}" + "".join(backend.words)
    assert page.locator("#output :is(img, b, i, script):not(.tv-stats *, .tv-legend *)").count() == 0


def test_the_text_is_copied_as_it_is(address: str, visit: Callable[..., Page], backend: FakeBackend) -> None:
    page = visit(address, permissions=["clipboard-read", "clipboard-write"])
    _generate(page, tokens=30, seed=0)
    whole = "ROMEO:\n" + backend.text(0, 30)
    page.click("#output .tv-copy")
    page.wait_for_selector("text=Copied")
    assert page.evaluate("navigator.clipboard.readText()") == whole
    page.evaluate("navigator.clipboard.writeText('')")
    page.evaluate("getSelection().selectAllChildren(document.querySelector('#output .tv-text'))")
    page.keyboard.press("Control+c")
    assert page.evaluate("navigator.clipboard.readText()") == whole


def test_the_keyboard_does_all_of_it(page: Page, backend: FakeBackend) -> None:
    backend.delay_s = 0.02
    page.fill("#seed input", "0")
    page.focus("#prompt textarea")
    page.keyboard.press("Control+Enter")
    page.wait_for_function(f"document.querySelectorAll('{TOKEN}').length > 8")
    page.keyboard.press("Escape")
    page.wait_for_selector("#generate:not(:disabled)")
    assert len(backend.requests) == 1

    page.focus("#output .tv-copy")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "What"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.textContent") == " through"
    assert page.is_visible(POPOVER)
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    _wait_for_requests(backend, 2)
    assert backend.requests[1].prompt == "ROMEO:\nWhat light night"
    page.wait_for_function("!document.querySelector('#stop').disabled")
    page.keyboard.press("Escape")
    page.wait_for_selector("#generate:not(:disabled)")


def _generate(page: Page, *, tokens: int, seed: int | None = None) -> None:
    """Set length and seed, press Generate, wait for the end."""
    page.fill("#max_new_tokens input[type=number]", str(tokens))
    if seed is not None:
        page.fill("#seed input", str(seed))
    page.click("#generate")
    page.wait_for_function(f"document.querySelectorAll('{TOKEN}').length === {tokens}")
    page.wait_for_selector("#generate:not(:disabled)")


def _figure(stats: str, unit: str) -> float:
    """The number before its unit."""
    found = re.search(rf"([\d.]+) {unit}", stats)
    assert found, stats
    return float(found[1])


def _refused(page: Page, words: str) -> None:
    """Press Generate; the page says these words and is ready again."""
    page.click("#generate")
    page.wait_for_selector(f"[data-testid=toast-text]:has-text('{words}')")
    page.wait_for_selector("#generate:not(:disabled)")


def _wait_for_requests(backend: FakeBackend, number: int) -> list[CompletionRequest]:
    _wait_until(lambda: len(backend.requests) >= number)
    return backend.requests


def _wait_until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)
