"""A page over fake backends, served in a thread: for the tests that need a server or a browser."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from app import GRADIO_ENVIRONMENT, create_app

os.environ.update(GRADIO_ENVIRONMENT)  # before Gradio is imported

import uvicorn

from gpt import GPT, GPTConfig, save_checkpoint
from gpt.backends.swappable import SwappableBackend
from gpt.character_tokenizer import CharacterTokenizer
from gpt.completion import CompletionBackend
from gpt.errors import CheckpointError
from gpt.record import TrainingRecord
from gpt.ui.catalogue import Catalogue
from gpt.vertex.connection import Connection
from tests.event_loop import drop_connections
from tests.fake_backend import FakeBackend

CHARACTERS = "".join(chr(code) for code in range(32, 127)) + "\n"
BROKEN = "broken"
LOADING_S = 60
Made = TypeVar("Made")


def save_random_checkpoint(folder: Path, *, embed_dim: int = 16, nats: float | None = None, steps: int = 0) -> Path:
    """A checkpoint of a few thousand random weights and a character tokenizer that knows ASCII."""
    tokenizer = CharacterTokenizer(CHARACTERS)
    config = GPTConfig(
        vocab_dim=tokenizer.vocab_dim, sequence_dim=64, embed_dim=embed_dim, num_heads=2, num_layers=1, dropout=0.0
    )
    figures = {} if nats is None else {"block": round(nats + 0.015, 4), "sliding": nats}
    record = TrainingRecord(
        preset=folder.name,
        corpus="shakespeare" if nats else "",
        steps=steps,
        best_step=steps,
        nats_per_character=figures,
        created_at="2026-01-02T03:04:05+00:00" if steps else "",
    )
    save_checkpoint(folder, GPT.from_config(config), tokenizer, record)
    return folder


def make_catalogue(root: Path, fakes: dict[str, FakeBackend]) -> Catalogue:
    """Three checkpoints, "laptop" live. `fakes` holds the backends by checkpoint; "broken" cannot be loaded."""
    live = save_random_checkpoint(root / "laptop", nats=1.447, steps=2600)
    save_random_checkpoint(root / "shakespeare", nats=1.596, steps=9000, embed_dim=32)
    save_random_checkpoint(root / BROKEN)

    def load(folder: Path) -> CompletionBackend:
        if folder.name == BROKEN:
            raise CheckpointError(f"{folder.name}/model.safetensors is damaged; copy it again")
        fakes[folder.name].loadable.wait(LOADING_S)
        return fakes[folder.name]

    return Catalogue(SwappableBackend(fakes["laptop"]), root, live, load)


def in_event_loop(make: Callable[[], Made]) -> Made:
    """What `make` returns, called while an event loop runs: else Gradio makes a loop for each lock, and closes none."""

    async def call() -> Made:
        return make()

    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(asyncio.run, call()).result()


class _Server(uvicorn.Server):
    """Lets go of the connections that browsers keep open: else they are found unclosed in the middle of other tests."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        await drop_connections()


@contextlib.contextmanager
def served(catalogue: Catalogue, connection: Connection | None = None) -> Iterator[str]:
    """Serve the catalogue's page in a thread; its address."""
    application = in_event_loop(lambda: create_app(catalogue, connection))
    server = _Server(uvicorn.Config(application, port=0, log_level="critical", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, name="server", daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.02)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)
