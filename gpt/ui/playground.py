"""The Playground's text mode: a prompt, and the text that continues it."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from typing import Any

import gradio as gr

from gpt.completion import CompletionRequest
from gpt.ui.catalogue import Catalogue
from gpt.ui.comparison import write_both
from gpt.ui.figures import nats
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
NOTHING = ("nothing", "")
EMPTY = "The text appears here as it is written. Point at a token, or tap it, to see what else the model had in mind."

EMPTY_SECOND = "Generate writes here too, with the same prompt, seed and settings."


class Playground:
    """The text mode.

    Attributes:
        rival: the list of checkpoints that the live one can be compared with; empty for none.
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
            self.rival = gr.Dropdown(
                [NOTHING, *self._rivals()],
                value="",
                label="Compare with",
                elem_id="rival",
                elem_classes=["named-list"],
                interactive=True,
                container=False,
                scale=0,
            )
            gr.HTML(KEYS, elem_classes=["keys"], apply_default_css=False, min_width=180)
        self._controls = Controls(start, stop, clear)
        with gr.Row(elem_id="texts"):
            with gr.Column(min_width=300):
                self.output = token_view(elem_id="output", name="Generated text", empty=EMPTY, stop="#stop")
            with gr.Column(min_width=300, visible=False) as self._second_place:
                self.second = token_view(elem_id="compared", name="The other's text", empty=EMPTY_SECOND, stop="")

    def wire(self, settings: SettingsPanel, demo: gr.Blocks) -> None:
        """Connect the buttons, the examples and the views."""
        for chip, example in zip(self._chips, EXAMPLES, strict=True):
            chip.click(fn=None, js=f"() => {json.dumps(example)}", outputs=self.prompt, show_progress="hidden")
        wire_run(
            [self._controls.start.click, self.output.select],
            self._write,
            inputs=[self.prompt, self.output, self.rival, *settings.controls],
            outputs=[self.output, self.second, *self._header.outputs],
            controls=self._controls,
        )
        self._controls.clear.click(
            fn=None,
            js="() => ['', '', '']",
            outputs=[self.prompt, self.output, self.second],
            show_progress="hidden",
        )
        settings.take_seed(self.output)
        settings.take_seed(self.second)
        self.rival.input(
            self._choose_rival,
            self.rival,
            self._second_place,
            preprocess=False,
            queue=False,
            show_progress="hidden",
            api_visibility="private",
        )
        demo.unload(self._leave)

    def rivals(self, chosen: str | None) -> dict[str, Any]:
        """The list as it is now; the choice stays where it is still there."""
        names = self._rivals()
        return gr.update(choices=[NOTHING, *names], value=chosen if chosen in names else "")

    def _rivals(self) -> list[str]:
        live = self._catalogue.live()
        return [name for name in self._catalogue.entries() if name != live]

    def _choose_rival(self, name: str | None, request: gr.Request) -> dict[str, Any]:
        """Show the second place where there is something to compare with."""
        self._catalogue.second.watch(str(request.session_hash), compares=bool(name))
        return gr.update(visible=bool(name))

    def _leave(self, request: gr.Request) -> None:
        self._catalogue.second.watch(str(request.session_hash), compares=False)

    def _write(
        self, data: Mapping[str, Any], prompt: str | None, shown: str | None, rival: str | None, *values: Any
    ) -> Generator[list[Any], None, None]:
        """Continue the prompt, by two checkpoints where one is to be compared; or what is shown from a token on."""
        branching = "token" in data
        if branching:
            transcript = Transcript(shown).branch(data["token"], data["alternative"])
        else:
            transcript = Transcript()
            transcript.add_plain(prompt or "")
        request = CompletionRequest(prompt=transcript.prompt(), logprobs=ALTERNATIVES, **request_fields(values))
        unchanged = [gr.skip()] * len(self._header.outputs)
        # The checkpoint may have been changed from another browser; the header says what writes this text.
        yield [gr.skip(), gr.skip(), *self._header.updates()]
        if rival and not branching:
            for values_of_both in self._write_both(request, rival):
                yield [*values_of_both, *unchanged]
            return
        begun = transcript.value
        for value in write(self._catalogue.backend, request, transcript):
            # The old text stays until the new one begins, so that a refusal takes nothing away.
            yield [gr.skip() if value == begun else value, gr.skip(), *unchanged]

    def _write_both(self, request: CompletionRequest, rival: str) -> Generator[list[str], None, None]:
        """Continue the request's prompt by the live checkpoint and by its rival, each under its name and figure."""
        entry = self._catalogue.entries().get(rival)
        transcripts = [Transcript(), Transcript()]
        transcripts[0].add_title(self._catalogue.live(), nats(dict(self._catalogue.info().nats_per_character)))
        transcripts[1].add_title(rival, nats(entry.record.nats_per_character) if entry else "")
        for transcript in transcripts:
            transcript.add_plain(request.prompt)
        yield from write_both([self._catalogue.backend, self._catalogue.compared(rival)], request, transcripts)


def _chip(example: str) -> str:
    return example.strip().replace("\n", " ")
