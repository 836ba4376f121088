"""The token view: generated text, each token tinted by its probability, with its alternatives to choose from."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

TEMPLATE = """
<div class="tv">
  <div class="tv-bar">
    <span class="tv-title"></span>
    <span class="tv-stats"></span>
    <span class="tv-legend" title="The tint of a token shows how probable the model found it">
      likely <i></i> surprising
    </span>
    <button type="button" class="tv-copy">Copy text</button>
  </div>
  <div class="tv-text" role="group" tabindex="-1" data-empty="{{empty}}"
    aria-label="{{name}}; arrow keys move from token to token, Enter leads to the alternatives"></div>
  <div class="tv-pop" role="dialog" aria-label="Alternatives" hidden></div>
  <span class="tv-status" role="status"></span>
</div>
"""


def token_view(*, elem_id: str, name: str, empty: str, stop: str) -> gr.HTML:
    """A view of a `Transcript`'s value.

    Events:
        select: the visitor chose an alternative; the event's data has `token` and `alternative`, counted from 0.
        reuse: the visitor asks to use the shown seed again; the event's data has `seed`, as text.

    Args:
        elem_id: the element's id.
        name: what a screen reader calls the text.
        empty: shown while there is no text.
        stop: the id of the button that stops what writes here; choosing an alternative presses it first. Empty
            where alternatives are only shown.
    """
    # A plain gr.HTML: for a subclass Gradio writes a .pyi file beside the source, which type checkers would then read.
    return gr.HTML(
        "",
        html_template=TEMPLATE,
        js_on_load=Path(__file__).with_suffix(".js").read_text(encoding="utf-8"),
        apply_default_css=False,
        elem_id=elem_id,
        elem_classes=["token-view"] if stop else ["token-view", "compared"],
        name=name,
        empty=empty,
        stop=stop,
    )
