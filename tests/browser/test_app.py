"""One journey through the real thing: python app.py over a checkpoint of random weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tests.fake_page import save_random_checkpoint
from tests.test_app import started

if TYPE_CHECKING:
    from playwright.sync_api import Page


def test_a_visitor_generates_branches_and_talks_on_the_real_backend(tmp_path: Path, visit: Callable[..., Page]) -> None:
    folder = save_random_checkpoint(tmp_path / "tiny", nats=4.5)
    with started("--checkpoint", str(folder)) as (_, address):
        page = visit(address)
        assert page.input_value("#checkpoint input") == "tiny"
        assert "4.500" in page.inner_text("#backend")

        texts = []
        page.fill("#seed input", "3")
        page.fill("#max_new_tokens input[type=number]", "80")
        for _ in range(2):
            page.click("#generate")
            page.wait_for_function("document.querySelectorAll('#output .tv-token').length === 80")
            page.wait_for_selector("#generate:not(:disabled)")
            texts.append(page.locator("#output .tv-text").text_content() or "")
            page.click("#clear")
            page.wait_for_selector("#output .tv-token", state="detached")
            page.fill("#prompt textarea", "ROMEO:\n")
        assert texts[0] == texts[1]
        assert texts[0].startswith("ROMEO:\n") and len(texts[0]) == len("ROMEO:\n") + 80

        page.fill("#prompt textarea", "Caf\N{LATIN SMALL LETTER E WITH ACUTE}")
        page.click("#generate")
        page.wait_for_selector("[data-testid=toast-text]:has-text('\N{LATIN SMALL LETTER E WITH ACUTE}')")

        page.fill("#prompt textarea", "O ")
        page.click("#generate")
        page.wait_for_function("document.querySelectorAll('#output .tv-token').length === 80")
        page.wait_for_selector("#generate:not(:disabled)")
        kept = "O " + "".join(page.locator("#output .tv-token").all_text_contents()[:5])
        page.locator("#output .tv-token").nth(5).hover()
        page.click("#output .tv-alternative >> nth=3")
        page.wait_for_function("document.querySelectorAll('#output .tv-token').length === 86")
        assert (page.locator("#output .tv-text").text_content() or "").startswith(kept)

        page.get_by_role("tab", name="Dialogue").click()
        page.fill("#line textarea", "Who art thou?")
        page.keyboard.press("Enter")
        page.wait_for_selector("#conversation .tv-turn:last-child .tv-token")
        page.wait_for_selector("#say:not(:disabled)")
        assert "\n\n" not in page.locator("#conversation .tv-turn:last-child .tv-words").all_text_contents()[0]
        page.context.close()  # before the application, which it would miss
