"""ApiSnippet: how programs use the model that the page shows, as code that runs as it stands."""

from __future__ import annotations

from typing import Any

import gradio as gr

SNIPPETS = {
    "openai (Python)": (
        "python",
        """from openai import OpenAI

client = OpenAI(base_url="{base}v1", api_key="none")
model = client.models.list().data[0].id  # the live one
for chunk in client.completions.create(model=model, prompt="ROMEO:", max_tokens=100, stream=True):
    print(chunk.choices[0].text, end="", flush=True)
""",
    ),
    "gradio_client (Python)": (
        "python",
        """from gradio_client import Client

print(Client("{base}", verbose=False).predict("ROMEO:", max_new_tokens=100, seed=1, api_name="/generate"))
""",
    ),
    "curl": (
        "shell",
        """curl {base}v1/completions --json '{{"prompt": "ROMEO:", "max_tokens": 100, "seed": 1}}'
""",
    ),
}
"""By tab: language and code; {base} is the page's address."""


class ApiSnippet:
    """A fold at the foot of the page, with a tab for each way; it stands in the Blocks being built."""

    def __init__(self) -> None:
        self._codes = []
        with gr.Accordion("Use via API", open=False, elem_id="use-via-api"), gr.Tabs():
            for title, (language, _) in SNIPPETS.items():
                with gr.Tab(title):
                    options: dict[str, Any] = {"language": language, "show_line_numbers": False, "wrap_lines": True}
                    code = gr.Code(interactive=False, show_label=False, **options)
                    self._codes.append(code)

    def wire(self, demo: gr.Blocks) -> None:
        """Fill in the address by which the visitor came."""
        demo.load(_filled, outputs=self._codes, queue=False, show_progress="hidden", api_visibility="private")


def _filled(request: gr.Request) -> list[str]:
    base = f"{request.url.scheme}://{request.headers['host']}/"
    return [code.format(base=base) for _, code in SNIPPETS.values()]
