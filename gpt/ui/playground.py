"""The Playground's text mode: a prompt, and the text that continues it."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from typing import Any

import gradio as gr

from gpt.completion import CompletionRequest
from gpt.ui.catalogue import Catalogue
from gpt.ui.header import Header
from gpt.ui.run import Controls, wire_run
from gpt.ui.settings import SettingsPanel, request_fields
from gpt.ui.stream import write
from gpt.ui.token_view import token_view
from gpt.ui.transcript import Transcript

EXAMPLES = (
    "ROMEO:\n",
    "First Citizen:\n",
    "KING RICHARD III:\nNow is",
    "PROSPERO:\nOur revels",
    "Shall I compare thee",
)
ALTERNATIVES = 6
KEYS = "<kbd>Ctrl</kbd> <kbd>Enter</kbd> writes, <kbd>Esc</kbd> stops"
EMPTY = "The text appears here as it is written. Point at a token, or tap it, to see what else the model had in mind."


class Playground:
    """The text mode.

    Attributes:
        prompt: the text to continue.
        output: what the model wrote.
        copy_link: the button that copies a link to prompt, settings and seed.
        compare, inspect: the buttons that take the prompt, or the whole text, to those tabs.
    """

    def __init__(self, catalogue: Catalogue, header: Header) -> None:
        self._catalogue = catalogue
        self._header = header
        self.prompt = gr.Textbox(
            EXAMPLES[0],
            label="Prompt",
            placeholder="Begin a text; the model goes on with it",
            lines=2,
            max_lines=12,
            elem_id="prompt",
        )
        with gr.Row(elem_classes=["chips"]):
            self._chips = [gr.Button(_chip(example), size="sm", elem_classes=["chip"]) for example in EXAMPLES]
        with gr.Row(elem_classes=["actions"]):
            start = gr.Button("Generate", variant="primary", elem_id="generate", min_width=120)
            stop = gr.Button("Stop", variant="stop", elem_id="stop", interactive=False, min_width=80)
            clear = gr.Button("Clear", elem_id="clear", min_width=80)
            self.copy_link = gr.Button("Copy link", elem_id="copy-link", min_width=90)
            self.compare = gr.Button("Compare…", elem_id="to-compare", min_width=90)
            self.inspect = gr.Button("Inspect…", elem_id="to-inspect", min_width=90)
            gr.HTML(KEYS, elem_classes=["keys"], apply_default_css=False, min_width=180)
        self._controls = Controls(start, stop, clear)
        self.output = token_view(elem_id="output", name="Generated text", empty=EMPTY, stop="#stop")

    def wire(self, settings: SettingsPanel) -> None:
        """Connect the buttons, the examples and the views."""
        for chip, example in zip(self._chips, EXAMPLES, strict=True):
            chip.click(fn=None, js=f"() => {json.dumps(example)}", outputs=self.prompt, show_progress="hidden")
        triggers = [self._controls.start.click, self.output.select]
        self._header.follow(triggers)
        wire_run(
            triggers,
            self._write,
            inputs=[self.prompt, self.output, *settings.controls],
            outputs=[self.output],
            controls=self._controls,
        )
        self._controls.clear.click(
            fn=None,
            js="() => ['', '']",
            outputs=[self.prompt, self.output],
            show_progress="hidden",
        )
        settings.take_seed(self.output)

    def whole_text(self, prompt: str | None, shown: str | None) -> str:
        """The text that is shown, or the prompt where there is none."""
        return (Transcript(shown).prompt() if shown else "") or prompt or ""

    def _write(
        self, data: Mapping[str, Any], prompt: str | None, shown: str | None, *values: Any
    ) -> Generator[list[Any], None, None]:
        """Continue the prompt, or what is shown from a token on."""
        if "token" in data:
            transcript = Transcript(shown).branch(data["token"], data["alternative"])
        else:
            transcript = Transcript()
            transcript.add_plain(prompt or "")
        request = CompletionRequest(prompt=transcript.prompt(), logprobs=ALTERNATIVES, **request_fields(values))
        begun = transcript.value
        for value in write(self._catalogue.backend, request, transcript):
            # The old text stays until the new one begins, so that a refusal takes nothing away.
            yield [gr.skip() if value == begun else value]


def _chip(example: str) -> str:
    return example.strip().replace("\n", " ")
