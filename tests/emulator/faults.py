"""Switches for what can go wrong: a test sets one, and the next request or operation that fits meets it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.emulator.google_error import GoogleError

MESSAGES = {
    401: "Request had invalid authentication credentials. Expected OAuth 2 access token.",
    403: "Permission 'aiplatform.endpoints.predict' denied on resource (or it may not exist).",
    404: "The resource is not found.",
    429: "Quota exceeded for aiplatform.googleapis.com/online_prediction_requests_per_base_model.",
    503: "The service is currently unavailable.",
}


class Truncated(Exception):
    """Raised inside a reply: the server drops the connection without ending the reply."""


@dataclass
class Fault:
    """What the next `times` requests meet whose method and path contain `match` ("POST ...:streamRawPredict")."""

    kind: Literal["answer", "hang", "truncate", "end"]
    match: str
    times: int
    status: int = 0
    message: str = ""
    chunks: int = 0


class Faults:
    """The faults that are set; `clear` takes back what was not met."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._slow: dict[str, float] = {}
        self._failing: dict[str, list[GoogleError]] = {}
        self._released = asyncio.Event()

    def answer(self, status: int, match: str = "", times: int = 1, message: str | None = None) -> None:
        """Refuse the next requests with this HTTP status, in the form of a Google error."""
        text = message or MESSAGES.get(status, "An error.")
        self._faults.append(Fault("answer", match, times, status=status, message=text))

    def hang(self, match: str = "", times: int = 1) -> None:
        """Take the next requests and never answer."""
        self._faults.append(Fault("hang", match, times))

    def truncate(self, chunks: int, match: str = ":streamRawPredict", times: int = 1) -> None:
        """Drop the connection of the next replies after so many pieces, as a network that breaks."""
        self._faults.append(Fault("truncate", match, times, chunks=chunks))

    def end(self, chunks: int, match: str = ":streamRawPredict", times: int = 1) -> None:
        """End the next replies properly after so many pieces, as a proxy whose time is up."""
        self._faults.append(Fault("end", match, times, chunks=chunks))

    def slow(self, method: str, seconds: float) -> None:
        """Let operations of this method ("DeployModel", "UploadModel", ...) take longer until `clear`."""
        self._slow[method] = seconds

    def fail(self, method: str, status: int = 500, message: str = "An internal error has occurred.") -> None:
        """Let the next operation of this method be accepted, and fail."""
        self._failing.setdefault(method, []).append(GoogleError(status, message))

    def clear(self) -> None:
        """Take every switch back; requests that hang go on hanging until their callers leave."""
        self._faults.clear()
        self._slow.clear()
        self._failing.clear()

    def operation(self, method: str) -> tuple[float, GoogleError | None]:
        """How many seconds a new operation shall take, and how it shall fail, if it shall."""
        failures = self._failing.get(method)
        return self._slow.get(method, 0), failures.pop(0) if failures else None

    def release(self) -> None:
        """Let go of what hangs: the emulator ends. Called in the server's thread."""
        self._released.set()

    def take(self, request: str) -> Fault | None:
        """The fault that this request meets, if any; it counts as met."""
        for fault in self._faults:
            if fault.match in request:
                fault.times -= 1
                if fault.times == 0:
                    self._faults.remove(fault)
                return fault
        return None

    def middleware(self, app: ASGIApp) -> ASGIApp:
        """`app` with the faults before it."""

        async def faulty(scope: Scope, receive: Receive, send: Send) -> None:
            fault = self.take(f"{scope['method']} {scope['path']}") if scope["type"] == "http" else None
            if fault is None:
                await app(scope, receive, send)
            elif fault.kind == "answer":
                await GoogleError(fault.status, fault.message).response()(scope, receive, send)
            elif fault.kind == "hang":
                await self._hang(receive)
            else:
                await _shorten(app, fault, scope, receive, send)

        return faulty

    async def _hang(self, receive: Receive) -> None:
        async def gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        waits = [asyncio.ensure_future(gone()), asyncio.ensure_future(self._released.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()


async def _shorten(app: ASGIApp, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
    """Pass on so many pieces of the reply's body, then break it off or end it."""
    left = fault.chunks

    async def shortened(message: Message) -> None:
        nonlocal left
        if message["type"] != "http.response.body":
            await send(message)
        elif left > 0:
            left -= 1
            await send(message)
        elif fault.kind == "truncate":
            raise Truncated
        elif left == 0:
            left = -1
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    await app(scope, receive, shortened)
