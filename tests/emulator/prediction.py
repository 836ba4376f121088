"""Online prediction: what is sent to an endpoint reaches the container of a deployed model."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import httpx
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.emulator.call import Resource, read_call
from tests.emulator.endpoints import Endpoints
from tests.emulator.google_error import GoogleError

SHARED_LIMIT, DEDICATED_LIMIT = 1_500_000, 10_000_000  # bytes of a request
SHARED_TIMEOUT_S, DEDICATED_TIMEOUT_S = 60, 3600
PASSED_ON = ("content-type", "accept")


class Prediction:
    """The three ways to ask an endpoint.

    On a dedicated endpoint only through its own name, which is where the server with TLS listens; on a shared one
    only through the control plane's.
    """

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self._client = httpx.AsyncClient(timeout=None, limits=httpx.Limits(max_keepalive_connections=0))

    def routes(self) -> list[Route]:
        path = "/{version:str}/projects/{project}/locations/{location}/endpoints/{endpoint}:"
        handlers = {"predict": self._predict, "rawPredict": self._raw_predict, "streamRawPredict": self._raw_predict}
        return [Route(path + verb, handle, methods=["POST"]) for verb, handle in handlers.items()]

    async def close(self) -> None:
        await self._client.aclose()

    async def _predict(self, request: Request) -> Response:
        """Wrap the container's predictions as the service does, its errors too."""
        try:
            endpoint = await self._endpoint(request)
            body = json.loads(await request.body())
            if not isinstance(body, dict) or not isinstance(body.get("instances"), list):
                raise GoogleError(400, "Invalid JSON payload received. instances must be a list.")
            sent = {key: value for key, value in body.items() if key in ("instances", "parameters")}
            deployed, answer = await self._send(endpoint, request, json.dumps(sent).encode())
            try:
                content = await answer.aread()
            except httpx.TransportError as error:
                raise _unreachable(error) from error
            finally:
                await answer.aclose()
            if answer.status_code != 200:
                raise GoogleError(answer.status_code, content.decode(errors="replace"))
            try:
                predictions = json.loads(content)
            except ValueError as error:
                raise GoogleError(500, f"The prediction is not JSON: {content[:200]!r}") from error
        except GoogleError as error:
            return error.response()
        about = {
            "deployedModelId": deployed["id"],
            "model": deployed["model"],
            "modelDisplayName": deployed["displayName"],
            "modelVersionId": deployed["modelVersionId"],
        }
        return JSONResponse({**predictions, **about})

    async def _raw_predict(self, request: Request) -> Response:
        """Pass request and reply through as they are, piece by piece."""
        try:
            endpoint = await self._endpoint(request)
            deployed, answer = await self._send(endpoint, request, await request.body())
        except GoogleError as error:
            return error.response()
        headers = {
            "Content-Type": answer.headers.get("content-type", "application/octet-stream"),
            "X-Vertex-AI-Endpoint-Id": endpoint["name"].rpartition("/")[2],
            "X-Vertex-AI-Deployed-Model-Id": deployed["id"],
            "X-Vertex-AI-Model": deployed["model"],
            "X-Vertex-AI-Model-Version-Id": deployed["modelVersionId"],
        }
        return StreamingResponse(_pieces(answer), answer.status_code, headers, background=BackgroundTask(answer.aclose))

    async def _endpoint(self, request: Request) -> Resource:
        """The endpoint that the request names; GoogleError where it is not asked there, or asked too much."""
        call = await read_call(request)
        endpoint = self._endpoints.find(f"{call.parent}/endpoints/{call.ids['endpoint']}")
        dedicated = bool(endpoint.get("dedicatedEndpointEnabled"))
        if dedicated and request.url.scheme != "https":
            raise GoogleError(
                400,
                f"Endpoint {endpoint['name']} is dedicated and answers only at {endpoint['dedicatedEndpointDns']}.",
                "FAILED_PRECONDITION",
            )
        if not dedicated and request.url.scheme == "https":
            raise GoogleError(404, f"Endpoint {endpoint['name']} has no name of its own.")
        limit = DEDICATED_LIMIT if dedicated else SHARED_LIMIT
        if len(await request.body()) > limit:
            raise GoogleError(400, f"Request payload size exceeds the limit: {limit} bytes.")
        return endpoint

    async def _send(self, endpoint: Resource, request: Request, content: bytes) -> tuple[Resource, httpx.Response]:
        """The deployed model that was chosen, and its container's reply, of which only the head is read."""
        deployed = self._endpoints.choose(endpoint)
        container = self._endpoints.containers[deployed["id"]]
        headers = {name: request.headers[name] for name in PASSED_ON if name in request.headers}
        timeout_s = float(SHARED_TIMEOUT_S)
        if endpoint.get("dedicatedEndpointEnabled"):
            timeout = endpoint.get("clientConnectionConfig", {}).get("inferenceTimeout", f"{DEDICATED_TIMEOUT_S}s")
            timeout_s = float(str(timeout).removesuffix("s"))
        outgoing = self._client.build_request(
            "POST", container.predict_url, content=content, headers=headers, timeout=httpx.Timeout(timeout_s)
        )
        try:
            return deployed, await self._client.send(outgoing, stream=True)
        except httpx.TimeoutException as error:
            raise GoogleError(504, "The prediction did not end in time.") from error
        except httpx.TransportError as error:
            raise _unreachable(error) from error


async def _pieces(answer: httpx.Response) -> AsyncIterator[bytes]:
    """The reply's body as it comes; closed with the caller's connection, which tells the container to stop."""
    try:
        async for piece in answer.aiter_raw():
            yield piece
    finally:
        await answer.aclose()


def _unreachable(error: Exception) -> GoogleError:
    return GoogleError(503, f"Prediction could not be completed: the model server is unreachable ({error}).")
