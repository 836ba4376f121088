"""The interface in a thread of the tests, over a small checkpoint of random weights or a fake backend."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI

from gpt.api.routes import add_api
from gpt.backends.swappable import SwappableBackend
from gpt.completion import CompletionBackend
from tests.event_loop import drop_connections
from tests.gpt.vertex.serving import Answer, eventually

MODEL = "tiny"


@contextlib.contextmanager
def serving_api(backend: CompletionBackend, **options: Any) -> Iterator[str]:
    """Serve until the block ends; host:port."""
    app = FastAPI()
    add_api(app, SwappableBackend(backend), lambda: MODEL, **options)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1))

    async def serve(listener: socket.socket) -> None:
        await server.serve([listener])
        await drop_connections()

    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        thread = threading.Thread(target=lambda: asyncio.run(serve(listener)), daemon=True)
        thread.start()
        try:
            eventually(lambda: server.started)
            yield "{}:{}".format(*listener.getsockname())
        finally:
            server.should_exit = True
            thread.join(timeout=20)
    assert not thread.is_alive()


def ask(
    address: str,
    path: str,
    body: object = None,
    *,
    headers: dict[str, str] | None = None,
    method: str | None = None,
) -> Answer:
    """Send a body, as JSON unless it is bytes, and read the whole answer; as text where it is no JSON."""
    content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    given = {"Content-Type": "application/json", **(headers or {})}
    with contextlib.closing(http.client.HTTPConnection(address, timeout=30)) as connection:
        connection.request(method or ("GET" if body is None else "POST"), path, content, given)
        answer = connection.getresponse()
        text = answer.read().decode()
        kind = answer.getheader("content-type", "")
        parsed = json.loads(text) if kind.startswith("application/json") else text
        return Answer(answer.status, parsed, {k.lower(): v for k, v in answer.getheaders()})
