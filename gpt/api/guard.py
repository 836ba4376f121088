"""Guard: who may use the interface, and how much a request may carry; it stands before the routes."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gpt.api.metrics import Metrics
from gpt.api.refusal import Refusal

MAX_BODY_BYTES = 1_500_000
BODY_S = 60


class Guard:
    """Passes on the requests that may come in, with their whole body, and counts every answer.

    A web page elsewhere cannot use it: its requests carry their origin, or ask for this machine by a name that is not
    its own, or are no JSON; and nothing here tells a browser that another origin may read an answer.

    Args:
        app: the routes.
        metrics: counts the answers.
        api_key: what "Authorization: Bearer ..." must have; empty for no key.
        hosts: the names by which this machine may be asked for where there is no key; none means by any.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, api_key: str = "", hosts: Collection[str] = ()) -> None:
        self._app, self._metrics, self._key, self._hosts = app, metrics, api_key, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 499  # as logs have it where the client did not wait for an answer

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            try:
                self.check(scope)
                body = await _body(receive)
            except Refusal as error:
                await error.answer()(scope, receive, sending)
                return
            if body is not None:
                await self._app(scope, _replaying(body, receive), sending)
        finally:
            route = scope.get("route")
            path = getattr(route, "path", "other")
            self._metrics.requests.labels(path, str(status)).inc()

    def check(self, scope: Scope) -> None:
        """Let a request in by its headers.

        Raises:
            Refusal: it may not come in, or its body is no JSON.
        """
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            raise Refusal(403, f"a page of {origin[:99]} may not use this server", code="foreign_origin")
        if self._key:
            given = headers.get("authorization", "").removeprefix("Bearer ").strip()
            if not secrets.compare_digest(given.encode(), self._key.encode()):
                raise Refusal(
                    401,
                    "the API key is missing or wrong; send it as Authorization: Bearer KEY",
                    code="invalid_api_key",
                )
        elif self._hosts and _hostname(host) not in self._hosts:
            raise Refusal(
                403,
                f"this server was asked for as {host[:99]!r}, and answers as {', '.join(self._hosts)}; "
                "start it with an API key, or with a --host of the network, to use other names",
                code="unknown_host",
            )
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if scope["method"] == "POST" and kind != "application/json":
            raise Refusal(415, f"the body is {kind[:99] or 'of no type'}; send JSON, as Content-Type: application/json")


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


async def _body(receive: Receive) -> bytes | None:
    """The request's whole body, up to the limit; None when the client went before it was there."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                body += message.get("body", b"")
                if len(body) > MAX_BODY_BYTES:
                    raise Refusal(413, f"the body is larger than {MAX_BODY_BYTES:,} bytes; send shorter prompts")
                if not message.get("more_body"):
                    return bytes(body)
    except TimeoutError as error:
        raise Refusal(408, f"the body did not arrive within {BODY_S} seconds; send it again") from error


def _replaying(body: bytes, receive: Receive) -> Receive:
    """A receive that gives the body first, and then whatever comes."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
