"""The predictor's server in a thread of the tests, and requests to it."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from gpt.completion import CompletionBackend
from gpt.vertex.server import Server
from gpt.vertex.service import Service
from tests.event_loop import drop_connections

PROMPT = {"prompt": "ROMEO:\n"}


class Answer(NamedTuple):
    """A status, and the JSON that came with it."""

    status: int
    content: Any
    headers: dict[str, str]

    @property
    def message(self) -> str:
        """Of an error in Google's shape, which it must have."""
        error = self.content["error"]
        assert set(self.content) == {"error"} and set(error) == {"code", "message", "status"}
        assert error["code"] == self.status
        return str(error["message"])


@contextlib.contextmanager
def serving(backend: CompletionBackend | None) -> Iterator[tuple[Service, str]]:
    """Serve a backend, or one that is still loading, until the block ends; the service, and host:port."""
    service = Service()
    service.backend = backend
    server = Server(service, "/health", "/predict", drain_s=0)

    async def serve(listener: socket.socket) -> None:
        await server.serve([listener])
        await drop_connections()  # those that were cut: their process goes on here

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lambda: asyncio.run(serve(listener)), daemon=True)
        thread.start()
        try:
            eventually(lambda: server.started)
            yield service, "{}:{}".format(*listener.getsockname())
        finally:
            server.should_exit = True
            thread.join(timeout=20)
    assert not thread.is_alive()


def ask(address: str, body: object, *, method: str = "POST", path: str = "/predict") -> Answer:
    """Send a body, as JSON unless it is bytes, and read the whole answer."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    with contextlib.closing(http.client.HTTPConnection(address, timeout=30)) as connection:
        connection.request(method, path, content)
        answer = connection.getresponse()
        return Answer(answer.status, json.loads(answer.read()), {k.lower(): v for k, v in answer.getheaders()})


@contextlib.contextmanager
def streaming(address: str, **parameters: Any) -> Iterator[Iterator[dict[str, Any]]]:
    """The events of one completion as they come; leaving the block drops the connection."""
    body = {"instances": [PROMPT], "parameters": {**parameters, "stream": True}}
    with contextlib.closing(http.client.HTTPConnection(address, timeout=30)) as connection:
        connection.request("POST", "/predict", json.dumps(body))
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        assert answer.getheader("content-type", "").startswith("text/event-stream")
        yield (json.loads(line.removeprefix(b"data: ")) for line in answer if line.startswith(b"data: "))
        answer.close()


def eventually(true: Callable[[], bool], timeout_s: float = 20.0) -> None:
    """Wait until it is true."""
    end_s = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end_s, "it never became true"
        time.sleep(0.01)
