"""The page's public endpoint, for gradio_client and for plain HTTP."""

from __future__ import annotations

from collections.abc import Callable, Generator

import gradio as gr

from gpt.completion import CompletionBackend, CompletionRequest
from gpt.errors import GPTError
from gpt.ui.run import CONCURRENCY
from gpt.ui.stream import stream_batches


def add_endpoint(backend: CompletionBackend) -> None:
    """Add `/generate` to the Blocks being built."""
    gr.api(_endpoint(backend), api_name="generate", **CONCURRENCY)


def _endpoint(backend: CompletionBackend) -> Callable[..., Generator[str, None, None]]:
    def generate(
        prompt: str,
        temperature: float = 0.8,
        top_k: int = 50,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        max_new_tokens: int = 200,
        seed: int = -1,
    ) -> Generator[str, None, None]:
        """Continue the prompt; each result is the text written so far, without the prompt. A seed of -1 draws one."""
        text = ""
        try:
            request = CompletionRequest(
                prompt=prompt,
                temperature=temperature,
                top_k=top_k,
                top_p=top_p,
                min_p=min_p,
                repetition_penalty=repetition_penalty,
                max_new_tokens=max_new_tokens,
                seed=None if seed == -1 else seed,
            )
            for batch in stream_batches(backend, request):
                text += "".join(chunk.text for chunk, _ in batch)
                yield text
        except GPTError as error:
            raise gr.Error(str(error), print_exception=False) from error

    # gr.api reads the signature from the function itself; the types of a generator's results are its yields'.
    generate.__annotations__["return"] = str
    return generate
