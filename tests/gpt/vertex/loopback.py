"""A server on this machine that answers as a test says, byte for byte."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from gpt.completion import CompletionChunk
from gpt.vertex.events import encode_chunk, encode_event

Reply = Callable[["Handler"], None]
FIRST = CompletionChunk("What", (1,), (), None, 5, 2)
LAST = CompletionChunk(" light", (2,), (), "length", 5, 2)
WHOLE = encode_event(encode_chunk(FIRST)) + encode_event(encode_chunk(LAST))
HEALTH = {"name": "tiny", "parameters": 1000, "sequence_dim": 64, "nats_per_character": {"block": 1.5}}


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers health itself, and every prediction with the next of the replies, the last one over and over."""

    protocol_version = "HTTP/1.1"
    replies: Sequence[Reply] = ()
    health: Reply | None = None
    seen: list[Any]

    def do_GET(self) -> None:
        if self.health is not None:
            type(self).health(self)  # type: ignore[misc]
        else:
            self.reply(200, json.dumps(HEALTH).encode())

    def do_POST(self) -> None:
        self.seen.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.replies[min(len(self.seen), len(self.replies)) - 1](self)

    def reply(self, status: int, body: bytes) -> None:
        """A whole answer."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def begin(self) -> None:
        """The head of an answer in pieces."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def piece(self, content: bytes) -> None:
        """A piece of the answer; an empty one ends it."""
        self.wfile.write(b"%x\r\n%b\r\n" % (len(content), content))
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        """Be silent."""


def whole(body: bytes, status: int = 200) -> Reply:
    """Answer with this body."""
    return lambda handler: handler.reply(status, body)


def google_error(status: int, message: str, name: str = "X") -> Reply:
    """Refuse as Google's services do."""
    return whole(json.dumps({"error": {"code": status, "message": message, "status": name}}).encode(), status)


@contextlib.contextmanager
def loopback(*replies: Reply, health: Reply | None = None) -> Iterator[tuple[str, list[Any]]]:
    """The server's address, and the bodies that were sent to it."""
    seen: list[Any] = []
    kind = type("Scripted", (Handler,), {"replies": replies, "health": health, "seen": seen})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)
