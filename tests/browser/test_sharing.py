"""Links that carry prompt, settings and seed, and conversations that are saved."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from tests.browser.field import fill_new
from tests.fake_backend import SPEECH, FakeBackend

if TYPE_CHECKING:
    from playwright.sync_api import Page


def _clipboard(page: Page) -> str:
    text: str = page.evaluate("navigator.clipboard.readText()")
    return text


def test_a_link_carries_prompt_settings_and_the_seed_that_was_drawn(
    address: str, visit: Callable[..., Page], backend: FakeBackend
) -> None:
    page = visit(address, permissions=["clipboard-read", "clipboard-write"])
    page.fill("#prompt textarea", "Am & <b>?\n#")
    page.fill("#temperature input[type=number]", "0.35")
    page.fill("#max_new_tokens input[type=number]", "5")
    page.click("#generate")
    page.wait_for_selector("#output .tv-token >> nth=4")
    page.wait_for_selector("#generate:not(:disabled)")
    page.click("#copy-link")
    page.wait_for_selector("#copy-link:has-text('Link copied')")
    other = visit(_clipboard(page))
    other.wait_for_selector("[data-testid=toast-text]:has-text('press Generate to write')")
    assert other.input_value("#prompt textarea") == "Am & <b>?\n#"
    assert other.input_value("#temperature input[type=number]") == "0.35"
    assert other.input_value("#seed input") == str(backend.requests[0].seed)
    assert other.url.rstrip("/") == address and len(backend.requests) == 1


def test_what_is_wrong_in_a_link_is_left_out_in_words(
    address: str, visit: Callable[..., Page], backend: FakeBackend
) -> None:
    fields = {"prompt": "O", "temperature": "9", "top_k": "x", "<img src=x>": "1", "seed": "7", "checkpoint": "gone"}
    page = visit(f"{address}/#{urlencode(fields)}")
    for words in ("temperature is '9', not a number from 0 to 2", "'<img src=x>' is no setting", "made with 'gone'"):
        page.wait_for_selector(f"[data-testid=toast-text]:has-text({json.dumps(words)})")
    assert page.input_value("#seed input") == "7" and page.input_value("#temperature input[type=number]") == "0.8"
    assert page.locator("[data-testid=toast-text] img").count() == 0 and not backend.requests


def test_a_comparison_is_shared_too(address: str, visit: Callable[..., Page], backend: FakeBackend) -> None:
    page = visit(address, permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("tab", name="Compare").click()
    page.click("#compare-settings-b button")
    fill_new(page, "#b-top_k input[type=number]", "3")
    page.fill("#compare-seed input", "11")
    page.click("#compare-link")
    page.wait_for_selector("#compare-link:has-text('Link copied')")
    other = visit(_clipboard(page))
    other.wait_for_selector("#compare")
    other.wait_for_function("document.querySelector('#compare-seed input')?.value === '11'")
    assert other.input_value("#compare-model-a input") == "laptop (live)"
    other.click("#compare-settings-b button")
    other.wait_for_function("document.querySelector('#b-top_k input[type=number]')?.value === '3'")
    assert not backend.requests


def test_a_conversation_is_saved_as_text_and_as_json(page: Page, backend: FakeBackend) -> None:
    page.get_by_role("tab", name="Dialogue").click()
    page.fill("#seed input", "0")
    page.click("#save-txt")
    page.wait_for_selector("#save-txt:has-text('Nothing to save yet')")
    page.fill("#line textarea", "Who <is> there?")
    page.click("#say")
    page.wait_for_selector("#conversation .tv-turn:last-child:has-text('moon.')")
    page.wait_for_selector("#say:not(:disabled)")
    with page.expect_download() as text:
        page.click("#save-txt")
    assert text.value.suggested_filename == "conversation.txt"
    expected = f"ROMEO:\nWho <is> there?\n\nJULIET:\n{SPEECH}\n"
    assert Path(text.value.path()).read_text(encoding="utf-8") == expected
    with page.expect_download() as saved:
        page.click("#save-json")
    found = json.loads(Path(saved.value.path()).read_text(encoding="utf-8"))
    assert found["seed"] == "0" and [turn["speaker"] for turn in found["turns"]] == ["ROMEO", "JULIET"]
    assert found["turns"][0]["text"] == "Who <is> there?" and found["turns"][1]["text"] == SPEECH
    assert "".join(token["text"] for token in found["turns"][1]["tokens"]) == SPEECH
