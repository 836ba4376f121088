"""The models that a list on the page offers: the live one first, then the other checkpoints of this machine."""

from __future__ import annotations

from typing import Any

import gradio as gr

from gpt.ui.catalogue import Catalogue

LIVE = ""
"""The value that stands for the live model, whichever it is."""


def model_choices(catalogue: Catalogue, *, local: bool = False) -> list[tuple[str, str]]:
    """What can be chosen, as (label, value).

    Args:
        catalogue: the checkpoints.
        local: leave the live model out where it is elsewhere.
    """
    live = catalogue.live()
    first = [] if local and catalogue.info().kind != "local" else [(f"{live} (live)", LIVE)]
    return first + [(name, name) for name in catalogue.entries() if name != live]


def model_update(catalogue: Catalogue, chosen: str | None, *, local: bool = False) -> dict[str, Any]:
    """The list as it is now; the choice stays where it is still there, else the live one is chosen, or nothing."""
    choices = model_choices(catalogue, local=local)
    values = [value for _, value in choices]
    return gr.update(choices=choices, value=chosen if chosen in values else LIVE if LIVE in values else None)
