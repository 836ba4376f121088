"""What the whole page has: checkpoints to choose from, memory, room on every screen."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from gpt.ui.settings import SETTINGS
from tests.fake_backend import FakeBackend
from tests.fake_page import BROKEN

if TYPE_CHECKING:
    from playwright.sync_api import FloatRect, Page

DESKTOP = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
DEFAULTS = {setting.name: setting.default for setting in SETTINGS}


def test_a_card_makes_its_checkpoint_live(
    address: str, visit: Callable[..., Page], backend: FakeBackend, other_backend: FakeBackend
) -> None:
    other_backend.loadable.clear()
    page = visit(address)
    backend.delay_s = 0.2
    page.click("#generate")
    page.wait_for_selector("#output .tv-token")
    page.get_by_role("tab", name="Models").click()
    assert page.locator("#models .card").count() == 3
    card = page.locator("#models .card.live")
    assert card.locator("h3").inner_text() == "laptop" and "1.447" in card.inner_text() and "2,600" in card.inner_text()
    page.click("#models .card:has-text('shakespeare') button.use")
    page.wait_for_selector("#models .card:has-text('shakespeare') button.loading")
    other_backend.loadable.set()
    page.wait_for_selector("#models .card.live:has-text('9,000')")
    assert page.locator("#models .card.live").count() == 1
    assert "1.596" in page.inner_text("#backend")
    assert page.input_value("#checkpoint input") == "shakespeare"
    assert backend.active == 1, "the text under way did not stay where it began"

    other = visit(address)
    other.wait_for_function("document.querySelector('#checkpoint input').value === 'shakespeare'")
    assert "1.596" in other.inner_text("#backend")
    other.click("#generate")
    other.wait_for_selector("#output .tv-token")
    assert len(backend.requests) == 1, "the new text did not go to the new checkpoint"


def test_a_checkpoint_that_cannot_be_loaded_changes_nothing(page: Page) -> None:
    page.locator("#checkpoint input").click()
    page.get_by_role("option", name=BROKEN).click()
    page.wait_for_selector("[data-testid=toast-text]:has-text('is damaged; copy it again')")
    page.wait_for_function("document.querySelector('#checkpoint input').value === 'laptop'")
    assert "1.447" in page.inner_text("#backend")
    page.locator("#checkpoint input").click()
    page.get_by_role("option", name="shakespeare").click()
    page.wait_for_selector("#backend :text('1.596')")


def _forgive_reloads(complaints: list[str]) -> None:
    """Gradio's own script says in the page that goes that its streams are cut, sometimes late."""
    cut = ("AbortError: signal is aborted without reason", "Unexpected error Connection errored out.")
    complaints[:] = [words for words in complaints if not words.startswith(cut)]


def test_settings_are_remembered_over_a_reload_and_reset(page: Page, complaints: list[str]) -> None:
    page.fill("#temperature input[type=number]", "0.35")
    page.focus("#top_k input[type=range]")
    page.keyboard.press("ArrowRight")
    page.fill("#seed input", "42")
    changed = DEFAULTS | {"temperature": 0.35, "top_k": 51, "seed": 42}
    _wait_for_settings(page, changed)
    page.wait_for_timeout(200)
    page.reload()
    _wait_for_settings(page, changed)
    page.click("#reset-settings")
    _wait_for_settings(page, DEFAULTS)
    page.wait_for_timeout(200)
    page.reload()
    page.wait_for_timeout(500)
    _wait_for_settings(page, DEFAULTS)
    _forgive_reloads(complaints)


def test_a_reload_while_text_is_written_leaves_a_page_that_works(
    page: Page, backend: FakeBackend, complaints: list[str]
) -> None:
    backend.delay_s = 0.05
    page.click("#generate")
    page.wait_for_selector("#output .tv-token")
    page.reload()
    page.wait_for_selector("#generate:not(:disabled)")
    assert page.is_disabled("#stop")
    page.click("#generate")
    page.wait_for_selector("#output .tv-token")
    _forgive_reloads(complaints)
    page.click("#stop")
    page.wait_for_selector("#generate:not(:disabled)")
    assert backend.active <= 1


@pytest.mark.parametrize("screen", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_fits_on_every_screen(address: str, visit: Callable[..., Page], screen: dict, scheme: str) -> None:
    page = visit(address, color_scheme=scheme, **screen)
    page.click("#generate")
    page.wait_for_selector("#output .tv-token")
    width = screen["viewport"]["width"]
    # The darker half of the scale is the background in dark, the lighter one in light; the text is the opposite.
    assert (_lightness(page, "body", "backgroundColor") < 128) == (scheme == "dark")
    assert (_lightness(page, "#output .tv-text", "color") > 128) == (scheme == "dark")
    assert (_lightness(page, "#top_k .slider_input_container input", "color") > 128) or scheme == "light"
    settings, prompt = _box(page, "#settings"), _box(page, "#prompt")
    assert (settings["y"] > prompt["y"] + 300) if screen is PHONE else (settings["x"] > prompt["x"] + prompt["width"])
    for tab in (None, "Dialogue", "Models"):
        if tab:
            page.get_by_role("tab", name=tab).click()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        clipped = page.evaluate(
            "[...document.querySelectorAll('button, .pill, .card, h1, input, .tv')].filter(node => node.offsetParent"
            f" && node.getClientRects()[0]?.right > {width}).map(node => node.outerHTML.slice(0, 80))"
        )
        assert clipped == []


def test_a_tap_shows_alternatives_on_a_phone(address: str, visit: Callable[..., Page], backend: FakeBackend) -> None:
    page = visit(address, **PHONE)
    page.fill("#seed input", "0")
    page.locator("#generate").tap()
    page.wait_for_selector("#output .tv-token >> nth=5")
    page.wait_for_selector("#generate:not(:disabled)")
    page.locator("#output .tv-token").nth(3).tap()
    page.wait_for_selector("#output .tv-pop:not([hidden])")
    box = _box(page, "#output .tv-pop")
    assert box["x"] >= 0 and box["x"] + box["width"] <= 390
    page.locator("#output .tv-alternative:has-text('night')").tap()
    page.wait_for_function("document.querySelector('#output').textContent.includes('through nightWhat')")
    assert backend.requests[1].prompt == "ROMEO:\nWhat light through night"


def _wait_for_settings(page: Page, values: dict[str, float]) -> None:
    """Wait until every control shows its value."""
    for name, value in values.items():
        page.wait_for_function(
            "([name, value]) => Number(document.querySelector(`#${name} input[type=number]`)?.value) === value",
            arg=[name, value],
        )


def _box(page: Page, selector: str) -> FloatRect:
    """Where an element is on the page."""
    box = page.locator(selector).bounding_box()
    assert box
    return box


def _lightness(page: Page, selector: str, field: str) -> float:
    """Mean of the red, green and blue of an element's colour, 0 to 255."""
    colour = page.evaluate(f"getComputedStyle(document.querySelector('{selector}')).{field}")
    numbers = [float(part) for part in colour[colour.index("(") + 1 : -1].replace(",", " ").split()[:3]]
    return sum(numbers) / 3
