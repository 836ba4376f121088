"""The predictor's server: uvicorn, which on SIGTERM finishes what is being written before it ends."""

from __future__ import annotations

import time
from types import FrameType

import uvicorn

from gpt.vertex.service import Service, create_app

CUT_S = 1
"""Seconds after which connections that are still open when the server ends are cut."""


class Server(uvicorn.Server):
    """Serves until SIGTERM or SIGINT, and through it.

    After the first signal new requests are refused and health is 503, while texts under way go on to their end, for
    `drain_s` seconds at most. A second signal ends it at once.

    Args:
        service: what is served.
        health_route, predict_route: the paths.
        drain_s: seconds.
    """

    def __init__(self, service: Service, health_route: str, predict_route: str, *, drain_s: float) -> None:
        app = create_app(service, health_route, predict_route)
        super().__init__(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=CUT_S))
        self._service = service
        self._drain_s = drain_s
        self._stop_at_s = 0.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal; uvicorn's own would close the door before the last text is out."""
        if self._service.stopping:
            self.should_exit = self.force_exit = True
        else:
            self._stop_at_s = time.monotonic() + self._drain_s
            self._service.stopping = True

    async def on_tick(self, counter: int) -> bool:
        """Whether to end now; called ten times a second."""
        if self._service.stopping and (not self._service.active or time.monotonic() >= self._stop_at_s):
            self.should_exit = True
        return await super().on_tick(counter)
