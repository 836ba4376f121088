"""The Playground's dialogue mode, as a visitor uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gpt.errors import QueueFullError
from tests.fake_backend import SPEECH, FakeBackend

if TYPE_CHECKING:
    from playwright.sync_api import Page

TURN = "#conversation .tv-turn"


@pytest.fixture
def dialogue(page: Page) -> Page:
    """The page in dialogue mode, with a seed."""
    page.get_by_role("tab", name="Dialogue").click()
    page.fill("#seed input", "0")
    return page


def test_the_other_character_answers_and_stops_at_the_next_speaker(dialogue: Page, backend: FakeBackend) -> None:
    _say(dialogue, "Who is there?\n\nSpeak!", turns=2)
    assert backend.requests[0].prompt == "ROMEO:\nWho is there?\nSpeak!\n\nJULIET:\n"
    assert dialogue.locator(f"{TURN} .tv-name").all_text_contents() == ["ROMEO", "JULIET"]
    assert dialogue.locator(f"{TURN} .tv-words").all_text_contents() == ["Who is there?\nSpeak!", SPEECH]
    assert dialogue.input_value("#line textarea") == ""

    dialogue.get_by_role("combobox", name="Answering is").fill("Nurse")
    dialogue.keyboard.press("Enter")
    _say(dialogue, "Good morrow.", turns=4)
    assert backend.requests[1].prompt == (
        f"ROMEO:\nWho is there?\nSpeak!\n\nJULIET:\n{SPEECH}\n\nROMEO:\nGood morrow.\n\nNurse:\n"
    )


def test_an_alternative_changes_the_answer(dialogue: Page, backend: FakeBackend) -> None:
    _say(dialogue, "Who?", turns=2)
    dialogue.locator("#conversation .tv-token").nth(3).hover()
    dialogue.click("#conversation .tv-alternative:has-text('night')")
    dialogue.wait_for_selector(f"{TURN}:last-child:has-text('nightWhat'):has-text('moon.')")
    dialogue.wait_for_selector("#say:not(:disabled)")
    assert backend.requests[1].prompt == "ROMEO:\nWho?\n\nJULIET:\nWhat light through night"
    assert dialogue.locator(f"{TURN} .tv-words").all_text_contents() == ["Who?", f"What light through night{SPEECH}"]


def test_stop_and_clear_work_in_a_dialogue(dialogue: Page, backend: FakeBackend) -> None:
    backend.delay_s = 0.15
    dialogue.fill("#line textarea", "Who?")
    dialogue.click("#say")
    dialogue.wait_for_selector("#conversation .tv-token")
    dialogue.keyboard.press("Escape")
    dialogue.wait_for_selector("#say:not(:disabled)")
    assert 0 < dialogue.locator("#conversation .tv-token").count() < 31
    assert len(backend.requests) == 1
    dialogue.click("#dialogue-clear")
    dialogue.wait_for_selector(TURN, state="detached")


def test_a_line_that_is_refused_stays_in_its_field(dialogue: Page, backend: FakeBackend) -> None:
    _say(dialogue, "Who?", turns=2)
    backend.error = QueueFullError("8 requests are served and 8 wait; try again in a moment")
    dialogue.fill("#line textarea", "And now?")
    dialogue.click("#say")
    dialogue.wait_for_selector("[data-testid=toast-text]:has-text('try again in a moment')")
    dialogue.wait_for_selector("#say:not(:disabled)")
    assert dialogue.locator(TURN).count() == 2
    assert dialogue.input_value("#line textarea") == "And now?"


def _say(page: Page, line: str, *, turns: int) -> None:
    """Say a line and wait for the end of the answer to it."""
    page.fill("#line textarea", line)
    page.click("#say")
    page.wait_for_function(f"document.querySelectorAll('{TURN}').length === {turns}")
    page.wait_for_function(f"document.querySelectorAll('{TURN}')[{turns - 1}].textContent.endsWith('moon.')")
    page.wait_for_selector("#say:not(:disabled)")
