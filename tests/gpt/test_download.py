"""Downloads: whole and verified, or one reason."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gpt.download import download

CONTENT = b"to be or not to be " * 10_000


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/missing":
            self.send_error(404)
            return
        if self.path == "/silent":
            threading.Event().wait(1.0)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: len(CONTENT) // 2] if self.path == "/half" else CONTENT)

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


SHA256 = hashlib.sha256(CONTENT).hexdigest()


def test_download_gives_the_bytes_and_reports_progress(address: str) -> None:
    received: list[int] = []
    assert download(f"{address}/whole", sha256=SHA256, progress=received.append) == CONTENT
    assert received[-1] == len(CONTENT) and received == sorted(received) and len(received) > 1


def test_download_refuses_a_broken_off_or_other_file(address: str) -> None:
    with pytest.raises(OSError, match=f"{len(CONTENT) // 2:,} bytes .* instead of {SHA256}"):
        download(f"{address}/half", sha256=SHA256)
    with pytest.raises(OSError, match=f"sha256 {SHA256} instead of 00"):
        download(f"{address}/whole", sha256="00")


def test_download_names_the_reason(address: str) -> None:
    with pytest.raises(OSError, match="404"):
        download(f"{address}/missing", sha256=SHA256)
    with pytest.raises(OSError, match="refused"):
        download("http://127.0.0.1:1/", sha256=SHA256)
    with pytest.raises(OSError, match="timed out"):
        download(f"{address}/silent", sha256=SHA256, timeout_s=0.2)
