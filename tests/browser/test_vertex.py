"""A visitor's journey to Vertex AI and back: the real SDK, the emulator as the cloud, the real predictor in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from gpt.backends.local import LocalBackend
from gpt.backends.swappable import SwappableBackend
from gpt.completion import CompletionRequest
from gpt.ui.catalogue import Catalogue
from gpt.ui.settings import SETTINGS
from gpt.vertex import remote
from gpt.vertex.connection import Connection
from tests.emulator.call import PROJECT
from tests.emulator.emulator import LOCATION
from tests.fake_page import make_catalogue, save_random_checkpoint, served
from tests.gpt.vertex.cloud import create_endpoint, deploy

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from tests.emulator.emulator import Emulator
    from tests.fake_backend import FakeBackend

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "color_scheme": "dark"}
OUTPUT = "#output .tv-text"
# Script: note how many tokens there are whenever that changes.
WATCH = """() => {
  window.counts = new Set();
  const note = () => window.counts.add(document.querySelectorAll("#output .tv-token").length);
  new MutationObserver(note).observe(document.querySelector("#output"), { childList: true, subtree: true });
}"""


class Site(NamedTuple):
    """A page, what is behind it on this machine, and an endpoint in the cloud."""

    address: str
    catalogue: Catalogue
    endpoint: str
    checkpoint: Path


@pytest.fixture
def site(
    browser: Browser, emulator: Emulator, tmp_path: Path, fakes: dict[str, FakeBackend], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    monkeypatch.setattr(remote, "BACKOFF_S", 0.01)
    checkpoint = save_random_checkpoint(tmp_path / "cloud", embed_dim=640)  # slow enough to be seen writing
    endpoint = create_endpoint(emulator, "chat")
    deploy(emulator, checkpoint, endpoint)
    catalogue = make_catalogue(tmp_path / "checkpoints", fakes)
    with served(catalogue, Connection(api_endpoint=emulator.url)) as address:
        yield Site(address, catalogue, endpoint.name, checkpoint)


@pytest.fixture
def fakes() -> dict[str, FakeBackend]:
    from tests.fake_backend import FakeBackend

    return {name: FakeBackend(name, delay_s=0.05) for name in ("laptop", "shakespeare")}


def expected(checkpoint: Path, prompt: str, seed: int, tokens: int) -> str:
    """What this machine writes."""
    defaults = {setting.name: setting.default for setting in SETTINGS if setting.name not in ("seed", "max_new_tokens")}
    defaults["top_k"] = int(defaults["top_k"])
    backend = LocalBackend.from_checkpoint(checkpoint)
    try:
        request = CompletionRequest(prompt=prompt, seed=seed, max_new_tokens=tokens, **defaults)  # type: ignore[arg-type]
        return prompt + "".join(chunk.text for chunk in backend.stream(request))
    finally:
        backend.close()


def settle(page: Page, seed: int, tokens: int) -> None:
    page.fill("#seed input", str(seed))
    page.fill("#max_new_tokens input[type=number]", str(tokens))
    page.press("#max_new_tokens input[type=number]", "Tab")


def fill_in(page: Page) -> None:
    page.get_by_role("tab", name="Models").click()
    page.fill("#vertex-project input, #vertex-project textarea", PROJECT)
    page.fill("#vertex-location input, #vertex-location textarea", LOCATION)


def status(page: Page, words: str) -> None:
    page.wait_for_selector(f"#vertex-status :text({words!r})")


def test_a_visitor_goes_to_vertex_ai_and_back_while_texts_stream(
    site: Site, visit: Callable[..., Page], fakes: dict[str, FakeBackend]
) -> None:
    here = fakes["laptop"]
    page = visit(site.address)
    here.delay_s = 1.0  # until the other browser has switched
    settle(page, 3, 60)
    page.click("#generate")
    page.wait_for_selector("#output .tv-token")

    other = visit(site.address)  # of the same page, while the first one's text streams
    fill_in(other)
    other.click("#vertex-list")
    status(other, "1 endpoint in us-central1.")
    assert site.endpoint in other.input_value("#vertex-endpoint input")
    other.click("#vertex-test")
    status(other, " ms.")
    assert "This machine" in other.inner_text("#backend")
    other.click("#vertex-use")
    other.wait_for_selector("#backend :text('Vertex AI')")
    assert "us-central1" in other.inner_text("#backend")
    assert other.input_value("#checkpoint input") == "chat (us-central1)"
    assert other.locator("#models .card.live").count() == 0
    assert here.active == 1, "the text under way did not stay where it began"
    here.delay_s = 0.0
    page.wait_for_selector("#generate:not(:disabled)")
    assert page.locator(OUTPUT).text_content() == "ROMEO:\n" + fakes["laptop"].text(3, 60)

    settle(page, 11, 1000)
    page.evaluate(WATCH)
    page.click("#generate")
    page.wait_for_selector("#backend :text('Vertex AI')")
    page.wait_for_function("document.querySelectorAll('#output .tv-token').length === 1000")
    page.wait_for_selector("#generate:not(:disabled)")
    assert page.evaluate("window.counts.size") > 3, "the text came in one piece"
    assert page.locator(OUTPUT).text_content() == expected(site.checkpoint, "ROMEO:\n", 11, 1000)
    page.locator("#output .tv-token").nth(5).hover()
    assert page.locator("#output .tv-alternative").count() == 6

    fakes["laptop"] = type(here)("laptop")
    page.get_by_role("tab", name="Models").click()
    page.click("#local-use")
    status(page, "This machine serves now.")
    assert "This machine" in page.inner_text("#backend") and page.input_value("#checkpoint input") == "laptop"
    page.get_by_role("tab", name="Playground").click()
    settle(page, 4, 20)
    page.click("#generate")
    page.wait_for_function("document.querySelectorAll('#output .tv-token').length === 20")
    assert page.locator(OUTPUT).text_content() == "ROMEO:\n" + fakes["laptop"].text(4, 20)


def test_faults_are_words_on_the_page_and_the_next_request_works(
    site: Site, emulator: Emulator, visit: Callable[..., Page]
) -> None:
    page = visit(site.address, **PHONE)
    page.get_by_role("tab", name="Models").click()
    page.click("#vertex-use")
    status(page, "The project is missing")
    fill_in(page)
    page.fill("#vertex-endpoint input", "999")
    page.press("#vertex-endpoint input", "Enter")
    page.click("#vertex-use")
    status(page, "was not found")
    page.wait_for_timeout(300)
    assert "This machine" in page.inner_text("#backend")
    page.fill("#vertex-endpoint input", site.endpoint)
    page.press("#vertex-endpoint input", "Enter")
    page.click("#vertex-use")
    page.wait_for_selector("#backend :text('Vertex AI')")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390

    page.get_by_role("tab", name="Playground").click()
    settle(page, 7, 10)
    faults = emulator.faults
    for break_it, words in (
        (lambda: faults.answer(403, "streamRawPredict"), "The account may not use endpoint"),
        (lambda: faults.answer(429, "streamRawPredict", 3), "takes no more requests now"),
        (lambda: faults.truncate(3, "streamRawPredict"), "broke off before the text was complete"),
        (lambda: faults.end(3, "streamRawPredict"), "ended the answer before the text was complete"),
    ):
        break_it()
        page.click("#generate")
        page.wait_for_selector(f"[data-testid=toast-text]:has-text({words!r})")
        page.wait_for_selector("#generate:not(:disabled)")
        page.locator("[data-testid=toast-close]").first.click()
        page.click("#generate")
        page.wait_for_function("document.querySelectorAll('#output .tv-token').length === 10")
        page.wait_for_selector("#generate:not(:disabled)")
        assert page.locator(OUTPUT).text_content() == expected(site.checkpoint, "ROMEO:\n", 7, 10)
        page.click("#clear")
        page.wait_for_selector("#output .tv-token", state="detached")
        page.fill("#prompt textarea", "ROMEO:\n")

    emulator.endpoints.kill(site.endpoint)
    page.click("#generate")
    page.wait_for_selector("[data-testid=toast-text]:has-text('see that it runs')")
    page.reload()  # a page that is opened now says so, and offers this machine
    page.wait_for_selector("[data-testid=toast-text]:has-text('chat does not answer')")
    page.get_by_role("tab", name="Models").click()
    assert page.input_value("#vertex-project input, #vertex-project textarea") == PROJECT
    assert site.endpoint in page.input_value("#vertex-endpoint input")
    page.click("#local-use")
    page.wait_for_selector("#backend :text('This machine')")


def test_page_that_begins_elsewhere_shows_where(
    emulator: Emulator, tmp_path: Path, visit: Callable[..., Page], fakes: dict[str, FakeBackend]
) -> None:
    connection = Connection(PROJECT, LOCATION, create_endpoint(emulator, "empty").name, "", emulator.url)
    catalogue = make_catalogue(tmp_path / "checkpoints", fakes)
    catalogue.use_elsewhere(connection.backend())
    assert isinstance(catalogue.backend, SwappableBackend)
    with served(catalogue, connection) as address:
        page = visit(address)
        page.wait_for_selector("[data-testid=toast-text]:has-text('does not answer')")
        page.get_by_role("tab", name="Models").click()
        status(page, "has no model deployed")
        assert page.input_value("#vertex-location input, #vertex-location textarea") == LOCATION
        fakes["laptop"] = type(fakes["laptop"])("laptop")
        page.click("#local-use")
        status(page, "This machine serves now.")
