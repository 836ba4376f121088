"""Emulator: as much of Google Cloud as the project uses, on this machine's loopback.

with Emulator() as emulator:
    emulator.environment()      # what a process needs to take it for the cloud
    emulator.storage.names("rehearsal-models")
    emulator.faults.answer(429, ":streamRawPredict")
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.emulator.call import PROJECT, Resource
from tests.emulator.container import Container
from tests.emulator.credentials import write_account, write_certificate
from tests.emulator.custom_jobs import CustomJobs
from tests.emulator.endpoints import Endpoints
from tests.emulator.faults import Faults
from tests.emulator.google_error import GoogleError
from tests.emulator.models import Models
from tests.emulator.operations import Operations
from tests.emulator.pipeline_jobs import PipelineJobs
from tests.emulator.prediction import Prediction
from tests.emulator.server import Server
from tests.emulator.storage import Storage

LOCATION = "us-central1"
BUCKET = "rehearsal-models"  # there from the beginning
PREDICTOR = (sys.executable, "-m", "gpt.vertex.predictor")
TRAINER = ("python", "-m", "train")
HEALTH_TIMEOUT_S = 120.0


class Emulator:
    """Storage, Model Registry, endpoints, custom jobs and pipeline jobs, from `start` to `stop`.

    Args:
        predictor: what the serving image runs.
        trainer: what the training image runs where a job gives no command.
        port, tls_port: where to listen; 0 takes any that is free.
        health_timeout_s: how long a predictor may take until it is healthy.
    """

    def __init__(
        self,
        predictor: Sequence[str] = PREDICTOR,
        trainer: Sequence[str] = TRAINER,
        port: int = 0,
        tls_port: int = 0,
        health_timeout_s: float = HEALTH_TIMEOUT_S,
    ) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="emulator-")
        folder = Path(self.folder.name)
        self.faults = Faults()
        self.storage = Storage()
        self.storage.create_bucket(BUCKET)
        self.operations = Operations(self.faults)
        self.models = Models(self.operations)
        self.endpoints = Endpoints(self.models, self.operations, self._start_container, health_timeout_s)
        self.prediction = Prediction(self.endpoints)
        self.pipeline_jobs = PipelineJobs(self.operations)
        self.requests: list[str] = []  # "METHOD /path", as they came
        self.predictor = self._predictor = tuple(predictor)  # the first may be exchanged, until `clear`
        environment: dict[str, str] = {}
        self.custom_jobs = CustomJobs(self.operations, environment, trainer)
        rooms = (
            self.storage,
            self.prediction,
            self.operations,
            self.models,
            self.endpoints,
            self.custom_jobs,
            self.pipeline_jobs,
        )
        routes = [Route("/token", _token, methods=["POST"]), Route("/faults", self._fault, methods=["POST"])]
        routes += [entry for room in rooms for entry in room.routes()]
        app = Starlette(routes=routes, exception_handlers={404: _unknown, 405: _unknown})
        certificate, key = write_certificate(folder)
        self._server = Server(
            self._recorded(self.faults.middleware(app)), certificate, key, port, tls_port, self.faults.release
        )
        self.url = f"http://127.0.0.1:{self._server.port}"
        self.endpoints.dedicated_dns = f"127.0.0.1:{self._server.tls_port}"
        self._certificate = certificate
        self._account = write_account(folder, f"{self.url}/token")
        environment.update(self.environment())

    def environment(self) -> dict[str, str]:
        """The variables with which a process takes the emulator for the cloud."""
        return {
            "GOOGLE_CLOUD_PROJECT": PROJECT,
            "GOOGLE_CLOUD_LOCATION": LOCATION,
            "GOOGLE_APPLICATION_CREDENTIALS": str(self._account),
            "VERTEX_API_ENDPOINT": self.url,
            "STORAGE_EMULATOR_HOST": self.url,
            "REQUESTS_CA_BUNDLE": str(self._certificate),
        }

    def start(self) -> Emulator:
        """Serve."""
        self._server.start()
        return self

    def stop(self) -> None:
        """Stop serving, and every process that was started."""
        self._server.stop()
        self.endpoints.clear()
        self.custom_jobs.stop()
        self.folder.cleanup()

    def clear(self) -> None:
        """Forget everything but the first bucket, and stop every process: for the next test."""
        self._server.call(self._clear)

    def _clear(self) -> None:
        for room in (self.faults, self.operations, self.endpoints, self.models, self.custom_jobs, self.pipeline_jobs):
            room.clear()
        self.storage.clear()
        self.storage.create_bucket(BUCKET)
        self.predictor = self._predictor
        self.requests.clear()

    def __enter__(self) -> Emulator:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _start_container(self, model: Resource, environment: dict[str, str], default_route: str) -> Container:
        """The serving image's process for a model; every image is taken for the project's own."""
        container = model["containerSpec"]
        variables = {variable["name"]: variable.get("value", "") for variable in container.get("env", [])}
        return Container(
            self.predictor,
            {**variables, **environment, "STORAGE_EMULATOR_HOST": self.url},
            container.get("healthRoute") or default_route,
            container.get("predictRoute") or f"{default_route}:predict",
            model.get("artifactUri", ""),
        )

    def _recorded(self, app: Any) -> Any:
        async def recording(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                self.requests.append(f"{scope['method']} {scope['path']}")
            await app(scope, receive, send)

        return recording

    async def _fault(self, request: Request) -> Response:
        """Set a fault from outside: POST /faults?kind=answer&status=429&match=streamRawPredict&times=1."""
        query = dict(request.query_params)
        kind = query.pop("kind", "")
        if kind == "kill":
            self.endpoints.kill(query.get("endpoint", ""))
        elif kind == "slow":
            self.faults.slow(query["method"], float(query["seconds"]))
        elif kind in ("answer", "hang", "truncate", "end", "fail", "clear"):
            numbers = ("status", "times", "chunks")
            settings: dict[str, Any] = {key: int(value) if key in numbers else value for key, value in query.items()}
            getattr(self.faults, kind)(**settings)
        else:
            return GoogleError(400, f"kind is {kind!r}").response()
        return JSONResponse({})


async def _token(request: Request) -> Response:
    return JSONResponse({"access_token": "rehearsal", "expires_in": 3600, "token_type": "Bearer"})


async def _unknown(request: Request, error: Exception) -> Response:
    return GoogleError(404, f"The emulator does not speak {request.method} {request.url.path}.").response()
