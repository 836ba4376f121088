"""Container: a deployed model's predictor, as a process on this machine."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

from tests.emulator.google_error import GoogleError

ROOT = Path(__file__).resolve().parents[2]
POLL_S = 0.1
STOP_S = 10


class Container:
    """A process that keeps the container contract: AIP_* in its environment, health and predict over HTTP.

    Args:
        command: what the image would run.
        environment: beside that of the emulator; AIP_HTTP_PORT is added.
        health_route, predict_route: paths.
        artifact_uri: a bucket's folder, or one of this machine.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: dict[str, str],
        health_route: str,
        predict_route: str,
        artifact_uri: str,
    ) -> None:
        self.port = free_port()
        self.base_url = f"http://127.0.0.1:{self.port}"
        self.predict_url = self.base_url + predict_route
        self._health_url = self.base_url + health_route
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  (closed in stop)
        contract = {
            "AIP_HTTP_PORT": str(self.port),
            "AIP_HEALTH_ROUTE": health_route,
            "AIP_PREDICT_ROUTE": predict_route,
            "AIP_STORAGE_URI": artifact_uri,
        }
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment, **contract},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def log(self) -> str:
        """What the process has written."""
        if self._log.closed:
            return ""
        # By position: the process writes to the same open file, whose place must stay at its end.
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode(errors="replace")

    async def healthy(self, timeout_s: float) -> None:
        """Wait until the health route answers 200.

        Raises:
            GoogleError: the process ended, or the time is over.
        """
        ends = time.monotonic() + timeout_s
        async with httpx.AsyncClient(timeout=5) as client:
            while time.monotonic() < ends:
                if self.process.poll() is not None:
                    raise GoogleError(
                        412, f"Model server terminated: model server container terminated: {self.log()[-1500:]}"
                    )
                try:
                    if (await client.get(self._health_url)).status_code == 200:
                        return
                except httpx.TransportError:
                    pass  # it does not listen yet
                await asyncio.sleep(POLL_S)
        raise GoogleError(412, f"Model server never became ready. {self.log()[-1500:]}")

    def kill(self) -> None:
        """End it at once, as a machine that fails."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End it as the service does: SIGTERM first."""
        self.process.terminate()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._log.close()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
