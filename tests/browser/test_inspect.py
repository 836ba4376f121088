"""The Inspect tab, over the real random checkpoints behind the fake backends."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from gpt.completion import BackendInfo
from tests.browser.field import fill_new
from tests.fake_backend import FakeBackend

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from gpt.ui.catalogue import Catalogue

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


def _inspect(page: Page, text: str) -> None:
    page.get_by_role("tab", name="Inspect").click()
    fill_new(page, "#inspected textarea", text)
    page.click("#inspect")
    page.wait_for_selector(f"#inspect-note :text('{len(text)} tokens, read by laptop.')")


def test_a_text_is_shown_in_all_its_pictures(page: Page) -> None:
    _inspect(page, "O <b>!")
    page.wait_for_selector(".layers td")
    assert page.locator(".loss-token code").all_text_contents() == ["O", "·", "<", "b", ">", "!"]
    assert page.locator(".loss-token small").first.inner_text() == "\N{EN DASH}"
    assert page.locator(".attention-head").count() == 2
    assert page.locator(".layers tbody tr").count() == 6 and page.locator(".layers td").count() == 12
    page.locator(".loss-token").nth(3).hover()
    page.wait_for_selector(".hint:has-text('rank')")
    page.locator(".layers td").last.scroll_into_view_if_needed()
    page.wait_for_timeout(300)  # scrolling hides what is explained
    page.locator(".layers td").last.hover()
    page.wait_for_selector(".hint:has-text('layer 1 would say')")


def test_attention_is_told_by_pointer_and_keys(page: Page) -> None:
    _inspect(page, "abc")
    page.locator(".attention-head").nth(1).click()
    page.wait_for_selector(".attention-title:text-is('Layer 1, head 2')")
    page.focus(".attention-board")
    page.keyboard.press("ArrowDown")
    page.wait_for_selector(".hint:has-text('c looks at c with')")
    page.keyboard.press("ArrowUp")
    page.wait_for_selector(".hint:has-text('b cannot look at c which comes later')")
    box = page.locator(".attention-board").bounding_box()
    assert box
    page.locator(".attention-board").hover(position={"x": 4, "y": 4})
    page.wait_for_selector(".hint:has-text('a looks at a with 100 %')")


def test_sliders_filter_what_is_shown(page: Page) -> None:
    _inspect(page, "abc")
    page.wait_for_selector(".next-summary:has-text('50 are left after top-k')")
    page.fill("#inspect-top_k input[type=number]", "3")
    page.wait_for_selector(".next-summary:has-text('3 are left after top-k')")
    assert page.locator(".next-removed").count() == 17
    assert page.locator(".next-removed b").first.inner_text() == "out: top-k"
    page.fill("#inspect-temperature input[type=number]", "0")
    page.wait_for_selector(".next-row b:has-text('100 %')")


def test_what_cannot_be_read_is_told_and_what_is_shown_stays(page: Page) -> None:
    _inspect(page, "abc")
    page.fill("#inspected textarea", "\N{SNOWMAN}")
    page.click("#inspect")
    page.wait_for_selector("#inspect-note .bad")
    page.fill("#inspected textarea", "")
    page.click("#inspect")
    page.wait_for_selector("#inspect-note .bad:has-text('The text is empty')")
    assert page.locator(".loss-token").count() == 3
    page.fill("#inspected textarea", "a" * 70)
    page.click("#inspect")
    page.wait_for_selector("#inspect-note :text('The 6 tokens before them are left out')")


def test_a_model_elsewhere_cannot_be_looked_into(
    address: str, visit: Callable[..., Page], server: tuple[str, Catalogue, dict[str, FakeBackend]]
) -> None:
    class Elsewhere(FakeBackend):
        def info(self) -> BackendInfo:
            return BackendInfo("vertex", "chat", "us-central1")

    server[1].use_elsewhere(Elsewhere())
    page = visit(address)
    page.get_by_role("tab", name="Inspect").click()
    page.wait_for_selector("#inspect-note :text('the inside of a model elsewhere cannot be seen')")
    page.click("#inspect")
    page.wait_for_selector("#inspect-note .bad:has-text('No checkpoint is chosen')")
    page.locator("#inspect-model input").click()
    page.get_by_role("option", name="shakespeare").click()
    page.click("#inspect")
    page.wait_for_selector("#inspect-note :text('read by shakespeare')")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pictures_fit_a_phone(address: str, visit: Callable[..., Page], scheme: str) -> None:
    page = visit(address, color_scheme=scheme, **PHONE)
    _inspect(page, "What light through yonder window breaks? It is the east")
    page.wait_for_selector(".layers td")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator(".loss-token").nth(2).tap()
    page.wait_for_selector(".hint:has-text('rank')")
    box = page.locator(".hint").bounding_box()
    assert box and box["x"] >= 0 and box["x"] + box["width"] <= 390


def test_a_picture_that_is_wider_than_a_phone_says_so(address: str, visit: Callable[..., Page]) -> None:
    page = visit(address, **PHONE)
    _inspect(page, "What light through yonder window breaks? It is the east")
    page.wait_for_selector(".layers td")
    line = page.locator(".attention-one .sideways")
    assert line.is_visible() and line.inner_text() == "Scroll sideways for more \N{RIGHTWARDS ARROW}"
    page.wait_for_selector(".attention-large.sideways-more")
    page.evaluate("document.querySelector('.attention-large').scrollLeft = 9999")
    page.wait_for_selector(".attention-large:not(.sideways-more)")
    assert line.is_visible()
    assert page.locator("#inspect-layers .sideways").is_hidden()
    assert page.locator(".layers-frame.sideways-more").count() == 0
    page.set_viewport_size({"width": 1280, "height": 800})
    line.wait_for(state="hidden")


def test_the_playground_leads_there_with_its_text(page: Page) -> None:
    page.fill("#max_new_tokens input[type=number]", "3")
    page.fill("#seed input", "0")
    page.click("#generate")
    page.wait_for_selector("#output .tv-token >> nth=2")
    page.wait_for_selector("#generate:not(:disabled)")
    page.click("#to-inspect")
    page.wait_for_selector("#inspect")
    page.wait_for_function("document.querySelector('#inspected textarea').value === 'ROMEO:\\nWhat light through'")
