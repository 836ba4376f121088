"""The Models tab: the checkpoints as cards, and a button on each that makes it live."""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from html import escape
from typing import Any

import gradio as gr

from gpt.checkpoint_info import CheckpointInfo
from gpt.errors import GPTError
from gpt.ui.catalogue import Catalogue
from gpt.ui.figures import PROTOCOLS, nats, size
from gpt.ui.header import Header
from gpt.ui.run import as_sentence

logger = logging.getLogger(__name__)

TOKENIZERS = {"gpt2": "GPT-2's byte pairs", "character": "characters", "bpe": "byte pairs of its corpus"}
INTRODUCTION = (
    "Every checkpoint in `checkpoints/`, your own runs among them. *Use* loads one and then serves with it; "
    "text under way elsewhere finishes on the model that it began with."
)
# A click on a button inside the cards reaches Python as the event "use".
SCRIPT = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-name]");
  if (button) trigger("use", { name: button.dataset.name });
});
"""


class Models:
    """The Models tab's content and the events that change the live checkpoint, the header's list among them."""

    def __init__(self, catalogue: Catalogue, header: Header) -> None:
        self._catalogue = catalogue
        self._header = header
        gr.Markdown(INTRODUCTION, elem_id="models-introduction")
        self.cards = gr.HTML(
            cards(catalogue.entries(), catalogue.live(), catalogue.damaged()),
            js_on_load=SCRIPT,
            apply_default_css=False,
            elem_id="models",
        )
        options: dict[str, Any] = {
            "outputs": self.outputs,
            "concurrency_id": "checkpoints",
            "concurrency_limit": 1,
            "show_progress": "hidden",
            "api_visibility": "private",
        }
        self.cards.use(self._use_card, **options)
        header.checkpoint.input(self._use, header.checkpoint, **options)

    @property
    def outputs(self) -> list[gr.components.Component]:
        """The components that `updates` is for."""
        return [self.cards, *self._header.outputs]

    def updates(self) -> list[Any]:
        """What the cards and the header show now."""
        return [
            cards(self._catalogue.entries(), self._catalogue.live(), self._catalogue.damaged()),
            *self._header.updates(),
        ]

    def _use_card(self, event: gr.EventData) -> Generator[list[Any], None, None]:
        yield from self._use(str(event._data.get("name", "")))

    def _use(self, name: str) -> Generator[list[Any], None, None]:
        """Show that the checkpoint loads, load it, and show what is live then."""
        entries, live = self._catalogue.entries(), self._catalogue.live()
        yield [
            cards(entries, live, self._catalogue.damaged(), loading=name),
            gr.skip(),
            gr.update(value=name, interactive=False),
        ]
        try:
            self._catalogue.use(name)
        except GPTError as error:
            gr.Warning(as_sentence(error))
        except Exception:
            logger.exception("the checkpoint %s could not be loaded", name)
            gr.Warning("The checkpoint could not be loaded; the server's log says why.")
        *updates, checkpoint = self.updates()
        yield [*updates, checkpoint | {"interactive": True}]


def cards(
    entries: dict[str, CheckpointInfo], live: str, damaged: Sequence[str] = (), loading: str | None = None
) -> str:
    """The checkpoints as HTML, and below them what is wrong with those that cannot be used."""
    notes = "".join(f'<p class="hint" role="note">Left out: {escape(message)}.</p>' for message in damaged)
    if not entries:
        return (
            '<p class="hint">No checkpoint is in the folder yet. Train one with <code>python -m train</code>.</p>'
            + notes
        )
    listed = "".join(_card(name, info, live, loading) for name, info in entries.items())
    return f'<div class="cards">{listed}</div>{notes}'


def _card(name: str, info: CheckpointInfo, live: str, loading: str | None) -> str:
    record = info.record
    protocol = next((protocol for protocol in PROTOCOLS if protocol in record.nats_per_character), "")
    rows = [
        ("Parameters", f"{info.parameters:,}"),
        ("Context", f"{info.config.sequence_dim} tokens"),
        ("Tokenizer", TOKENIZERS.get(info.tokenizer_kind, info.tokenizer_kind)),
        ("Corpus", record.corpus),
        ("Steps", f"{record.best_step or record.steps:,}" if record.steps else ""),
        ("Trained", record.created_at[:10]),
        ("Size", size(info.size_bytes)),
    ]
    details = "".join(f"<div><dt>{label}</dt><dd>{escape(text)}</dd></div>" for label, text in rows if text)
    figure = nats(record.nats_per_character)
    number, _, unit = figure.partition(" ")
    headline = (
        f'<p class="figure" title="Validation loss, {protocol}"><b>{number}</b> {unit} <span>{protocol}</span></p>'
        if figure
        else '<p class="figure none">no validation figure</p>'
    )
    if name == loading:
        action = '<button type="button" disabled class="loading">Loading…</button>'
    elif name == live:
        action = '<span class="pill tone-live">Live</span>'
    else:
        disabled = " disabled" if loading else ""
        action = f'<button type="button" data-name="{escape(name)}"{disabled}>Use</button>'
    return (
        f'<article class="card{" live" if name == live else ""}">'
        f"<header><h3>{escape(name)}</h3>{action}</header>{headline}<dl>{details}</dl></article>"
    )
