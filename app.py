"""python app.py: the page in the browser, over a checkpoint on this machine.

Nothing heavy is imported before the options are read and the port is taken, so that --help and mistakes answer at
once; after that the checkpoint, with torch, is loaded beside the import of Gradio.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from fastapi import FastAPI

    from gpt.completion import CompletionBackend
    from gpt.ui.catalogue import Catalogue
    from gpt.vertex.connection import Connection
    from train.job import Jobs

ROOT = Path(__file__).resolve().parent
CHECKPOINTS = ROOT / "checkpoints"
TEXTS = ROOT / "data" / "texts"
DEFAULT_CHECKPOINT = CHECKPOINTS / "verse"
# Gradio reads these when it is imported. Without the first it asks other hosts for its newest version, and tells them
# that it starts; without the second it sums up all past events after each one, for a dashboard that this page lacks.
GRADIO_ENVIRONMENT = {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_ANALYTICS_CACHE_FREQUENCY": str(10**9)}
# Browsers keep a connection open for the page's events; it is cut this long after the request to stop.
SHUTDOWN_S = 1
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


VERTEX_OPTIONS = (
    ("--vertex-project", "GOOGLE_CLOUD_PROJECT", "the project of Vertex AI"),
    ("--vertex-location", "GOOGLE_CLOUD_LOCATION", "its location, such as us-central1"),
    ("--vertex-endpoint", "GPT_VERTEX_ENDPOINT", "the endpoint's id or full name"),
    ("--vertex-url", "GPT_VERTEX_URL", "in place of these, a predictor's address, such as http://127.0.0.1:8080"),
)


class StartError(Exception):
    """The page cannot be served; the message says why, and what to do."""


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line; leaves with status 2 where they are wrong."""
    parser = argparse.ArgumentParser(
        prog="python app.py",
        description="Serve the page on which a checkpoint writes, talks, and shows what else it had in mind.",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on (%(default)s: this machine only; 0.0.0.0: the network too)",
    )
    parser.add_argument("--port", type=_port, default=7860, help="port to listen on (%(default)s; 0: any that is free)")
    parser.add_argument(
        "--checkpoint",
        type=Path,
        default=DEFAULT_CHECKPOINT,
        metavar="FOLDER",
        help="checkpoint to begin with (%(default)s)",
    )
    parser.add_argument(
        "--checkpoints",
        type=Path,
        default=CHECKPOINTS,
        metavar="FOLDER",
        help="folder of the other checkpoints that the page offers, and of the runs that it starts (%(default)s)",
    )
    parser.add_argument(
        "--texts",
        type=Path,
        default=TEXTS,
        metavar="FOLDER",
        help="where texts that visitors upload to train on are kept (%(default)s)",
    )
    parser.add_argument(
        "--device", type=_device, default="auto", help="what computes: auto (a GPU where there is one), cpu or cuda"
    )
    parser.add_argument(
        "--int8", action="store_true", help="8-bit products: faster, not quite the same text (needs AVX-512 VNNI)"
    )
    parser.add_argument(
        "--api-key",
        default=os.environ.get("GPT_API_KEY") or "",
        metavar="KEY",
        help="guards the OpenAI-compatible interface at /v1, and /metrics (GPT_API_KEY, which other users do not see)",
    )
    elsewhere = parser.add_argument_group(
        "a model elsewhere", "The page can also be told in its Models tab; what is left out here is empty there."
    )
    elsewhere.add_argument(
        "--backend",
        type=_backend,
        default=os.environ.get("GPT_BACKEND") or "local",
        metavar="local|vertex",
        help="what serves at first: a checkpoint of this machine, or what the next options name (GPT_BACKEND)",
    )
    for option, variable, text in VERTEX_OPTIONS:
        elsewhere.add_argument(option, default=os.environ.get(variable) or "", metavar="X", help=f"{text} ({variable})")
    options = parser.parse_args(arguments)
    named = options.vertex_project and options.vertex_location and options.vertex_endpoint
    if options.backend == "vertex" and not (named or options.vertex_url):
        parser.error(
            "--backend vertex needs --vertex-project, --vertex-location and --vertex-endpoint, "
            "or a predictor's address in --vertex-url"
        )
    return options


def create_app(
    catalogue: Catalogue,
    connection: Connection | None = None,
    jobs: Jobs | None = None,
    texts: Path = TEXTS,
    *,
    api_key: str = "",
    hosts: Sequence[str] = LOOPBACK_HOSTS,
) -> FastAPI:
    """The web application: /health, OpenAI's interface, checkpoints as zips and from the Hub, and the page.

    Args:
        catalogue: the checkpoints.
        connection: what the page knows of a model elsewhere.
        jobs: the runs; without them there is no Train tab.
        texts: where the texts that visitors bring are kept.
        api_key: guards /v1 and /metrics where it is not empty.
        hosts: the names by which /v1 may be asked for without a key; none means by any.
    """
    from fastapi import FastAPI

    from gpt.api.routes import add_api
    from gpt.ui.archives import add_archives
    from gpt.ui.page import build_page, mount_page
    from gpt.ui.pulls import add_pulls
    from train.ui.tab import CSS, TrainTab

    # FastAPI's own pages about its routes take their scripts from other hosts.
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok", "checkpoint": catalogue.live()}

    add_api(app, catalogue.backend, catalogue.live, api_key=api_key, hosts=hosts)
    add_archives(app, catalogue)
    add_pulls(app, catalogue)
    training = None if jobs is None else lambda: TrainTab(ROOT, jobs, texts, os.environ)
    return mount_page(app, build_page(catalogue, connection, training), [CSS])


def load_backend(folder: Path, device: str, int8: bool = False) -> CompletionBackend:
    """A backend over the checkpoint in `folder`.

    Raises:
        CheckpointError: the folder is missing or damaged.
        ConfigError: the device is not there, or cannot multiply at int8.
    """
    from gpt.backends.local import LocalBackend

    return LocalBackend.from_checkpoint(folder, device, int8=int8)


def connection(options: argparse.Namespace) -> Connection:
    """What the options say about a model elsewhere."""
    from gpt.vertex.connection import Connection

    return Connection(
        options.vertex_project,
        options.vertex_location,
        options.vertex_endpoint,
        options.vertex_url,
        os.environ.get("VERTEX_API_ENDPOINT") or None,
    )


def first_backend(options: argparse.Namespace) -> CompletionBackend:
    """What serves at first.

    Raises:
        CheckpointError, ConfigError: as `load_backend`; or what the options name elsewhere cannot be that.
    """
    return (
        connection(options).backend()
        if options.backend == "vertex"
        else load_backend(options.checkpoint, options.device, options.int8)
    )


def serve(options: argparse.Namespace) -> None:
    """Serve the page until a signal ends it.

    Raises:
        StartError: the address, the checkpoint or the device cannot be used.
    """
    if options.backend == "local" and not options.checkpoint.is_dir():
        raise StartError(
            f"there is no checkpoint {options.checkpoint}; train one with python -m train, "
            "or give another with --checkpoint"
        )
    from gpt.errors import GPTError, ListenError
    from gpt.listener import Listener

    try:
        listener = Listener(options.host, options.port)
    except ListenError as error:
        raise StartError(str(error)) from error
    with listener:
        with ThreadPoolExecutor(max_workers=1) as pool:
            loading = pool.submit(first_backend, options)
            import gradio  # noqa: F401  (before anything of gpt, which would wait for the other thread's torch)
            import uvicorn

            try:
                backend = loading.result()
            except GPTError as error:
                raise StartError(str(error)) from error
        from gpt.backends.swappable import SwappableBackend
        from gpt.checkpoint_store import SHIPPED
        from gpt.device import choose_device
        from gpt.ui.catalogue import Catalogue
        from train.job import Jobs, yield_while

        live = SwappableBackend(backend)
        # The runs are processes of their own: they train on when this one ends, and make room while it generates.
        jobs = Jobs(options.checkpoints.resolve(), str(choose_device(options.device)), os.environ)
        catalogue = Catalogue(
            live,
            options.checkpoints,
            options.checkpoint,
            lambda folder: load_backend(folder, options.device, options.int8),
            shipped=SHIPPED if options.checkpoints.resolve() == CHECKPOINTS else (),
            is_busy=lambda folder: jobs.report(folder.name).is_active,
        )

        class Server(uvicorn.Server):
            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets)
                if self.started:
                    print(f"Open {listener.url} in a browser. Ctrl-C stops.", flush=True)

            async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
                # Every open page holds a connection; that each is cut now is no error to report.
                logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
                await super().shutdown(sockets)

        closing = threading.Event()
        threading.Thread(target=yield_while, args=(catalogue.is_busy, jobs, closing), daemon=True).start()
        if options.backend == "vertex":
            threading.Thread(target=_say_if_silent, args=(backend,), name="check", daemon=True).start()
        config = uvicorn.Config(
            create_app(
                catalogue,
                connection(options),
                jobs,
                options.texts.resolve(),
                api_key=options.api_key,
                hosts=LOOPBACK_HOSTS if listener.is_loopback else (),
            ),
            log_level="warning",
            timeout_graceful_shutdown=SHUTDOWN_S,
        )
        try:
            listener.listen()
        except ListenError as error:
            raise StartError(str(error)) from error
        for stop in STOP_SIGNALS:
            signal.signal(stop, signal.SIG_IGN)  # the server takes them, and raises them again when it has ended
        try:
            Server(config).run(sockets=[listener.socket])
        finally:
            closing.set()
            jobs.close()
            catalogue.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status."""
    options = parse_options(arguments)
    from gpt.ui.stub_files import WithoutStubFiles

    os.environ.update(GRADIO_ENVIRONMENT)
    sys.meta_path.insert(0, WithoutStubFiles)
    for stop in STOP_SIGNALS:
        signal.signal(stop, _quit)
    try:
        serve(options)
    except StartError as error:
        print(f"app.py: {error}", file=sys.stderr)
        return 1
    return 0


def _quit(_signal: int, _frame: Any) -> NoReturn:
    """Leave at once: while the program loads there is nothing to save, and an import may swallow an exception."""
    os._exit(0)


def _say_if_silent(backend: CompletionBackend) -> None:
    """Say so when what serves at first does not answer; the page is there all the same."""
    from gpt.errors import GPTError
    from gpt.vertex.connection import latency_s

    try:
        latency_s(backend)
    except GPTError as error:
        print(f"app.py: {error}. The page's Models tab offers the checkpoints of this machine.", file=sys.stderr)


def _backend(text: str) -> str:
    if text not in ("local", "vertex"):
        raise argparse.ArgumentTypeError(f"{text!r} is no backend; choose local or vertex")
    return text


def _device(text: str) -> str:
    kind, colon, index = text.partition(":")
    if text not in ("auto", "cpu", "cuda") and not (kind == "cuda" and colon and index.isascii() and index.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is no device; choose auto, cpu, cuda or cuda:N")
    return text


def _port(text: str) -> int:
    port = int(text) if text.isascii() and text.isdigit() else -1
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; give a whole number from 0 to 65535")
    return port


if __name__ == "__main__":
    raise SystemExit(main())
