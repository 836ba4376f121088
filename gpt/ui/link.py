"""Links that carry a prompt, settings and a seed: read with care, since anybody can write one."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from html import escape
from typing import Any
from urllib.parse import parse_qsl

import gradio as gr

from gpt.ui.catalogue import Catalogue
from gpt.ui.compare_tab import ELSEWHERE, OWN, SHARED, SIDES, CompareTab
from gpt.ui.header import Header
from gpt.ui.model_list import LIVE
from gpt.ui.playground import Playground
from gpt.ui.settings import SETTINGS, Setting, SettingsPanel

MAX_FIELDS = 40
MAX_SHOWN = 40
TEXT_FIELDS: Mapping[str, Setting | None] = {
    "prompt": None,
    "checkpoint": None,
    **{setting.name: setting for setting in SETTINGS},
}
COMPARE_FIELDS: Mapping[str, Setting | None] = {
    "prompt": None,
    **dict.fromkeys(SIDES),
    **{setting.name: setting for setting in SHARED},
    **{f"{side}.{setting.name}": setting for side in SIDES for setting in OWN},
}


def read_link(fragment: str) -> tuple[bool, dict[str, Any], list[str]]:
    """What a link's fragment says: whether it compares, its values by name, and what is wrong with the others.

    It compares when it names a side. A value is text, or a number in its setting's range.
    """
    try:
        pairs = dict(parse_qsl(fragment, keep_blank_values=True, max_num_fields=MAX_FIELDS))
    except ValueError:
        return False, {}, ["it has too many fields"]
    compares = any(side in pairs for side in SIDES)
    fields = COMPARE_FIELDS if compares else TEXT_FIELDS
    values: dict[str, Any] = {}
    problems = []
    for name, text in pairs.items():
        if name not in fields:
            problems.append(f"{_short(name)} is no setting")
            continue
        setting = fields[name]
        if setting is None:
            values[name] = text
            continue
        number = _number(text, setting)
        if number is None:
            problems.append(f"{name} is {_short(text)}, not a number from {setting.minimum:g} to {setting.maximum:g}")
        else:
            values[name] = number
    return compares, values, problems


class Links:
    """The buttons that copy a link, and what fills the page in from one."""

    def __init__(
        self,
        catalogue: Catalogue,
        header: Header,
        playground: Playground,
        settings: SettingsPanel,
        comparison: CompareTab,
        tabs: gr.Tabs,
    ) -> None:
        self._catalogue = catalogue
        self._tabs = tabs
        self._header = header
        self._playground = playground
        self._comparison = comparison
        self._text = dict(zip(TEXT_FIELDS, [playground.prompt, None, *settings.controls], strict=True))
        compared = [comparison.prompt, *comparison.models, *comparison.shared, *comparison.own[0], *comparison.own[1]]
        self._compared = dict(zip(COMPARE_FIELDS, compared, strict=True))

    def wire(self, restored: Callable[..., Any]) -> None:
        """Connect the buttons, and read the link after `restored`, the event that sets what the browser remembers."""
        live = self._header.checkpoint
        text = [live if component is None else component for component in self._text.values()]
        for button, view, names, components in (
            (self._playground.copy_link, self._playground.output, TEXT_FIELDS, text),
            (self._comparison.copy_link, self._comparison.views[0], COMPARE_FIELDS, list(self._compared.values())),
        ):
            said = f"'#{button.elem_id}', {json.dumps(list(names))}"
            button.click(
                fn=None,
                js=f"(...given) => window.views.share({said}, given)",
                inputs=[live, view, *components],
                show_progress="hidden",
            )
        # The prompt only stands for the fragment, which the script puts in its place, and takes out of the address.
        filled = restored(
            self._restore,
            inputs=self._playground.prompt,
            outputs=self._outputs,
            js="() => { const fragment = location.hash.slice(1);"
            ' if (fragment) history.replaceState(null, "", location.pathname + location.search);'
            " return fragment; }",
            preprocess=False,  # queued: outside the queue its messages would not reach the page
            show_progress="hidden",
            api_visibility="private",
        )
        # From here on nothing that is typed into the Playground is taken back: whoever drives the page by a program
        # waits for this mark.
        filled.then(fn=None, js="() => { document.documentElement.dataset.ready = ''; }", show_progress="hidden")

    @property
    def _outputs(self) -> list[Any]:
        text = [component for component in self._text.values() if component is not None]
        return [*text, *self._compared.values(), self._tabs]

    def _restore(self, fragment: str | None) -> list[Any]:
        """Fill in what is right in the link; say what was not. Nothing is written until the visitor wants it."""
        if not fragment:
            return [gr.skip()] * len(self._outputs)
        compares, values, problems = read_link(fragment)
        for side in SIDES:
            if side in values and (problem := self._choose(values, side)):
                problems.append(problem)
        made_with = values.pop("checkpoint", None)
        if made_with is not None and made_with != self._catalogue.live():
            problems.append(
                f"it was made with {_short(made_with)}, and another checkpoint is live, which writes otherwise"
            )
        if problems:
            gr.Warning(escape(f"Something in the link is left out or different here: {'; '.join(problems)}."))
        if values:
            gr.Info(f"The link is filled in; press {'Compare' if compares else 'Generate'} to write.")
        text = [{} if compares else values, values if compares else {}]
        updates = [text[0].get(name, gr.skip()) for name, component in self._text.items() if component is not None]
        updates += [text[1].get(name, gr.skip()) for name in self._compared]
        return [*updates, gr.Tabs(selected="compare-tab") if compares and values else gr.skip()]

    def _choose(self, values: dict[str, Any], side: str) -> str:
        """Put the list's value in the place of a model's name; what is wrong with it, if anything."""
        name = values[side]
        if name == self._catalogue.live():
            values[side] = LIVE
        elif name != ELSEWHERE and name not in self._catalogue.entries():
            del values[side]
            return f"there is no checkpoint {_short(name)} here"
        return ""


def _number(text: str, setting: Setting) -> float | None:
    """The number that a text is, where the setting can have it."""
    try:
        number = int(text) if setting.step == 1 else float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and setting.minimum <= number <= setting.maximum else None


def _short(text: str) -> str:
    return repr(text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…")
