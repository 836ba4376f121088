"""The Compare tab: two models, or two settings, write the same prompt with the same seed, side by side."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping, Sequence
from html import escape
from typing import Any

import gradio as gr

from gpt.completion import CompletionBackend, CompletionChunk, CompletionRequest
from gpt.errors import CheckpointError, TokenizerError
from gpt.tokenizer import read_identity
from gpt.ui.backend_panel import BackendPanel
from gpt.ui.catalogue import Catalogue
from gpt.ui.comparison import write_both
from gpt.ui.difference import differing, words
from gpt.ui.figures import nats
from gpt.ui.model_list import LIVE, model_choices, model_update
from gpt.ui.other_models import Compared
from gpt.ui.playground import ALTERNATIVES, EXAMPLES
from gpt.ui.run import Controls, wire_run
from gpt.ui.settings import SETTINGS, control, request_fields
from gpt.ui.token_view import token_view
from gpt.ui.transcript import Transcript

SIDES = ("a", "b")
SHARED = tuple(setting for setting in SETTINGS if setting.name in ("max_new_tokens", "seed"))
OWN = tuple(setting for setting in SETTINGS if setting not in SHARED)
# No checkpoint is called so: a name has no space.
ELSEWHERE = "a model elsewhere"
EMPTY = "This side's text appears here, from the same prompt and seed as the other's."
HELP = (
    "Both sides write at once, from the same prompt and seed. Choose two models, or one model with two settings; "
    "tokens that the other text lacks are underlined when both have ended."
)


class CompareTab:
    """The tab's content.

    Attributes:
        prompt: the text that both continue.
        models: the lists of models, left and right.
        shared: the controls of SHARED.
        own: the controls of OWN, left and right.
        views: the two texts.
        copy_link: the button that copies a link to this comparison.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        choices = self._choices()
        with gr.Column(elem_id="comparison"):
            self.prompt = gr.Textbox(
                EXAMPLES[0], label="Prompt", info=HELP, lines=2, max_lines=12, elem_id="compare-prompt"
            )
            with gr.Row(elem_classes=["shared-settings"]):
                self.shared = [control(setting, f"compare-{setting.name}") for setting in SHARED]
            with gr.Row(elem_classes=["actions"]):
                start = gr.Button("Compare", variant="primary", elem_id="compare", min_width=120)
                stop = gr.Button("Stop", variant="stop", elem_id="compare-stop", interactive=False, min_width=80)
                clear = gr.Button("Clear", elem_id="compare-clear", min_width=80)
                self.copy_link = gr.Button("Copy link", elem_id="compare-link", min_width=100)
            self.actions = Controls(start, stop, clear)
            self._summary = gr.HTML("", elem_id="compare-summary", apply_default_css=False)
            self.models: list[gr.Dropdown] = []
            self.own: list[list[gr.components.Component]] = []
            self.views: list[gr.HTML] = []
            with gr.Row(elem_id="sides"):
                for side in SIDES:
                    with gr.Column(min_width=300):
                        value = choices[1][1] if side == "b" and len(choices) > 2 else LIVE
                        self.models.append(
                            gr.Dropdown(
                                choices,
                                value=value,
                                label="Left" if side == "a" else "Right",
                                elem_id=f"compare-model-{side}",
                                elem_classes=["named-list"],
                                container=False,
                                interactive=True,
                            )
                        )
                        with gr.Accordion("Its settings", open=False, elem_id=f"compare-settings-{side}"):
                            self.own.append([control(setting, f"{side}-{setting.name}") for setting in OWN])
                        self.views.append(
                            token_view(
                                elem_id=f"compared-{side}",
                                name="The left text" if side == "a" else "The right text",
                                empty=EMPTY,
                                stop="",
                            )
                        )

    def wire(self, panel: BackendPanel, demo: gr.Blocks) -> None:
        """Connect the buttons; the panel's fields say where a model elsewhere is."""
        self._panel = panel
        quiet: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        self.actions.start.click(self._watch, **quiet)  # before the run, whose end it would wait for
        wire_run(
            [self.actions.start.click],
            self._write,
            inputs=[self.prompt, *self.models, *self.shared, *self.own[0], *self.own[1], *panel.fields],
            outputs=[*self.views, self._summary],
            controls=self.actions,
            finish=self._mark,
        )
        self.actions.clear.click(
            self._clear,
            outputs=[self.prompt, *self.views, self._summary],
            **quiet,
        )
        demo.unload(self._leave)

    def updates(self, *chosen: str | None) -> list[Any]:
        """The lists as they are now; each choice stays where it is still there."""
        return [
            gr.skip() if name == ELSEWHERE else model_update(self._catalogue, name) | {"choices": self._choices()}
            for name in chosen
        ]

    def _choices(self) -> list[tuple[str, str]]:
        label = "a model elsewhere (Models tab)"
        return [*model_choices(self._catalogue), (label, ELSEWHERE)]

    def _write(
        self, data: Mapping[str, Any], prompt: str | None, left: str, right: str, *values: Any
    ) -> Generator[list[Any], None, None]:
        shared, rest = values[: len(SHARED)], values[len(SHARED) :]
        own = [rest[: len(OWN)], rest[len(OWN) : 2 * len(OWN)]]
        place = rest[2 * len(OWN) :]
        # The right side's request is made with the seed that may have been drawn for the left.
        fields = request_fields([*own[0], *shared])
        other = request_fields([*own[1], *shared]) | {"seed": fields["seed"]}
        requests = [CompletionRequest(prompt=prompt or "", logprobs=ALTERNATIVES, **each) for each in (fields, other)]
        transcripts = [Transcript(), Transcript()]
        for transcript, name, mine, others in zip(
            transcripts, (left, right), (fields, other), (other, fields), strict=True
        ):
            figure = [f"{self._figure(name)}, lower is better"] if self._figure(name) else []
            figure += [
                f"{setting.label.lower()} {mine[setting.name]:g}"
                for setting in OWN
                if mine[setting.name] != others[setting.name]
            ]
            transcript.add_title(self._name(name), " · ".join(figure))
            if tokenizer := self._tokenizer(name):
                transcript.add_tokenizer(tokenizer)
            transcript.add_plain(requests[0].prompt)
        backends = [self._backend(name, place) for name in (left, right)]
        for both in write_both(backends, requests, transcripts):
            yield [*both, ""]

    def _mark(self, left: str | None, right: str | None, summary: str | None) -> list[Any]:
        """Mark the tokens that differ, and sum them up."""
        transcripts = [Transcript(left), Transcript(right)]
        pieces = [[piece.text for piece in transcript.pieces()] for transcript in transcripts]
        if summary or not all(pieces):
            return [gr.skip()] * 3
        places = differing(*pieces)
        for transcript, found in zip(transcripts, places, strict=True):
            transcript.add_differing(found)
        said = words(pieces[0], pieces[1], (transcripts[0].tokenizer(), transcripts[1].tokenizer()))
        return [
            *(transcript.value for transcript in transcripts),
            f'<p role="status" class="status">{escape(said)}</p>',
        ]

    def _backend(self, name: str, place: Sequence[Any]) -> CompletionBackend:
        if name == ELSEWHERE:
            return Compared(name, lambda request: self._elsewhere(request, place))
        return self._catalogue.backend if name == LIVE else self._catalogue.compared(name)

    def _elsewhere(self, request: CompletionRequest, place: Sequence[Any]) -> Generator[CompletionChunk, None, None]:
        """The completion by what the Models tab's fields name, connected for this one text."""
        with (
            contextlib.closing(self._panel.backend(*place)) as backend,
            contextlib.closing(backend.stream(request)) as chunks,
        ):
            yield from chunks

    def _name(self, name: str) -> str:
        return self._catalogue.live() if name == LIVE else name[:1].upper() + name[1:] if name == ELSEWHERE else name

    def _figure(self, name: str) -> str:
        if name == LIVE:
            return nats(dict(self._catalogue.info().nats_per_character))
        entry = self._catalogue.entries().get(name)
        return nats(entry.record.nats_per_character) if entry else ""

    def _tokenizer(self, name: str) -> str:
        """What cuts the model's texts into tokens; empty where that is not known from here."""
        with contextlib.suppress(CheckpointError, TokenizerError):  # a model elsewhere is on no list of this machine
            return read_identity(self._catalogue.folder("" if name == LIVE else name)[1])
        return ""

    def _watch(self, request: gr.Request) -> None:
        self._catalogue.others.watch(str(request.session_hash), compares=True)

    def _clear(self, request: gr.Request) -> list[Any]:
        self._catalogue.others.watch(str(request.session_hash), compares=False)
        return ["", "", "", ""]

    def _leave(self, request: gr.Request) -> None:
        self._catalogue.others.watch(str(request.session_hash), compares=False)
