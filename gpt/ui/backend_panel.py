"""The backend part of the Models tab: text from an endpoint of Vertex AI, or from a predictor at an address."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Generator
from html import escape
from typing import Any

import gradio as gr

from gpt.completion import CompletionBackend
from gpt.errors import GPTError
from gpt.ui.catalogue import Catalogue
from gpt.ui.models import Models
from gpt.ui.run import BROKEN, as_sentence
from gpt.vertex.address import PredictorBackend
from gpt.vertex.backend import VertexBackend, list_endpoints
from gpt.vertex.connection import Connection, latency_s
from gpt.vertex.remote import RemoteBackend

logger = logging.getLogger(__name__)

STORAGE_KEY = "gpt-backend"
# As with the settings: what is remembered is no secret, and a fixed value is what can be read after a restart.
STORAGE_SECRET = "gpt-backend-1"
INTRODUCTION = (
    "### Somewhere else\n"
    "The same page can write with a model that runs on **Vertex AI**, or with a predictor at an address, such as "
    "`python -m gpt.vertex.predictor` on this machine. Google's credentials are those of the machine that serves this "
    "page; the browser remembers these fields and nothing else."
)
NAMES = ("place", "project", "location", "endpoint", "url")
PLACES = (("Vertex AI endpoint", "endpoint"), ("Predictor at an address", "address"))
OFFER = "The Models tab offers the checkpoints of this machine."


class BackendPanel:
    """The fields that say where a predictor is, and the buttons that test it, serve with it, and come back."""

    def __init__(self, catalogue: Catalogue, models: Models, connection: Connection) -> None:
        self._catalogue = catalogue
        self._models = models
        self._given = connection
        at_address = bool(connection.url)
        with gr.Column(elem_id="elsewhere"):
            gr.Markdown(INTRODUCTION)
            self.place = gr.Radio(
                list(PLACES), value=PLACES[at_address][1], show_label=False, container=False, elem_id="place"
            )
            with gr.Row(visible=not at_address, elem_classes=["place-fields"]) as self._endpoint_fields:
                self.project = gr.Textbox(
                    connection.project, label="Project", placeholder="my-project-1", elem_id="vertex-project"
                )
                self.location = gr.Textbox(
                    connection.location, label="Location", placeholder="us-central1", elem_id="vertex-location"
                )
                self.endpoint = gr.Dropdown(
                    [connection.endpoint] if connection.endpoint else [],
                    value=connection.endpoint or None,
                    label="Endpoint",
                    allow_custom_value=True,
                    interactive=True,
                    elem_id="vertex-endpoint",
                )
                self._list = gr.Button("List endpoints", elem_id="vertex-list", min_width=130, scale=0)
            with gr.Row(visible=at_address, elem_classes=["place-fields"]) as self._address_fields:
                self.url = gr.Textbox(
                    connection.url, label="Address", placeholder="http://127.0.0.1:8080", elem_id="vertex-url"
                )
            with gr.Row(elem_classes=["actions"]):
                self._use = gr.Button("Use Vertex AI", variant="primary", elem_id="vertex-use", min_width=140)
                self._test = gr.Button("Test connection", elem_id="vertex-test", min_width=140)
                self._use_here = gr.Button("Use this machine", elem_id="local-use", min_width=140)
            self.status = gr.HTML(_status(""), elem_id="vertex-status", apply_default_css=False)

    @property
    def fields(self) -> list[gr.components.Component]:
        """The fields, in the order of NAMES."""
        return [self.place, self.project, self.location, self.endpoint, self.url]

    def wire(self, demo: gr.Blocks) -> None:
        """Connect the buttons; remember the fields in the browser, and say on load when what serves does not answer."""
        # Not inside the tab, where it would be read only when the tab is first shown.
        remembered = gr.BrowserState(None, storage_key=STORAGE_KEY, secret=STORAGE_SECRET)
        options: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        one_at_a_time = {"concurrency_id": "checkpoints", "concurrency_limit": 1, "preprocess": False, **options}
        outputs = [self.status, *self._models.outputs]
        asked = [self.project, self.location, self.endpoint]
        self._list.click(self._list_endpoints, asked, [self.status, self.endpoint], preprocess=False, **options)
        self._test.click(self._test_connection, self.fields, self.status, preprocess=False, **options)
        self._use.click(self._use_elsewhere, self.fields, outputs, **one_at_a_time)
        self._use_here.click(self._use_local, None, outputs, **one_at_a_time)
        gr.on(
            [field.change for field in self.fields],  # type: ignore[attr-defined]
            fn=None,
            js=f"(...values) => Object.fromEntries({json.dumps(NAMES)}.map((name, n) => [name, values[n]]))",
            inputs=self.fields,
            outputs=remembered,
            show_progress="hidden",
        )
        restored = demo.load(
            fn=None,
            js=_restore(self._given),
            inputs=remembered,
            outputs=self.fields,
            show_progress="hidden",
        )
        # What is set before the tab is first shown counts as no change.
        for shown in (self.place.change, restored.then):
            shown(
                lambda place: [gr.update(visible=place == name) for _, name in PLACES] + [_use_label(place)],
                self.place,
                [self._endpoint_fields, self._address_fields, self._use],
                queue=False,
                **options,
            )
        demo.load(self._check, None, self.status, concurrency_limit=None, **options)

    def backend(
        self, place: str, project: str | None, location: str | None, endpoint: str | None, url: str | None
    ) -> RemoteBackend:
        """A backend over what the fields say."""
        if place == "address":
            return PredictorBackend(url or "")
        api_endpoint = self._given.api_endpoint
        return VertexBackend(project or "", location or "", endpoint or "", api_endpoint=api_endpoint)

    def _list_endpoints(
        self, project: str | None, location: str | None, chosen: str | None
    ) -> Generator[list[Any], None, None]:
        yield [_status("Asking for the endpoints…"), gr.skip()]

        def found() -> list[Any]:
            endpoints = list_endpoints(project or "", location or "", api_endpoint=self._given.api_endpoint)
            words = f"{len(endpoints) or 'No'} endpoint{'s' if len(endpoints) != 1 else ''} in {location}."
            choices = [(f"{name} ({number})", number) for number, name in endpoints]
            value = chosen or (endpoints[0][0] if endpoints else None)
            return [_status(escape(words), "good"), gr.update(choices=choices, value=value)]

        yield _in_words(found, lambda status: [status, gr.skip()])

    def _test_connection(self, *values: Any) -> Generator[str, None, None]:
        yield _status("Asking for one token…")

        def found() -> str:
            backend = self.backend(*values)
            try:
                return _answers(backend)
            finally:
                backend.close()

        yield _in_words(found, lambda status: status)

    def _use_elsewhere(self, *values: Any) -> Generator[list[Any], None, None]:
        """Serve with it if it answers; change nothing if it does not."""
        unchanged = [gr.skip()] * len(self._models.outputs)
        yield [_status("Asking for one token…"), *unchanged]

        def found() -> list[Any]:
            backend = self.backend(*values)
            try:
                status = _answers(backend)
                self._catalogue.use_elsewhere(backend)
            except BaseException:
                backend.close()
                raise
            return [status, *self._models.updates()]

        yield _in_words(found, lambda status: [status, *unchanged])

    def _use_local(self) -> Generator[list[Any], None, None]:
        unchanged = [gr.skip()] * len(self._models.outputs)
        yield [_status("Loading the checkpoint…"), *unchanged]

        def found() -> list[Any]:
            self._catalogue.use_here()
            return [_status("This machine serves now.", "good"), *self._models.updates()]

        yield _in_words(found, lambda status: [status, *unchanged])

    def _check(self) -> Any:
        """Where something elsewhere serves: whether it answers."""
        if self._catalogue.info().kind == "local":
            return gr.skip()

        def failed(status: str) -> str:
            gr.Warning(f"{self._catalogue.info().name} does not answer. {OFFER}")
            return status

        return _in_words(lambda: _answers(self._catalogue.backend), failed)


def _answers(backend: CompletionBackend) -> str:
    """That the backend answers, and how fast."""
    milliseconds = round(latency_s(backend) * 1000)
    info = backend.info()
    return _status(escape(f"{info.name} ({info.device}) answers in {milliseconds} ms."), "good")


def _in_words(found: Callable[[], Any], failed: Callable[[str], Any]) -> Any:
    """What `found` returns; where it raises, what `failed` makes of the words."""
    try:
        return found()
    except GPTError as error:
        return failed(_status(as_sentence(error) + ".", "bad"))
    except Exception:
        logger.exception("a backend elsewhere could not be used")
        return failed(_status(BROKEN, "bad"))


def _status(html: str, tone: str = "") -> str:
    return f'<p role="status" class="status {tone}">{html}</p>'


def _use_label(place: str) -> Any:
    return gr.update(value="Use Vertex AI" if place == "endpoint" else "Use this predictor")


def _restore(given: Connection) -> str:
    """Script: what the command gave, and what the browser remembers of the rest."""
    place = "address" if given.url else "endpoint" if given.endpoint else ""
    values = json.dumps([place, given.project, given.location, given.endpoint, given.url])
    names = json.dumps(NAMES)
    known = '(typeof remembered?.[name] === "string" ? remembered[name] : "")'
    return (
        f"(remembered) => {names}.map((name, n) => "
        f'{values}[n] || {known} || (name === "place" ? "endpoint" : name === "endpoint" ? null : ""))'
    )
