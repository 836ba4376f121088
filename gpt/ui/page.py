"""The page: the header and its tabs, as one Gradio Blocks, and its mounting on a FastAPI application."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import gradio as gr
from fastapi import FastAPI

from gpt.ui.api_snippet import ApiSnippet
from gpt.ui.backend_panel import BackendPanel
from gpt.ui.catalogue import Catalogue
from gpt.ui.compare_tab import CompareTab
from gpt.ui.dialogue import Dialogue
from gpt.ui.endpoint import add_endpoint
from gpt.ui.header import TITLE, Header
from gpt.ui.inspect_tab import InspectTab
from gpt.ui.link import Links
from gpt.ui.models import Models
from gpt.ui.playground import Playground
from gpt.ui.settings import SettingsPanel
from gpt.ui.theme import theme
from gpt.vertex.connection import Connection

FOLDER = Path(__file__).parent
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


class Training(Protocol):
    """The content of the Train tab, which is made elsewhere; it stands on the page, and hands over checkpoints.

    Attributes:
        use: the button that puts a run's best checkpoint to use.
        run: the component whose value is the run's name, which is the checkpoint's too.
    """

    use: gr.Button
    run: gr.Dropdown

    def wire(self, demo: gr.Blocks, tabs: gr.Tabs, tab: gr.Tab) -> None:
        """Connect its components."""
        ...


def build_page(
    catalogue: Catalogue, connection: Connection | None = None, training: Callable[[], Training] | None = None
) -> gr.Blocks:
    """The page over the catalogue's backend.

    Args:
        catalogue: the checkpoints.
        connection: what the fields of a model elsewhere begin with.
        training: makes the content of the Train tab, where there is to be one.
    """
    demo: gr.Blocks
    with gr.Blocks(title=TITLE, analytics_enabled=False) as demo:
        header = Header(catalogue)
        with gr.Tabs(elem_id="tabs") as tabs:
            with gr.Tab("Playground", id="playground"), gr.Row(elem_id="playground"):
                with gr.Column(scale=5, min_width=320), gr.Tabs(elem_id="modes"):
                    with gr.Tab("Text", id="text"):
                        playground = Playground(catalogue, header)
                    with gr.Tab("Dialogue", id="dialogue"):
                        dialogue = Dialogue(catalogue, header)
                with gr.Column(scale=2, min_width=280, elem_id="settings"):
                    settings = SettingsPanel()
            with gr.Tab("Inspect", id="inspect-tab") as inspect_tab:
                inspection = InspectTab(catalogue)
            with gr.Tab("Compare", id="compare-tab") as compare_tab:
                comparison = CompareTab(catalogue)
            if training is not None:
                with gr.Tab("Train", id="train-tab") as train_tab:
                    trained = training()
            with gr.Tab("Models", id="models-tab") as models_tab:
                models = Models(catalogue, header)
                panel = BackendPanel(catalogue, models, connection or Connection())
        snippet = ApiSnippet()
        snippet.wire(demo)
        playground.wire(settings)
        dialogue.wire(settings)
        panel.wire(demo)
        inspection.wire()
        comparison.wire(panel, demo)
        links = Links(catalogue, header, playground, settings, comparison, tabs)
        links.wire(settings.wire(demo).then)
        playground.compare.click(
            lambda prompt: [prompt, gr.Tabs(selected="compare-tab")],
            playground.prompt,
            [comparison.prompt, tabs],
            queue=False,
            **QUIET,
        )
        playground.inspect.click(
            lambda prompt, shown: [playground.whole_text(prompt, shown), gr.Tabs(selected="inspect-tab")],
            [playground.prompt, playground.output],
            [inspection.text, tabs],
            queue=False,
            **QUIET,
        )
        if training is not None:
            trained.wire(demo, tabs, train_tab)
            models.use_from(trained.use.click, trained.run).success(
                lambda: gr.Tabs(selected="playground"), outputs=tabs, queue=False, **QUIET
            )
        gr.on(
            [demo.load, models_tab.select],
            models.updates,
            outputs=models.outputs,
            queue=False,
            **QUIET,
        )
        for tab, lists, outputs, updates in (
            (inspect_tab, [inspection.model], inspection.outputs, inspection.updates),
            (compare_tab, comparison.models, comparison.models, comparison.updates),
        ):
            options: dict[str, Any] = {
                "fn": updates,
                "inputs": lists,
                "outputs": outputs,
                "preprocess": False,
                "queue": False,
                **QUIET,
            }
            gr.on([demo.load, tab.select], **options)
            models.chosen.then(**options)
        add_endpoint(catalogue.backend)
    return demo


def mount_page(app: FastAPI, demo: gr.Blocks, styles: Sequence[Path] = ()) -> FastAPI:
    """Serve the page at the application's root, with more style sheets; routes added before it stay reachable."""
    mounted: FastAPI = gr.mount_gradio_app(
        app,
        demo,
        path="/",
        show_error=False,  # the page's own errors are raised as messages; others are the log's
        ssr_mode=False,
        run_history=False,
        footer_links=[],
        theme=theme(),
        css_paths=[FOLDER / "page.css", FOLDER / "models.css", FOLDER / "inspect.css", *styles],
        head=f"<script>{(FOLDER / 'page.js').read_text(encoding='utf-8')}</script>",
        favicon_path=str(FOLDER / "favicon.svg"),
    )
    return mounted
