"""The predictor's two routes: health, and predictions of a backend that may still be loading."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from gpt.completion import CompletionBackend, CompletionChunk, CompletionRequest
from gpt.errors import BackendClosedError, GPTError, QueueFullError, RequestError, TokenizerError
from gpt.relay import Relay, disconnected
from gpt.vertex.events import COMMENT, encode_chunk, encode_event, encode_prediction
from gpt.vertex.instances import Call, decode_call, naming_instance

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 1_500_000
"""The smaller of Vertex AI's two limits, that of a shared endpoint: what passes here passes at every endpoint."""
DISCARDED_BYTES = 10 * MAX_BODY_BYTES
"""Of a body that is too large, this much is still read: a client listens only when it has sent all."""
CLIENT_GONE = 499
"""The status that logs have where the client did not wait for one."""
BODY_S = 60
HEARTBEAT_S = 10
MAX_MESSAGE = 500
STATUSES = {
    400: "INVALID_ARGUMENT",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    408: "DEADLINE_EXCEEDED",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}
BROKEN = "the model's server failed; its log says why"


class Refusal(Exception):
    """A request that is answered with an error's status and words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class Service:
    """What the routes share.

    Attributes:
        backend: None until the model is loaded.
        stopping: whether new requests are refused because the process ends.
        active: predictions under way.
    """

    def __init__(self) -> None:
        self.backend: CompletionBackend | None = None
        self.stopping = False
        self.active = 0

    def health(self) -> Response:
        """200 with what the model is, once it is loaded; 503 before, and while the process ends."""
        if self.backend is None or self.stopping:
            return JSONResponse({"status": "stopping" if self.stopping else "loading"}, status_code=503)
        info = asdict(self.backend.info())
        return JSONResponse({"status": "ok", **info, "nats_per_character": dict(info["nats_per_character"])})

    async def predict(self, request: Request) -> Response:
        """The predictions for the body's instances, or the events of one while it is made."""
        record = _Record(request)
        events: _Events | None = None
        self.active += 1
        try:
            call, relay = await self._begin(request, record)
            if call.stream:
                events = _Events(self._events(relay, record), self, relay)
                return events
            return await self._predictions(call, relay, request, record)
        except Exception as error:
            refusal = _refusal(error)
            record.end("failed" if refusal.status == 500 else "refused", refusal.status)
            return _answer(refusal)
        finally:
            if events is None:
                self.active -= 1

    async def _begin(self, request: Request, record: _Record) -> tuple[Call, Relay[tuple[int, CompletionChunk]]]:
        """Read and check the request, and begin with what it asks for."""
        if self.stopping:
            raise Refusal(503, "this server is stopping; send the request again, to another replica")
        if self.backend is None:
            raise Refusal(503, "the model is still loading; try again in a moment")
        call = decode_call(await _body(request))
        record.fields |= {"instances": len(call.requests), "stream": call.stream}
        streams = await asyncio.to_thread(_open, self.backend, call.requests)
        return call, Relay(_in_order(streams))

    async def _predictions(
        self, call: Call, relay: Relay[tuple[int, CompletionChunk]], request: Request, record: _Record
    ) -> Response:
        """All predictions together; none when the client goes before they are made."""
        chunks: list[list[CompletionChunk]] = [[] for _ in call.requests]

        async def collect() -> None:
            async for item in relay.items(HEARTBEAT_S):
                if item is not None:
                    chunks[item[0]].append(item[1])
                    record.count(item[1])

        work, gone = asyncio.create_task(collect()), asyncio.create_task(disconnected(request))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                record.end("disconnected", CLIENT_GONE)
                return Response(status_code=CLIENT_GONE)
            work.result()
        finally:
            work.cancel()
            gone.cancel()
            relay.close()
        record.end("complete", 200)
        return JSONResponse({"predictions": [encode_prediction(one) for one in chunks]})

    async def _events(self, relay: Relay[tuple[int, CompletionChunk]], record: _Record) -> AsyncGenerator[bytes, None]:
        """The chunks as events; an error, which the status can no longer tell, as the last one."""
        outcome = "disconnected"
        try:
            async for item in relay.items(HEARTBEAT_S):
                if item is None:
                    yield COMMENT
                else:
                    record.count(item[1])
                    yield encode_event(encode_chunk(item[1]))
            outcome = "complete"
        except Exception as error:
            outcome = "failed"
            yield encode_event(_error(_refusal(error)))
        finally:
            record.end(outcome, 200)


class _Events(StreamingResponse):
    """Server-sent events, whose relay is closed and whose prediction is counted off however they end."""

    def __init__(
        self, events: AsyncGenerator[bytes, None], service: Service, relay: Relay[tuple[int, CompletionChunk]]
    ) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        self._events, self._service, self._relay = events, service, relay

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them until they end or the client goes."""
        try:
            async with contextlib.aclosing(self._events):
                await super().__call__(scope, receive, send)
        finally:
            self._service.active -= 1
            self._relay.close()


class _Record:
    """The log's line about one prediction; of the texts it has only the number of tokens."""

    def __init__(self, request: Request) -> None:
        self.fields: dict[str, Any] = {}
        self._request = request
        self._started_at = time.monotonic()
        self._completion_tokens = 0

    def count(self, chunk: CompletionChunk) -> None:
        """Take a chunk's tokens into account."""
        self._completion_tokens += len(chunk.token_ids)

    def end(self, outcome: str, status: int) -> None:
        """Write the line."""
        http = {
            "requestMethod": self._request.method,
            "requestUrl": self._request.url.path,
            "status": status,
            "latency": f"{time.monotonic() - self._started_at:.3f}s",
        }
        fields = {**self.fields, "outcome": outcome, "completion_tokens": self._completion_tokens, "httpRequest": http}
        logger.log(logging.ERROR if status >= 500 else logging.INFO, "prediction %s", outcome, extra={"fields": fields})


def create_app(service: Service, health_route: str, predict_route: str) -> FastAPI:
    """The web application."""
    # FastAPI's own pages about its routes take their scripts from other hosts.
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_api_route(health_route, service.health, methods=["GET"], response_model=None)
    app.add_api_route(predict_route, service.predict, methods=["POST"], response_model=None)

    @app.exception_handler(HTTPException)
    async def refuse(request: Request, error: HTTPException) -> Response:
        routes = f"GET {health_route} and POST {predict_route}"
        return _answer(
            Refusal(error.status_code, f"there is no {request.method} {request.url.path[:99]} here; there are {routes}")
        )

    return app


async def _body(request: Request) -> bytes:
    """The request's body, up to the limit."""
    too_large = Refusal(
        413, f"the body is larger than {MAX_BODY_BYTES:,} bytes; send shorter prompts, or fewer instances at once"
    )
    if int(request.headers.get("content-length") or 0) > DISCARDED_BYTES:
        raise too_large
    body, size = bytearray(), 0
    try:
        async with asyncio.timeout(BODY_S):
            async for block in request.stream():
                size += len(block)
                if size > DISCARDED_BYTES:
                    raise too_large
                if size <= MAX_BODY_BYTES:
                    body += block
    except TimeoutError as error:
        raise Refusal(408, f"the body did not arrive within {BODY_S} seconds; send it again") from error
    if size > MAX_BODY_BYTES:
        raise too_large
    return bytes(body)


def _open(
    backend: CompletionBackend, requests: Sequence[CompletionRequest]
) -> list[Generator[CompletionChunk, None, None]]:
    """Queue all requests, so that they run together; or none."""
    streams: list[Generator[CompletionChunk, None, None]] = []
    try:
        for number, request in enumerate(requests):
            with naming_instance(number, len(requests)):
                streams.append(backend.stream(request))
    except BaseException:
        for stream in streams:
            stream.close()
        raise
    return streams


def _in_order(
    streams: Sequence[Generator[CompletionChunk, None, None]],
) -> Generator[tuple[int, CompletionChunk], None, None]:
    """Every chunk with its stream's number: those of the first, then those of the second, and so on."""
    try:
        for number, stream in enumerate(streams):
            for chunk in stream:
                yield number, chunk
    finally:
        for stream in streams:
            stream.close()


def _refusal(error: Exception) -> Refusal:
    """How the error is answered; a failure of the server's own is logged."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, (RequestError, TokenizerError)):
        return Refusal(400, str(error))
    if isinstance(error, QueueFullError):
        return Refusal(429, str(error))
    if isinstance(error, BackendClosedError):
        return Refusal(503, str(error))
    if isinstance(error, ClientDisconnect):
        return Refusal(CLIENT_GONE, "the client has gone")
    logger.error("a prediction failed", exc_info=error)
    return Refusal(500, str(error) if isinstance(error, GPTError) else BROKEN)


def _error(refusal: Refusal) -> dict[str, Mapping[str, Any]]:
    """The error in the shape that Google's services give theirs."""
    message = refusal.message if len(refusal.message) <= MAX_MESSAGE else f"{refusal.message[:MAX_MESSAGE]}…"
    status = STATUSES.get(refusal.status, "UNKNOWN")
    return {"error": {"code": refusal.status, "message": message, "status": status}}


def _answer(refusal: Refusal) -> Response:
    headers = {"Retry-After": "1"} if refusal.status in (429, 503) else None
    return JSONResponse(_error(refusal), status_code=refusal.status, headers=headers)
