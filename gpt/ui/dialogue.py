"""The Playground's dialogue mode: the visitor speaks as one character, the model answers as another."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import gradio as gr

from gpt.completion import CompletionRequest
from gpt.errors import GPTError, RequestError
from gpt.play import END_OF_SPEECH, speaker_name, speech
from gpt.ui.catalogue import Catalogue
from gpt.ui.header import Header
from gpt.ui.playground import ALTERNATIVES
from gpt.ui.run import Controls, wire_run
from gpt.ui.settings import SettingsPanel, request_fields
from gpt.ui.stream import write
from gpt.ui.token_view import token_view
from gpt.ui.transcript import Transcript

CHARACTERS = (
    "ROMEO",
    "JULIET",
    "Nurse",
    "MERCUTIO",
    "FRIAR LAURENCE",
    "GLOUCESTER",
    "KING RICHARD III",
    "QUEEN MARGARET",
    "LADY ANNE",
    "CORIOLANUS",
    "MENENIUS",
    "VOLUMNIA",
    "First Citizen",
    "PETRUCHIO",
    "KATHARINA",
    "LEONTES",
    "PAULINA",
    "PROSPERO",
    "MIRANDA",
    "DUKE VINCENTIO",
    "ISABELLA",
    "ANGELO",
)
EMPTY = "Say something to the other character. Any name can be typed into the two fields above."


class Dialogue:
    """The dialogue mode."""

    def __init__(self, catalogue: Catalogue, header: Header) -> None:
        self._catalogue = catalogue
        self._header = header
        with gr.Row(elem_classes=["speakers"]):
            self.visitor, self.answerer = (
                gr.Dropdown(
                    list(CHARACTERS),
                    value=name,
                    label=label,
                    elem_id=elem_id,
                    allow_custom_value=True,
                    interactive=True,
                    min_width=140,
                )
                for name, label, elem_id in (("ROMEO", "You are", "speaker"), ("JULIET", "Answering is", "answerer"))
            )
        self.conversation = token_view(elem_id="conversation", name="Conversation", empty=EMPTY, stop="#dialogue-stop")
        self.line = gr.Textbox(
            label="Your line",
            placeholder="What light through yonder window breaks?",
            lines=1,
            max_lines=6,
            elem_id="line",
        )
        with gr.Row(elem_classes=["actions"]):
            start = gr.Button("Say", variant="primary", elem_id="say", min_width=120)
            stop = gr.Button("Stop", variant="stop", elem_id="dialogue-stop", interactive=False, min_width=80)
            clear = gr.Button("Clear", elem_id="dialogue-clear", min_width=80)
            self._saves = {
                kind: gr.Button(f"Save as {label}", elem_id=f"save-{kind}", min_width=110)
                for kind, label in (("txt", "text"), ("json", "JSON"))
            }
        self._controls = Controls(start, stop, clear)

    def wire(self, settings: SettingsPanel) -> None:
        """Connect the buttons, the line and the view."""
        triggers = [self._controls.start.click, self.line.submit, self.conversation.select]
        self._header.follow(triggers)
        wire_run(
            triggers,
            self._write,
            inputs=[self.visitor, self.answerer, self.line, self.conversation, *settings.controls],
            outputs=[self.line, self.conversation],
            controls=self._controls,
        )
        self._controls.clear.click(
            fn=None, js="() => ['', '']", outputs=[self.line, self.conversation], show_progress="hidden"
        )
        for kind, button in self._saves.items():
            button.click(
                fn=None,
                js=f"(shown) => window.views.save('#save-{kind}', shown, '{kind}')",
                inputs=self.conversation,
                show_progress="hidden",
            )
        settings.take_seed(self.conversation)

    def _write(
        self,
        data: Mapping[str, Any],
        visitor: str | None,
        answerer: str | None,
        line: str | None,
        shown: str | None,
        *values: Any,
    ) -> Generator[list[Any], None, None]:
        """Answer the visitor's line, or go on with an answer from an alternative on."""
        transcript = Transcript(shown)
        branching = "token" in data
        if branching:
            transcript = transcript.branch(data["token"], data["alternative"])
        else:
            if not (words := speech(line or "")):
                raise RequestError("your line is empty; write what your character says")
            transcript.add_speaker(_name(visitor, "You are"), visitor=True)
            transcript.add_plain(words)
            transcript.add_speaker(_name(answerer, "Answering is"), visitor=False)
        prompt = transcript.prompt()
        said = gr.skip() if branching else ""
        if branching and prompt.endswith(END_OF_SPEECH):
            yield [said, transcript.value]  # the alternative ends the speech
            return
        request = CompletionRequest(
            prompt=prompt, logprobs=ALTERNATIVES, stop=(END_OF_SPEECH,), **request_fields(values)
        )
        begun = transcript.value
        yield [said, begun]
        try:
            for value in write(self._catalogue.backend, request, transcript):
                yield [gr.skip(), value]
        except GPTError:
            if transcript.value == begun:  # refused before a word: the line goes back into its field
                yield [gr.skip() if branching else line, shown or ""]
            raise


def _name(name: str | None, label: str) -> str:
    """The character's name as a play's heading has it.

    Raises:
        RequestError: there is nothing in the field.
    """
    cleaned = speaker_name(name or "")
    if not cleaned:
        raise RequestError(f"the field {label!r} is empty; choose a character or type a name")
    return cleaned
