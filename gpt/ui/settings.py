"""The sampling settings of the page: sliders, and what the browser remembers of them."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import gradio as gr

from gpt.completion import CompletionRequest
from gpt.errors import RequestError

STORAGE_KEY = "gpt-settings"
# The browser state is encrypted with this. It holds slider positions, no secret; a fixed value is what lets a page
# read after a restart what it wrote before.
STORAGE_SECRET = "gpt-settings-1"
MAX_DRAWN_SEED = 2**31 - 1


@dataclass(frozen=True)
class Setting:
    """One sampling setting: a field of CompletionRequest and the range that the page offers for it."""

    name: str
    label: str
    info: str
    minimum: float
    maximum: float
    step: float

    @property
    def default(self) -> float:
        """CompletionRequest's; the seed's None is -1 on the page."""
        default = next(field.default for field in fields(CompletionRequest) if field.name == self.name)
        return -1 if default is None else default  # type: ignore[return-value]


SETTINGS = (
    Setting("temperature", "Temperature", "Higher is more daring; 0 never is", 0, 2, 0.05),
    Setting("top_k", "Top-k", "Only the k likeliest tokens; 0 is off", 0, 200, 1),
    Setting("top_p", "Top-p", "Only the likeliest share p; 1 is off", 0.01, 1, 0.01),
    Setting("min_p", "Min-p", "Only p times the top chance; 0 is off", 0, 1, 0.01),
    Setting("repetition_penalty", "Repetition penalty", "Above 1 avoids repeating; 1 is off", 1, 2, 0.01),
    Setting("max_new_tokens", "Length", "Tokens to write at most", 1, 1000, 1),
    Setting("seed", "Seed", "The same one repeats a text; -1 draws one", -1, 2**53 - 1, 1),
)
NAMES = tuple(setting.name for setting in SETTINGS)


class SettingsPanel:
    """The controls of the settings, in the order of SETTINGS, remembered by the browser."""

    def __init__(self) -> None:
        self.controls: list[gr.components.Component] = [control(setting, setting.name) for setting in SETTINGS]
        self._reset = gr.Button("Reset to defaults", size="sm", variant="secondary", elem_id="reset-settings")
        self._remembered = gr.BrowserState(None, storage_key=STORAGE_KEY, secret=STORAGE_SECRET)

    def wire(self, demo: gr.Blocks) -> Any:
        """Remember every change, restore on load, and reset: all in the browser, without a word to the server.

        Returns:
            the event of the restoring.
        """
        gr.on(
            [control.change for control in self.controls],  # type: ignore[attr-defined]
            fn=None,
            js=f"(...values) => Object.fromEntries({json.dumps(NAMES)}.map((name, n) => [name, values[n]]))",
            inputs=self.controls,
            outputs=self._remembered,
            show_progress="hidden",
        )
        restored = demo.load(
            fn=None, js=_restore(), inputs=self._remembered, outputs=self.controls, show_progress="hidden"
        )
        defaults = json.dumps([setting.default for setting in SETTINGS])
        self._reset.click(fn=None, js=f"() => {defaults}", outputs=self.controls, show_progress="hidden")
        return restored

    def take_seed(self, view: gr.HTML) -> None:
        """Let the seed that a token view shows be used again."""
        view.reuse(
            _shown_seed,
            outputs=self.controls[NAMES.index("seed")],
            queue=False,
            show_progress="hidden",
            api_visibility="private",
        )


def request_fields(values: Sequence[Any]) -> dict[str, Any]:
    """CompletionRequest's fields from the values of the controls; a seed of -1 is drawn here, so that it can be shown.

    Raises:
        RequestError: a field was left empty, or must be whole and is not.
    """
    found = values_of(SETTINGS, values)
    if found["seed"] == -1:
        found["seed"] = random.randint(0, MAX_DRAWN_SEED)
    return found


def values_of(settings: Sequence[Setting], values: Sequence[Any]) -> dict[str, Any]:
    """The settings' values by name, from those of their controls.

    Raises:
        RequestError: a field was left empty, or must be whole and is not.
    """
    found: dict[str, Any] = {}
    for setting, value in zip(settings, values, strict=True):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise RequestError(f"{setting.name} is {'empty' if value is None else repr(value)}; give a number")
        if setting.step == 1 and value != int(value):
            raise RequestError(f"{setting.name} is {value!r}; give a whole number")
        found[setting.name] = int(value) if setting.step == 1 else float(value)
    return found


def _shown_seed(event: gr.EventData) -> int:
    return int(event._data["seed"])


def _restore() -> str:
    """Script: what is remembered of every setting, or its default where that is missing, no number, or out of range."""
    ranges = json.dumps([[setting.name, setting.default, setting.minimum, setting.maximum] for setting in SETTINGS])
    known = 'typeof remembered?.[name] === "number" && remembered[name] >= minimum && remembered[name] <= maximum'
    return f"(remembered) => {ranges}.map(([name, given, minimum, maximum]) => {known} ? remembered[name] : given)"


def control(setting: Setting, elem_id: str) -> gr.components.Component:
    """The setting's slider or field, with its default."""
    options: dict[str, Any] = {
        "value": setting.default,
        "label": setting.label,
        "info": setting.info,
        "minimum": setting.minimum,
        "maximum": setting.maximum,
        "elem_id": elem_id,
        "interactive": True,
    }
    if setting.name == "seed":
        return gr.Number(precision=0, **options)
    return gr.Slider(step=setting.step, buttons=[], **options)
