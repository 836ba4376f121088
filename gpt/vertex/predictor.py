"""python -m gpt.vertex.predictor: the server of a container on Vertex AI, and of a rehearsal on this machine.

It honours what Vertex AI sets: AIP_HTTP_PORT, AIP_HEALTH_ROUTE, AIP_PREDICT_ROUTE and AIP_STORAGE_URI, the
checkpoint's folder in a bucket. It listens before the model is loaded, and says 503 until then. SIGTERM lets it
finish what it writes, refuse what comes new, and end. Its log goes to standard output, a JSON object a line.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from gpt.errors import CheckpointError, ConfigError, GPTError
from gpt.vertex.bucket import SCHEME, Storage, split

if TYPE_CHECKING:
    from gpt.completion import CompletionBackend

logger = logging.getLogger("gpt.vertex.predictor")

PORT = 8080
HEALTH_ROUTE = "/health"
PREDICT_ROUTE = "/predict"
DRAIN_S = 25


def build_parser() -> argparse.ArgumentParser:
    """The command line; what it leaves out comes from the environment."""
    parser = argparse.ArgumentParser(
        prog="python -m gpt.vertex.predictor",
        description="Serve a checkpoint's completions over HTTP, as a container on Vertex AI does.",
        epilog="exit status: 0 stopped by SIGTERM or Ctrl-C; 1 it failed; 2 an argument is wrong",
    )
    parser.add_argument(
        "--checkpoint", metavar="FOLDER", help="a folder, file://FOLDER or gs://BUCKET/FOLDER (AIP_STORAGE_URI)"
    )
    parser.add_argument(
        "--host", help="address to listen on (0.0.0.0 where AIP_HTTP_PORT is set; else 127.0.0.1: this machine only)"
    )
    parser.add_argument(
        "--port", type=_port, help=f"port to listen on; 0: any that is free (AIP_HTTP_PORT, else {PORT})"
    )
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda or cuda:N (%(default)s: a GPU if there is one)"
    )
    parser.add_argument(
        "--int8", action="store_true", help="8-bit products: faster, not quite the same text (needs AVX-512 VNNI)"
    )
    parser.add_argument(
        "--max-streams", type=_at_least(1), default=16, metavar="N", help="texts written at once (%(default)s)"
    )
    parser.add_argument(
        "--max-queue", type=_at_least(0), default=64, metavar="N", help="texts that may wait for it (%(default)s)"
    )
    parser.add_argument(
        "--drain-s",
        type=_at_least(0),
        default=DRAIN_S,
        metavar="S",
        help="seconds that texts under way may still take after SIGTERM (%(default)s)",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal ends it; the exit status."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    environment = {name: value for name, value in os.environ.items() if name.startswith("AIP_") and value}
    checkpoint = options.checkpoint or environment.get("AIP_STORAGE_URI")
    if not checkpoint:
        parser.error("no checkpoint is named; give its folder with --checkpoint, or in AIP_STORAGE_URI")
    if checkpoint.startswith(SCHEME):
        try:
            split(checkpoint, "the checkpoint")
        except ConfigError as error:
            parser.error(str(error))
    port = options.port
    if port is None:
        try:
            port = _port(environment.get("AIP_HTTP_PORT", str(PORT)))
        except argparse.ArgumentTypeError as error:
            parser.error(f"AIP_HTTP_PORT: {error}")
    routes = [
        environment.get(name, default)
        for name, default in (("AIP_HEALTH_ROUTE", HEALTH_ROUTE), ("AIP_PREDICT_ROUTE", PREDICT_ROUTE))
    ]
    for route in routes:
        if not route.startswith("/"):
            parser.error(f"the route is {route!r}; give a path that begins with a slash")
    host = options.host or ("0.0.0.0" if "AIP_HTTP_PORT" in environment else "127.0.0.1")
    try:
        listener = socket.create_server((host, port), backlog=2048)
        # The event loop does it for sockets that it makes; without it a kept connection waits 40 ms for each answer.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        print(
            f"{parser.prog}: cannot listen on port {port} of {host} ({os.strerror(error.errno or 0)})", file=sys.stderr
        )
        return 1

    def load() -> CompletionBackend:
        return load_backend(checkpoint, options.device, options.max_streams, options.max_queue, options.int8)

    return _run(listener, load, routes, options.drain_s)


def load_backend(
    checkpoint: str, device: str, max_streams: int, max_queue: int, int8: bool = False
) -> CompletionBackend:
    """The backend over a checkpoint on this machine or in a bucket.

    Raises:
        GPTError: the checkpoint is not there, damaged or incomplete, or the device or the bucket cannot be used.
    """
    from gpt.backends.local import LocalBackend

    with tempfile.TemporaryDirectory(prefix="checkpoint-") as folder:
        path = Path(checkpoint.removeprefix("file://"))
        if checkpoint.startswith(SCHEME):
            # Called like its folder in the bucket: that is the name under which it serves.
            path = Path(folder) / (checkpoint.rstrip("/").rpartition("/")[2])
            logger.info("fetching %s", checkpoint)
            Storage().download_folder(checkpoint, path)
            if not path.is_dir():
                raise CheckpointError(f"there is nothing at {checkpoint}; copy a checkpoint's folder there")
        return LocalBackend.from_checkpoint(path, device, max_streams, max_queue, int8=int8)


def _run(listener: socket.socket, load: Callable[[], CompletionBackend], routes: Sequence[str], drain_s: float) -> int:
    """Load the model while the server answers already, and serve until a signal; the exit status."""
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, _quit)  # until the server takes them
    from gpt.vertex.log import log_as_json
    from gpt.vertex.server import Server
    from gpt.vertex.service import Service

    log_as_json()
    service = Service()
    server = Server(service, *routes, drain_s=drain_s)
    failed = threading.Event()

    def run_load() -> None:
        try:
            service.backend = load()
        except Exception as error:
            words = str(error) if isinstance(error, GPTError) else "the model could not be loaded; the log says why"
            logger.critical("%s", words, exc_info=None if isinstance(error, GPTError) else error)
            print(f"python -m gpt.vertex.predictor: {words}", file=sys.stderr)
            failed.set()
            server.should_exit = True
        else:
            logger.info("the checkpoint %s is loaded", service.backend.info().name)

    host, port = listener.getsockname()[:2]
    logger.info("listening on http://%s:%s", f"[{host}]" if ":" in host else host, port)
    loading = threading.Thread(target=run_load, name="load", daemon=True)
    loading.start()
    server.run(sockets=[listener])
    logger.info("stopped")
    if service.backend is not None:
        service.backend.close()
    elif loading.is_alive():
        sys.stdout.flush()
        os._exit(0)  # a thread that is inside torch while the interpreter goes away takes the process down
    return 1 if failed.is_set() else 0


def _quit(_signal: int, _frame: FrameType | None) -> NoReturn:
    """Leave at once: nothing has begun yet, or all is done."""
    os._exit(0)


def _port(text: str) -> int:
    port = int(text) if text.isascii() and text.isdigit() else -1
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; give a whole number from 0 to 65535")
    return port


def _at_least(low: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text) if text.isascii() and text.isdigit() else -1
        if value < low:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least {low}")
        return value

    return number


if __name__ == "__main__":
    status = main()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # all is closed; a thread that still loads compiled code must not outlive the interpreter
