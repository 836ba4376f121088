"""Server: an application on loopback ports, with and without TLS, in a thread of its own."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from tests.event_loop import drop_connections

START_S = 30
STOP_S = 2


class Server:
    """`app` at http://127.0.0.1:port and https://127.0.0.1:tls_port; ports of 0 are any that are free.

    Args:
        app: what answers.
        certificate, key: of TLS.
        port, tls_port: to listen on.
        on_stop: called in the server's thread before it stops, to let go of requests that wait.
    """

    def __init__(
        self,
        app: ASGIApp,
        certificate: Path,
        key: Path,
        port: int,
        tls_port: int,
        on_stop: Callable[[], None],
    ) -> None:
        self._listeners = [socket.create_server(("127.0.0.1", number), backlog=128) for number in (port, tls_port)]
        for listener in self._listeners:
            # What is accepted inherits it: else each small reply waits 40 ms for the caller's acknowledgement.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port, self.tls_port = (listener.getsockname()[1] for listener in self._listeners)
        self._on_stop = on_stop
        # What a fault breaks off is meant to; it is no error to log.
        quiet = {"log_level": "critical", "lifespan": "off", "timeout_graceful_shutdown": STOP_S}
        self._servers = [
            uvicorn.Server(uvicorn.Config(app, **quiet)),  # type: ignore[arg-type]
            uvicorn.Server(uvicorn.Config(app, ssl_certfile=certificate, ssl_keyfile=str(key), **quiet)),  # type: ignore[arg-type]
        ]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="emulator", daemon=True)

    def start(self) -> None:
        """Serve; when this returns, both ports answer."""
        self._thread.start()
        pause = threading.Event()
        for _ in range(START_S * 100):
            if all(server.started for server in self._servers):
                return
            pause.wait(0.01)
        raise RuntimeError("the emulator's server does not start")

    def call(self, function: Callable[[], None]) -> None:
        """Call `function` in the server's thread, where everything that answers lives, and wait for it."""

        async def called() -> None:
            function()

        asyncio.run_coroutine_threadsafe(called(), self._loop).result()

    def stop(self) -> None:
        """Stop serving; connections under way have two seconds."""
        self._loop.call_soon_threadsafe(self._on_stop)
        for server in self._servers:
            server.should_exit = True
        self._thread.join()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve_both())
        finally:
            self._loop.close()

    async def _serve_both(self) -> None:
        pairs = zip(self._servers, self._listeners, strict=True)
        await asyncio.gather(*(server.serve(sockets=[listener]) for server, listener in pairs))
        waiting = asyncio.all_tasks() - {asyncio.current_task()}
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        # A connection with TLS is only closed when the caller agrees; none is waited for.
        await drop_connections()
