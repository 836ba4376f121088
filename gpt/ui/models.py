"""The Models tab: the checkpoints as cards, to use, read about, download, rename, delete, and to add to."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import gradio as gr

from gpt.checkpoint_archive import MAX_ARCHIVE_BYTES
from gpt.errors import GPTError
from gpt.ui.card import render_card
from gpt.ui.cards import cards
from gpt.ui.catalogue import Catalogue
from gpt.ui.header import Header
from gpt.ui.run import BROKEN, as_sentence

logger = logging.getLogger(__name__)

INTRODUCTION = (
    "Every checkpoint in `checkpoints/`, your own runs among them. *Use* loads one and then serves with it; "
    "text under way elsewhere finishes on the model that it began with. *Download* gives a zip that *Upload* takes, "
    "here or elsewhere; nothing in it is ever run. *Pull* takes a repository of the Hugging Face Hub by its name: what "
    "`python -m gpt.hub push` made, or `gpt2` and its fine-tunes."
)
UPLOAD = "Upload a checkpoint (.zip)"
PULL = "Pull from the Hub"
TEMPLATE = f"""
<div class="models-bar">
  <button type="button" class="models-upload" data-label="{UPLOAD}">{UPLOAD}</button>
  <input type="file" accept=".zip" hidden aria-label="A checkpoint's zip">
  <form class="models-pull">
    <input type="text" placeholder="gpt2, or OWNER/NAME" aria-label="Name on the Hugging Face Hub" maxlength="200"
      autocomplete="off" autocapitalize="off" spellcheck="false">
    <button class="models-upload" data-label="{PULL}">{PULL}</button>
  </form>
  <p class="models-status" role="status" tabindex="-1"></p>
</div>
<div class="models-cards"></div>
<dialog class="sheet" data-dialog="rename" aria-labelledby="rename-title"><form method="dialog">
  <h3 id="rename-title">Rename <span class="sheet-name"></span></h3>
  <label>New name <input type="text" autocomplete="off" spellcheck="false"></label>
  <p class="sheet-error" role="alert"></p>
  <div class="sheet-actions"><button type="button" class="no">Cancel</button><button class="yes">Rename</button></div>
</form></dialog>
<dialog class="sheet" data-dialog="delete" aria-labelledby="delete-title" aria-describedby="delete-question">
<form method="dialog">
  <h3 id="delete-title">Delete <span class="sheet-name"></span></h3>
  <p class="sheet-question" id="delete-question"></p>
  <p class="sheet-error" role="alert"></p>
  <div class="sheet-actions">
    <button type="button" class="no">Keep it</button><button class="yes danger">Delete</button>
  </div>
</form></dialog>
<dialog class="sheet wide" data-dialog="card" aria-labelledby="card-title"><form method="dialog">
  <h3 id="card-title">Card of <span class="sheet-name"></span></h3>
  <div class="card-text" tabindex="0"></div>
  <div class="sheet-actions"><button type="button" class="no">Close</button></div>
</form></dialog>
"""


class Models:
    """The Models tab's content and the events that change the live checkpoint, the header's list among them.

    Attributes:
        cards: the checkpoints, and what can be done with them.
        chosen: the event of a choice from the header's list, after which another one may be live.
    """

    def __init__(self, catalogue: Catalogue, header: Header) -> None:
        self._catalogue = catalogue
        self._header = header
        gr.Markdown(INTRODUCTION, elem_id="models-introduction")
        self.cards = gr.HTML(
            self._cards(),
            html_template=TEMPLATE,
            js_on_load=Path(__file__).with_suffix(".js").read_text(encoding="utf-8"),
            server_functions=_answers(catalogue),
            apply_default_css=False,
            elem_id="models",
            max_bytes=MAX_ARCHIVE_BYTES,
        )
        self._options: dict[str, Any] = {
            "outputs": self.outputs,
            "concurrency_id": "checkpoints",
            "concurrency_limit": 1,
            "show_progress": "hidden",
            "api_visibility": "private",
        }
        self.cards.use(self._use_card, **self._options)
        self.chosen = header.checkpoint.input(self._use, header.checkpoint, **self._options)
        self.cards.changed(
            self.updates,
            outputs=[self.cards, *header.outputs],
            queue=False,
            show_progress="hidden",
            api_visibility="private",
        )

    def use_from(self, trigger: Callable[..., Any], name: gr.components.Component) -> Any:
        """Let `trigger` put the checkpoint to use whose name is the value of a component; gives the event."""
        return trigger(self._use, name, **self._options)

    @property
    def outputs(self) -> list[gr.components.Component]:
        """The components that `updates` is for."""
        return [self.cards, *self._header.outputs]

    def updates(self) -> list[Any]:
        """What the cards and the header show now."""
        return [self._cards(), *self._header.updates()]

    def _cards(self, loading: str | None = None) -> str:
        catalogue = self._catalogue
        entries = catalogue.entries()
        return cards(
            entries,
            catalogue.live(),
            catalogue.damaged(),
            loading,
            protected=catalogue.protections(entries),
            runs=catalogue.runs(entries),
        )

    def _use_card(self, event: gr.EventData) -> Generator[list[Any], None, None]:
        yield from self._use(str(event._data.get("name", "")))

    def _use(self, name: str) -> Generator[list[Any], None, None]:
        """Show that the checkpoint loads, load it, and show what is live then."""
        yield [self._cards(loading=name), gr.skip(), gr.update(value=name, interactive=False)]
        try:
            self._catalogue.use(name)
        except GPTError as error:
            gr.Warning(as_sentence(error))
        except Exception:
            logger.exception("the checkpoint %s could not be loaded", name)
            gr.Warning("The checkpoint could not be loaded; the server's log says why.")
        *updates, checkpoint = self.updates()
        yield [*updates, checkpoint | {"interactive": True}]


def _answers(catalogue: Catalogue) -> list[Callable[[Any], dict[str, str]]]:
    """What the tab's script asks for: each answers with an `error` in words, or without one."""

    def answer(work: Callable[[], dict[str, str] | None]) -> dict[str, str]:
        try:
            return work() or {}
        except GPTError as error:
            words = str(error)
            return {"error": words[:1].upper() + words[1:]}
        except Exception:
            logger.exception("the Models tab could not do what was asked")
            return {"error": BROKEN}

    def show_card(name: Any) -> dict[str, str]:
        return answer(lambda: {"html": render_card(catalogue.card(str(name)))})

    def rename_checkpoint(names: Any) -> dict[str, str]:
        return answer(lambda: catalogue.rename(*(str(name) for name in names)))

    def delete_checkpoint(name: Any) -> dict[str, str]:
        return answer(lambda: catalogue.delete(str(name)))

    return [show_card, rename_checkpoint, delete_checkpoint]
