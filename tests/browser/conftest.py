"""A page over a fake backend, and Debian's Chromium to look at it: the one without windows where it is installed."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests.fake_backend import FakeBackend
from tests.fake_page import make_catalogue, served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize

    from gpt.ui.catalogue import Catalogue

    Fakes = dict[str, FakeBackend]

DESKTOP: ViewportSize = {"width": 1280, "height": 800}

# The first that is installed is used. The shell draws no windows around the page, and so works a quarter less.
CHROMIUMS = ("chromium-headless-shell", "chromium", "chromium-browser")
CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
TIMEOUT_MS = 45_000


def _missing(reason: str) -> None:
    """Skip, or fail where these tests are meant to run."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, headless."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _missing("playwright is not installed")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if path is None:
        _missing("there is no Chromium here; install Debian's chromium-headless-shell, or name one in CHROMIUM")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=list(CHROMIUM_FLAGS))
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def server(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Catalogue, Fakes]]:
    """A page over fake backends: its address, catalogue and backends; needs the browser, to be skipped with it."""
    fakes = {name: FakeBackend(name) for name in ("laptop", "shakespeare")}
    catalogue = make_catalogue(tmp_path_factory.mktemp("checkpoints"), fakes)
    with served(catalogue) as address:
        yield address, catalogue, fakes


@pytest.fixture
def backend(server: tuple[str, Catalogue, Fakes]) -> FakeBackend:
    """A fresh backend behind the page, on its checkpoint "laptop"."""
    _, catalogue, fakes = server
    fakes["laptop"] = FakeBackend("laptop", delay_s=0.005)
    fakes["shakespeare"] = FakeBackend("shakespeare", delay_s=0.005, nats=1.596)
    catalogue.use("laptop")
    catalogue.others.close()
    return fakes["laptop"]


@pytest.fixture
def other_backend(server: tuple[str, Catalogue, Fakes], backend: FakeBackend) -> FakeBackend:
    """The fresh backend behind the checkpoint "shakespeare"."""
    return server[2]["shakespeare"]


@pytest.fixture
def address(server: tuple[str, Catalogue, Fakes], backend: FakeBackend) -> str:
    """The address of the page over `backend`."""
    return server[0]


@pytest.fixture
def complaints() -> Iterator[list[str]]:
    """What went wrong in any browser: requests to other hosts, errors of scripts. There must be nothing at the end."""
    found: list[str] = []
    yield found
    assert not found


@pytest.fixture
def visit(browser: Browser, complaints: list[str]) -> Iterator[Callable[..., Page]]:
    """Open an address in a browser of its own."""
    with contextlib.ExitStack() as contexts:

        def open_page(address: str, **options: Any) -> Page:
            context = browser.new_context(**{"viewport": DESKTOP, **options})
            contexts.callback(context.close)
            return _open(context, address, complaints)

        yield open_page


@pytest.fixture(scope="session")
def desktop(browser: Browser) -> Iterator[BrowserContext]:
    """One visitor's browser for many tests: it has the page's files already."""
    context = browser.new_context(viewport=DESKTOP)
    yield context
    context.close()


@pytest.fixture
def page(desktop: BrowserContext, address: str, complaints: list[str]) -> Iterator[Page]:
    """The page over `backend`, on a desktop."""
    opened = _open(desktop, address, complaints)
    yield opened
    if not opened.is_closed():
        opened.evaluate("localStorage.clear()")
        opened.close()


def _open(context: BrowserContext, address: str, complaints: list[str]) -> Page:
    page = context.new_page()
    page.set_default_timeout(TIMEOUT_MS)
    host = urlsplit(address).netloc
    page.on("request", lambda request: complaints.append(request.url) if _outside(request.url, host) else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.goto(address)
    page.wait_for_selector("#generate:visible, #compare:visible")  # a link may lead to either
    page.wait_for_selector("html[data-ready]")  # what is remembered, and what a link says, is filled in
    return page


def _outside(url: str, host: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in ("http", "https", "ws", "wss") and parts.netloc != host
