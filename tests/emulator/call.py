"""Call: one request to the control plane, and the routes that hand it to whoever answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.emulator.google_error import GoogleError

PROJECT = "rehearsal"
PROJECT_NUMBER = "123456789012"  # resource names carry it, as the service's do, whatever the caller wrote

Resource = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """What a caller asks.

    Attributes:
        location: for example "us-central1".
        ids: the variable parts of the path.
        query, body: as sent.
    """

    location: str
    ids: dict[str, str]
    query: dict[str, str]
    body: Resource

    @property
    def parent(self) -> str:
        """The location's full name."""
        return f"projects/{PROJECT_NUMBER}/locations/{self.location}"


Handler = Callable[[Call], Resource]


def route(method: str, path: str, handle: Handler) -> Route:
    """A route of the control plane; `path` is below the location: "endpoints/{endpoint}:deployModel"."""

    async def answer(request: Request) -> Response:
        try:
            return JSONResponse(handle(await read_call(request)))
        except GoogleError as error:
            return error.response()

    # The SDK asks for operations under /ui, for all else under /v1.
    return Route("/{version:str}/projects/{project}/locations/{location}/" + path, answer, methods=[method])


async def read_call(request: Request) -> Call:
    """The call in a request.

    Raises:
        GoogleError: the body is no JSON, or the project is not the emulator's.
    """
    ids = {name: value for name, value in request.path_params.items() if name not in ("version", "project", "location")}
    project = request.path_params["project"]
    if project not in (PROJECT, PROJECT_NUMBER):
        raise GoogleError(403, f"Permission denied on resource project {project}.")
    text = await request.body()
    try:
        body = json.loads(text) if text else {}
    except ValueError as error:
        raise GoogleError(400, f"Invalid JSON payload received: {error}") from error
    query = {name: value for name, value in request.query_params.items() if not name.startswith("$")}
    return Call(request.path_params["location"], ids, query, body)


def now() -> str:
    """This moment, as the service writes it."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
