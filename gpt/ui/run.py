"""A run: text being written into a token view, from the press of a button to the state in which all is idle again."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Generator
from html import escape
from typing import Any

import gradio as gr

from gpt.errors import GPTError

logger = logging.getLogger(__name__)

# More than the backends serve or queue: it is theirs to refuse with words when they are full.
CONCURRENCY = {"concurrency_id": "generation", "concurrency_limit": 128}
BROKEN = "Something went wrong here; the server's log says what."


def as_sentence(error: GPTError) -> str:
    """The error's words, begun with a capital; escaped, for the page takes a message as HTML."""
    words = str(error)
    return escape(words[:1].upper() + words[1:])


class Controls:
    """The buttons of a run. While it goes on, only Stop can be pressed; else all but Stop."""

    def __init__(self, start: gr.Button, stop: gr.Button, clear: gr.Button) -> None:
        self.start, self.stop, self.clear = start, stop, clear

    @property
    def outputs(self) -> list[gr.components.Component]:
        """The components that `updates` is for."""
        return [self.start, self.stop, self.clear]

    @staticmethod
    def updates(*, running: bool) -> list[Any]:
        """The buttons' state."""
        return [gr.update(interactive=on) for on in (not running, running, not running)]


def wire_run(
    triggers: list[Any],
    write: Callable[..., Generator[list[Any], None, None]],
    *,
    inputs: list[gr.components.Component],
    outputs: list[gr.components.Component],
    controls: Controls,
    finish: Callable[..., list[Any]] | None = None,
) -> None:
    """Let the triggers start `write`, and Stop end it, with the buttons following.

    `write` gets the event's data (of an alternative chosen: `token` and `alternative`) and the inputs' values, and
    yields values for `outputs` or gr.skip(), not properties. `finish` gets the outputs' values when it has ended,
    however it did, and gives new ones. A project error that it raises is shown in its words, any other only logged;
    what the page shows already stays.
    """
    nothing = [gr.skip()] * len(outputs)
    # Said with every step: of steps that reach a browser at once, Gradio's client forgets the properties that a later
    # one leaves out before it has shown them.
    running = controls.updates(running=True)

    def run(event: gr.EventData, *values: Any) -> Generator[list[Any], None, None]:
        yield [*nothing, *running]
        try:
            with contextlib.closing(write(event._data or {}, *values)) as written:
                for update in written:
                    yield [*update, *running]
        except GPTError as error:
            gr.Warning(as_sentence(error))
        except Exception:
            logger.exception("a run failed")
            gr.Warning(BROKEN)

    event = gr.on(
        triggers,
        run,
        inputs,
        [*outputs, *controls.outputs],
        preprocess=False,  # the request checks its fields itself, and names the one that is wrong
        show_progress="hidden",
        api_visibility="private",
        **CONCURRENCY,
    )
    ended = event
    if finish is not None:
        ended = event.then(
            finish, outputs, outputs, preprocess=False, queue=False, show_progress="hidden", api_visibility="private"
        )
    # Runs after the end, an error and Stop alike, and not before the event is over: a next press finds the way free.
    ended.then(
        lambda: controls.updates(running=False),
        outputs=controls.outputs,
        queue=False,
        show_progress="hidden",
        api_visibility="private",
    )
    controls.stop.click(fn=None, cancels=[event])
