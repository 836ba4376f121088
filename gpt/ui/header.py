"""The header: the name, what serves this page, and the checkpoint to serve with."""

from __future__ import annotations

from html import escape
from typing import Any

import gradio as gr

from gpt.completion import BackendInfo
from gpt.ui.catalogue import Catalogue
from gpt.ui.figures import count, nats

TITLE = "GPT by hand"
TAGLINE = "A small language model to read, train and talk to"
KINDS = {"local": "This machine", "vertex": "Vertex AI", "predictor": "Predictor"}


class Header:
    """The page's header.

    Attributes:
        backend: the pills that describe the live backend.
        checkpoint: the list of checkpoints; choosing one makes it live.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        with gr.Row(elem_id="header"):
            gr.HTML(f"<h1>{TITLE}</h1><p>{TAGLINE}</p>", elem_id="brand", apply_default_css=False, min_width=220)
            self.backend = gr.HTML(
                pills(catalogue.info()), elem_id="backend", apply_default_css=False, min_width=200, scale=1
            )
            self.checkpoint = gr.Dropdown(
                **self._choices(),
                label="Checkpoint",
                elem_id="checkpoint",
                elem_classes=["named-list"],
                interactive=True,
                container=False,
                scale=0,
            )

    @property
    def outputs(self) -> list[gr.components.Component]:
        """The components that `updates` is for."""
        return [self.backend, self.checkpoint]

    def updates(self) -> list[Any]:
        """What the header shows now."""
        return [pills(self._catalogue.info()), gr.update(**self._choices())]

    def follow(self, triggers: list[Any]) -> None:
        """Show what is live with each of these events: it may have been changed from another browser.

        To be called before they are given something long to do: Gradio's client sends what an event asks for in the
        order of the calls, each when the one before it has ended.
        """
        gr.on(
            triggers,
            self.updates,
            outputs=self.outputs,
            queue=False,
            show_progress="hidden",
            api_visibility="private",
        )

    def _choices(self) -> dict[str, Any]:
        live, names = self._catalogue.live(), list(self._catalogue.entries())
        return {"choices": names if live in names else [live, *names], "value": live}


def pills(info: BackendInfo) -> str:
    """The live backend in a few words each, as HTML."""
    texts = [
        ("tone-live", KINDS.get(info.kind, info.kind), "Where the text is made"),
        ("", info.device, "The device that computes"),
        ("", f"{count(info.parameters)} parameters" if info.parameters else "", "The model's size"),
        ("tone-figure", nats(dict(info.nats_per_character)), "Loss on text the model has not seen: lower is better"),
    ]
    spans = (f'<span class="pill {tone}" title="{title}">{escape(text)}</span>' for tone, text, title in texts if text)
    return f'<div class="pills">{"".join(spans)}</div>'
