"""RemoteBackend: completions from a predictor elsewhere, however the way to it is."""

from __future__ import annotations

import contextlib
import json
import random
import threading
from collections.abc import Generator, Mapping
from typing import Any, Protocol

from gpt.completion import BackendInfo, CompletionChunk, CompletionRequest
from gpt.errors import (
    BackendClosedError,
    BrokenStreamError,
    GPTError,
    ModelError,
    QuotaError,
    RejectedError,
    RequestError,
    ResourceNotFoundError,
    ServiceUnavailableError,
)
from gpt.vertex.events import decode_chunk
from gpt.vertex.faults import from_status, status_of, words_of
from gpt.vertex.instances import encode_call

ATTEMPTS = 3
BACKOFF_S = 0.5
"""Before the second attempt, about; twice as long before the third."""
MAX_ANSWER_BYTES = 65_536
"""Of an answer that is no stream, this much is read for its words."""


class Transport(Protocol):
    """A way to a predictor.

    Attributes:
        subject: what it leads to, for messages.
    """

    subject: str

    def connect(self) -> None:
        """Find out what is there, unless it is known.

        Raises:
            VertexError: there is nothing to send a request to.
        """
        ...

    def forget(self) -> None:
        """Find out again what is there before the next request: it may have changed."""
        ...

    def streams(self) -> bool:
        """Whether the text can come as it is made; once connected."""
        ...

    def lines(self, body: bytes) -> Generator[bytes, None, None]:
        """The lines of the answer to a request to stream, without line ends; closing it ends the request."""
        ...

    def predict(self, call: Mapping[str, Any]) -> object:
        """The prediction for the only instance of a request, in one piece."""
        ...

    def info(self) -> BackendInfo:
        """What is there, as far as it is known."""
        ...


class RemoteBackend:
    """Serves completions of the predictor that a transport leads to; a CompletionBackend.

    Where the transport cannot stream, a completion is one chunk. What fails before the first chunk because too much
    is asked at once, or because nothing answers, is tried again, three times in all; what fails later is not, since
    half of the text is out.

    Args:
        transport: the way there. Nothing is sent until the first request.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._closed = threading.Event()

    def stream(self, request: CompletionRequest) -> Generator[CompletionChunk, None, None]:
        """Send the request, wait for its first chunk, and yield them all, as CompletionBackend says.

        Raises:
            RequestError: a value in it is refused there.
            VertexError: it cannot be served; the message says what to do.
            BackendClosedError: the backend was closed.
        """
        for attempt in range(ATTEMPTS):
            if self._closed.is_set():
                raise BackendClosedError("this connection was closed; send the request again to use the current one")
            chunks = self._chunks(request)
            try:
                next(chunks)
            except (QuotaError, ServiceUnavailableError):
                if attempt == ATTEMPTS - 1:
                    raise
                self._closed.wait(BACKOFF_S * 2**attempt * random.uniform(0.8, 1.2))
            else:
                return chunks
        raise AssertionError("the last attempt returns or raises")

    def info(self) -> BackendInfo:
        """What this backend is, as far as it is known."""
        return self._transport.info()

    def close(self) -> None:
        """Let streams under way end with BackendClosedError. Closing twice is fine."""
        self._closed.set()

    def _chunks(self, request: CompletionRequest) -> Generator[CompletionChunk, None, None]:
        """One chunk that `stream` takes once the answer has begun, then the answer's.

        So an error before the first chunk is raised by `stream`, and closing the generator, or forgetting it, ends
        the request.
        """
        begun = False
        try:
            with contextlib.closing(self._answer(request)) as answer:
                for chunk in answer:
                    if not begun:
                        begun = True
                        yield CompletionChunk("")
                    if self._closed.is_set():
                        raise BackendClosedError("this connection was closed before the text was complete")
                    yield chunk
        except RejectedError as error:
            self._look_again()
            raise RequestError(str(error)) from error
        except ResourceNotFoundError:
            self._look_again()
            raise
        except ServiceUnavailableError as error:
            self._transport.forget()
            if begun:
                raise BrokenStreamError(
                    f"{self._transport.subject} broke off before the text was complete; generate again"
                ) from error
            raise
        except GPTError:
            self._transport.forget()
            raise

    def _answer(self, request: CompletionRequest) -> Generator[CompletionChunk, None, None]:
        """The chunks of one attempt."""
        self._transport.connect()
        if self._transport.streams():
            body = json.dumps(encode_call(request, stream=True)).encode()
            yield from read_events(self._transport.lines(body), self._transport.subject)
        else:
            chunk = decode_chunk(self._transport.predict(encode_call(request, stream=False)))
            if chunk.finish_reason is None:
                raise ModelError(f"{self._transport.subject} answered with a text that has no end; its log may say why")
            yield chunk

    def _look_again(self) -> None:
        """Raise what is wrong with the place itself, where that is why a request was refused."""
        self._transport.forget()
        self._transport.connect()


def read_events(lines: Generator[bytes, None, None], subject: str) -> Generator[CompletionChunk, None, None]:
    """The chunks that server-sent events carry.

    The status of the answer is not known here: what is no event is read as the error that it may be.

    Args:
        lines: the answer's, without line ends.
        subject: who answers, for messages.

    Raises:
        VertexError: an error came in place of an event, or beside them.
        ModelError: what came is neither.
        BrokenStreamError: the stream ended before the text.
    """
    finished = False
    other = bytearray()
    with contextlib.closing(lines):
        for line in lines:
            if finished:
                continue  # an answer that is read to its end leaves the connection for the next request
            if line.startswith(b"data:"):
                chunk = _event(line.removeprefix(b"data:").strip(), subject)
                finished = chunk.finish_reason is not None
                yield chunk
            elif not line.startswith(b":") and len(other) < MAX_ANSWER_BYTES:
                other += line + b"\n"
    if finished:
        return
    if words := words_of(bytes(other)):
        if status := status_of(bytes(other)):
            raise from_status(status, words, subject)
        raise ModelError(f"{subject} answered with something else than a text ({words}); see what runs there")
    raise BrokenStreamError(f"{subject} ended the answer before the text was complete; generate again")


def _event(data: bytes, subject: str) -> CompletionChunk:
    """The chunk of one event.

    Raises:
        VertexError: it tells of an error.
        ModelError: it cannot be read.
    """
    if status := status_of(data):
        raise from_status(status, words_of(data), subject)
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{subject} sent an event that is no JSON; see what runs there") from error
    return decode_chunk(content)
