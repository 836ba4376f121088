"""The page: the header and its tabs, as one Gradio Blocks, and its mounting on a FastAPI application."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
from fastapi import FastAPI

from gpt.ui.backend_panel import BackendPanel
from gpt.ui.catalogue import Catalogue
from gpt.ui.dialogue import Dialogue
from gpt.ui.endpoint import add_endpoint
from gpt.ui.header import TITLE, Header
from gpt.ui.models import Models
from gpt.ui.playground import Playground
from gpt.ui.settings import SettingsPanel
from gpt.ui.theme import theme
from gpt.vertex.connection import Connection

FOLDER = Path(__file__).parent


def build_page(catalogue: Catalogue, connection: Connection | None = None) -> gr.Blocks:
    """The page over the catalogue's backend; it begins with the connection's fields filled in."""
    demo: gr.Blocks
    with gr.Blocks(title=TITLE, analytics_enabled=False) as demo:
        header = Header(catalogue)
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("Playground", id="playground"), gr.Row(elem_id="playground"):
                with gr.Column(scale=5, min_width=320), gr.Tabs(elem_id="modes"):
                    with gr.Tab("Text", id="text"):
                        playground = Playground(catalogue, header)
                    with gr.Tab("Dialogue", id="dialogue"):
                        dialogue = Dialogue(catalogue, header)
                with gr.Column(scale=2, min_width=280, elem_id="settings"):
                    settings = SettingsPanel()
            with gr.Tab("Models", id="models-tab") as models_tab:
                models = Models(catalogue, header)
                panel = BackendPanel(catalogue, models, connection or Connection())
        playground.wire(settings)
        dialogue.wire(settings)
        settings.wire(demo)
        panel.wire(demo)
        gr.on(
            [demo.load, models_tab.select],
            models.updates,
            outputs=models.outputs,
            queue=False,
            show_progress="hidden",
            api_visibility="private",
        )
        add_endpoint(catalogue.backend)
    return demo


def mount_page(app: FastAPI, demo: gr.Blocks) -> FastAPI:
    """Serve the page at the application's root; routes added before it stay reachable."""
    mounted: FastAPI = gr.mount_gradio_app(
        app,
        demo,
        path="/",
        show_error=False,  # the page's own errors are raised as messages; others are the log's
        ssr_mode=False,
        run_history=False,
        footer_links=[],
        theme=theme(),
        css_paths=FOLDER / "page.css",
        head=f"<script>{(FOLDER / 'page.js').read_text(encoding='utf-8')}</script>",
        favicon_path=str(FOLDER / "favicon.svg"),
    )
    return mounted
