"""The backend part of the Models tab: what its buttons do, and their words when it fails."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from gpt.completion import CompletionRequest
from gpt.errors import AccessDeniedError, BackendClosedError
from gpt.ui import backend_panel
from gpt.ui.backend_panel import NAMES, BackendPanel
from gpt.ui.catalogue import Catalogue
from gpt.ui.header import Header
from gpt.ui.models import Models
from gpt.ui.run import BROKEN
from gpt.vertex.address import PredictorBackend
from gpt.vertex.connection import Connection
from tests.fake_backend import FakeBackend
from tests.fake_page import in_event_loop, make_catalogue
from tests.gpt.vertex.loopback import WHOLE, google_error, loopback, whole
from tests.gpt.vertex.serving import serving


@pytest.fixture
def fakes() -> dict[str, FakeBackend]:
    return {name: FakeBackend(name) for name in ("laptop", "shakespeare")}


@pytest.fixture
def catalogue(tmp_path: Path, fakes: dict[str, FakeBackend]) -> Catalogue:
    return make_catalogue(tmp_path, fakes)


@pytest.fixture
def panel(catalogue: Catalogue) -> BackendPanel:
    def build() -> BackendPanel:
        with gr.Blocks() as demo:
            panel = BackendPanel(catalogue, Models(catalogue, Header(catalogue)), Connection())
            panel.wire(demo)
        return panel

    return in_event_loop(build)


@pytest.fixture
def elsewhere() -> Iterator[tuple[FakeBackend, str]]:
    fake = FakeBackend("far")
    with serving(fake) as (_, address):
        yield fake, f"http://{address}"


def last(updates: Generator[Any, None, None]) -> Any:
    """The last of an event's updates, the one before being that it works."""
    first, final = list(updates)
    assert "…" in (first if isinstance(first, str) else first[0])
    return final


def at(url: str) -> tuple[str, None, None, None, str]:
    return ("address", None, None, None, url)


def test_fields_stand_in_the_order_of_their_names(panel: BackendPanel) -> None:
    assert [getattr(panel, name) for name in NAMES] == panel.fields


def test_test_says_how_fast_it_answers_and_changes_nothing(
    panel: BackendPanel, catalogue: Catalogue, elsewhere: tuple[FakeBackend, str]
) -> None:
    fake, url = elsewhere
    status = last(panel._test_connection(*at(url)))
    assert "good" in status and "far (127.0.0.1:" in status and " ms." in status
    assert len(fake.requests) == 2
    assert catalogue.live() == "laptop"


def test_use_serves_with_it_and_back(
    panel: BackendPanel, catalogue: Catalogue, fakes: dict[str, FakeBackend], elsewhere: tuple[FakeBackend, str]
) -> None:
    _, url = elsewhere
    place = url.removeprefix("http://")
    status, cards, pills, checkpoint = last(panel._use_elsewhere(*at(url)))
    assert "good" in status and "Live" not in cards and "Predictor" in pills and place in pills
    assert checkpoint["value"] == catalogue.live() == f"far ({place})"
    assert checkpoint["choices"][0] == checkpoint["value"]
    assert fakes["laptop"].closed
    fakes["laptop"] = FakeBackend("laptop")
    status, cards, pills, checkpoint = last(panel._use_local())
    assert "This machine serves now" in status and "Live" in cards and "This machine" in pills
    assert checkpoint["value"] == catalogue.live() == "laptop"
    assert last(panel._use_local())[0] == status


def test_use_of_what_does_not_answer_changes_nothing(
    panel: BackendPanel, catalogue: Catalogue, fakes: dict[str, FakeBackend]
) -> None:
    with loopback(google_error(403, "not <b>you</b>"), whole(WHOLE)) as (url, _):
        status, *rest = last(panel._use_elsewhere(*at(url)))
        assert "bad" in status and "not &lt;b&gt;you&lt;/b&gt;" in status and status.count(". ") <= 1
        assert rest == [gr.skip()] * 3
        assert catalogue.live() == "laptop" and not fakes["laptop"].closed
        assert "good" in last(panel._use_elsewhere(*at(url)))[0]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (at(""), "The predictor&#x27;s address is missing; give one such as http://127.0.0.1:8080."),
        (("endpoint", "", "", None, ""), "The project is missing"),
        (("endpoint", "p", "us-central1", None, ""), "The endpoint is missing"),
        (("endpoint", None, None, None, None), "The project is missing"),
    ],
)
def test_what_is_missing_is_named(panel: BackendPanel, fields: tuple[Any, ...], words: str) -> None:
    assert words in last(panel._test_connection(*fields))
    assert words in last(panel._use_elsewhere(*fields))[0]


def test_mistake_of_the_program_is_the_logs(
    panel: BackendPanel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(backend_panel, "latency_s", lambda backend: 1 / 0)
    assert BROKEN in last(panel._test_connection(*at("http://127.0.0.1:1")))
    assert "ZeroDivisionError" in caplog.text


def test_backend_that_comes_too_late_is_closed(
    panel: BackendPanel, catalogue: Catalogue, elsewhere: tuple[FakeBackend, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = PredictorBackend(elsewhere[1])
    monkeypatch.setattr(panel, "backend", lambda *_: backend)
    catalogue.backend.close()
    assert "shutting down" in last(panel._use_elsewhere(*at(elsewhere[1])))[0]
    with pytest.raises(BackendClosedError):
        backend.stream(CompletionRequest(prompt="a"))


def test_endpoints_are_offered_by_name(panel: BackendPanel, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def found(project: str, location: str, **options: Any) -> list[tuple[str, str]]:
        asked.append((project, location, options))
        return [("7", "chat"), ("8", "other")]

    monkeypatch.setattr(backend_panel, "list_endpoints", found)
    status, endpoint = last(panel._list_endpoints("p", "us-central1", None))
    assert "2 endpoints in us-central1." in status
    assert endpoint["choices"] == [("chat (7)", "7"), ("other (8)", "8")] and endpoint["value"] == "7"
    assert last(panel._list_endpoints("p", "us-central1", "8"))[1]["value"] == "8"
    assert asked[0] == ("p", "us-central1", {"api_endpoint": None})


def test_endpoints_that_cannot_be_listed_are_words(panel: BackendPanel, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> Any:
        raise AccessDeniedError("the account may not use it")

    assert "The project is missing" in last(panel._list_endpoints(None, None, None))[0]
    monkeypatch.setattr(backend_panel, "list_endpoints", refused)
    status, endpoint = last(panel._list_endpoints("p", "us-central1", "7"))
    assert "The account may not use it." in status and endpoint == gr.skip()


def test_page_says_when_what_serves_does_not_answer(
    panel: BackendPanel, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(gr, "Warning", warnings.append)
    assert panel._check() == gr.skip()
    with loopback(google_error(403, "no")) as (url, _):
        catalogue.use_elsewhere(Connection(url=url).backend())
        assert "bad" in panel._check()
    assert len(warnings) == 1 and "does not answer" in warnings[0] and "checkpoints of this machine" in warnings[0]
    with loopback(whole(WHOLE)) as (url, _):
        catalogue.use_elsewhere(Connection(url=url).backend())
        assert "good" in panel._check()
    assert len(warnings) == 1
