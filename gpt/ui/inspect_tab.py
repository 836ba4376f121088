"""The Inspect tab: what a model makes of a text, as pictures."""

from __future__ import annotations

import logging
from collections.abc import Generator
from html import escape
from typing import Any

import gradio as gr

from gpt.errors import GPTError, RequestError
from gpt.next_token import FILTERS, NextToken
from gpt.sampling import SamplingParams
from gpt.ui.catalogue import Catalogue
from gpt.ui.inspection_views import attention_value, layers_value, loss_value, next_error, next_value, picture
from gpt.ui.inspector import Inspector
from gpt.ui.model_list import model_choices, model_update
from gpt.ui.run import BROKEN, as_sentence
from gpt.ui.settings import SETTINGS, control, values_of

logger = logging.getLogger(__name__)

EXAMPLE = "ROMEO:\nBut, soft! what light through yonder window breaks?\nIt is the east, and Juliet is the"
FILTER_SETTINGS = tuple(setting for setting in SETTINGS if setting.name in FILTERS)
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
INTRODUCTION = "Look inside a model while it reads a text. Nothing is written, and nothing is drawn at random."
LOSSES = (
    "#### How surprised is the model by each token?\n"
    "The number under a token is its **loss** in nats: minus the logarithm of the probability that the model gave it "
    "after reading what stands before. 0 is certain; 0.7 is one in two; 4.6 is one in a hundred."
)
NEXT = (
    "#### What comes after the text?\n"
    "The pale bar and the first number are what the model says; the full bar and the last number are the chance with "
    "which the token is drawn, after the sliders had their say."
)
ATTENTION = (
    "#### Which tokens does each token look at?\n"
    "**Row**: the token that looks. **Column**: what it looks at. The stronger the colour, the more, and faint ones "
    "are drawn stronger than they are; each row adds up to 100 %. Grey is what comes later, which no token can see. "
    "Every layer (a row of small pictures) has several heads; choose one to see it large, and point at it, or tap it, "
    "for the values."
)
LAYERS = (
    "#### What would each layer say next?\n"
    "Each row continues the text up to its token. If the model stopped after that layer, the cell holds the token it "
    "would find likeliest; the stronger the tint, the surer it is. Framed: what really comes next in the text. The "
    "table shows the end of the text first; scroll up in it for the rest."
)


class InspectTab:
    """The tab's content.

    Attributes:
        model: the list of the models that can be looked into.
        text: the text to read.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._inspector = Inspector()
        with gr.Column(elem_id="inspection"):
            self.text = gr.Textbox(EXAMPLE, label="Text", info=INTRODUCTION, lines=3, max_lines=12, elem_id="inspected")
            with gr.Row(elem_classes=["actions"]):
                self._start = gr.Button("Inspect", variant="primary", elem_id="inspect", min_width=120)
                self.model = gr.Dropdown(
                    model_choices(catalogue, local=True),
                    label="Model",
                    elem_id="inspect-model",
                    elem_classes=["named-list"],
                    container=False,
                    interactive=True,
                    scale=0,
                )
            self._note = gr.HTML("", elem_id="inspect-note", apply_default_css=False)
            gr.Markdown(LOSSES)
            self._losses = picture("loss")
            gr.Markdown(NEXT)
            with gr.Row(elem_id="next-token"):
                with gr.Column(scale=5, min_width=300):
                    self._next = picture("next")
                with gr.Column(scale=2, min_width=260):
                    self._filters = [control(setting, f"inspect-{setting.name}") for setting in FILTER_SETTINGS]
            gr.Markdown(ATTENTION)
            self._attention = picture("attention")
            gr.Markdown(LAYERS)
            self._layers = picture("layers")
        self._seen = gr.State(None)  # the NextToken of the text that is shown

    def wire(self) -> None:
        """Connect the button and the sliders."""
        self._start.click(
            self._inspect,
            [self.model, self.text, *self._filters],
            [self._note, self._losses, self._next, self._attention, self._layers, self._seen],
            preprocess=False,
            concurrency_limit=2,
            **QUIET,
        )
        for slider in self._filters:
            # Of many movements in a row the last one counts; the distribution itself is not computed again.
            slider.change(  # type: ignore[attr-defined]
                self._filter,
                [self._seen, *self._filters],
                self._next,
                preprocess=True,
                trigger_mode="always_last",
                queue=False,
                **QUIET,
            )

    @property
    def outputs(self) -> list[gr.components.Component]:
        """The components that `updates` is for."""
        return [self.model, self._note]

    def updates(self, chosen: str | None) -> list[Any]:
        """The list as it is now, and words where the live model cannot be looked into."""
        info = self._catalogue.info()
        words = (
            ""
            if info.kind == "local"
            else f"Text comes from {self._catalogue.live()} now, and the inside of a model elsewhere cannot be "
            "seen from here. Choose a checkpoint of this machine from the list."
        )
        return [model_update(self._catalogue, chosen, local=True), _note(words)]

    def _inspect(self, model: str | None, text: str | None, *values: Any) -> Generator[list[Any], None, None]:
        unchanged = [gr.skip()] * 5
        yield [_note("Reading…"), *unchanged]
        try:
            params = _params(values)
            if model is None:
                raise RequestError("no checkpoint is chosen; choose one of this machine from the list")
            name, folder = self._catalogue.folder(model)
            seen = self._inspector.inspect(folder, text or "")
            words = f"{len(seen.tokens)} tokens, read by {name}."
            if seen.left_out:
                words += (
                    f" The {seen.left_out} tokens before them are left out: "
                    f"at most {len(seen.tokens)} fit into {name}'s context and these pictures."
                )
            yield [
                _note(words),
                loss_value(seen),
                next_value(seen.next_token, params),
                attention_value(seen),
                layers_value(seen),
                seen.next_token,
            ]
        except GPTError as error:
            yield [_note(str(error)[:1].upper() + str(error)[1:] + ".", bad=True), *unchanged]
        except Exception:
            logger.exception("a text could not be inspected")
            yield [_note(BROKEN, bad=True), *unchanged]

    def _filter(self, seen: NextToken | None, *values: Any) -> Any:
        if seen is None:
            return gr.skip()
        try:
            return next_value(seen, _params(values))
        except GPTError as error:
            return next_error(as_sentence(error))


def _params(values: Any) -> SamplingParams:
    return SamplingParams(**values_of(FILTER_SETTINGS, values))


def _note(words: str, *, bad: bool = False) -> str:
    return f'<p role="status" class="status {"bad" if bad else ""}">{escape(words)}</p>'
