"""Service: from a request's choices to its answer, whole or streamed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from gpt.api.answers import Answers, usage
from gpt.api.choice import Choice, Piece, Token, open_all
from gpt.api.gate import Gate
from gpt.api.metrics import Metrics
from gpt.api.refusal import refusal
from gpt.backends.swappable import SwappableBackend
from gpt.relay import Relay, disconnected

CLIENT_GONE = 499
"""The status that logs have where the client did not wait for one."""
IDLE_S = 10
COMMENT = b": the text is still to come\n\n"
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Task:
    """What a request asks for, and how it is answered.

    Attributes:
        choices: the texts.
        answers: the interface's objects.
        per_prompt: choices of one prompt, whose tokens are counted once.
        logprobs: whether to give them.
        stream: as events.
        include_usage: give the tokens it took as a stream's last event.
    """

    choices: list[Choice]
    answers: Answers
    per_prompt: int
    logprobs: bool
    stream: bool
    include_usage: bool


class _Count:
    """The tokens that a request took."""

    def __init__(self, task: Task, metrics: Metrics, arrived_at_s: float) -> None:
        self._task, self._metrics, self._arrived_at_s = task, metrics, arrived_at_s
        self._prompts = [0] * len(task.choices)
        self._generated = 0

    def add(self, number: int, piece: Piece) -> None:
        """Take a piece into account."""
        if piece.generated and not self._generated:
            self._metrics.first_token_s.observe(time.monotonic() - self._arrived_at_s)
        self._generated += piece.generated
        self._metrics.tokens.inc(piece.generated)
        if piece.prompt_tokens and not self._prompts[number]:
            self._prompts[number] = piece.prompt_tokens
            if not number % self._task.per_prompt:
                self._metrics.prompt_tokens.inc(piece.prompt_tokens)

    def usage(self) -> dict[str, int]:
        """The usage object."""
        return usage(sum(self._prompts[:: self._task.per_prompt]), self._generated)


class Service:
    """What the routes share.

    Args:
        backend: serves the page too.
        metrics: what is counted.
        gate: how many requests are worked on at once.
    """

    def __init__(self, backend: SwappableBackend, metrics: Metrics, gate: Gate) -> None:
        self._backend, self._metrics, self._gate = backend, metrics, gate

    async def answer(self, task: Task, request: Request) -> Response:
        """Do it; a client that goes takes its work with it.

        Raises:
            Refusal, GPTError: it cannot be done; for a stream, only as long as it has not begun.
        """
        count = _Count(task, self._metrics, time.monotonic())
        gone = asyncio.create_task(disconnected(request))
        work: asyncio.Task[Response] = asyncio.create_task(self._work(task, count))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                return Response(status_code=CLIENT_GONE)
            return work.result()
        finally:
            gone.cancel()
            work.cancel()

    async def _work(self, task: Task, count: _Count) -> Response:
        await self._gate.enter()
        relay: Relay[tuple[int, Piece]] | None = None
        events: _Events | None = None
        try:
            opening = asyncio.create_task(asyncio.to_thread(open_all, self._backend, task.choices))
            try:
                streams = await asyncio.shield(opening)
            except asyncio.CancelledError:
                opening.add_done_callback(_close_opened)
                raise
            relay = Relay(*streams)
            if task.stream:
                events = _Events(self._events(task, count, relay), self._gate, relay)
                return events
            return JSONResponse(await self._whole(task, count, relay))
        finally:
            if events is None:
                if relay is not None:
                    relay.close()
                self._gate.leave()

    async def _whole(self, task: Task, count: _Count, relay: Relay[tuple[int, Piece]]) -> dict[str, Any]:
        pieces: list[list[Piece]] = [[] for _ in task.choices]
        async for item in relay.items(IDLE_S):
            if item is not None:
                count.add(*item)
                pieces[item[0]].append(item[1])
        choices = []
        for number, parts in enumerate(pieces):
            tokens = [token for piece in parts for token in piece.tokens] if task.logprobs else None
            choice = task.answers.whole(number, "".join(piece.text for piece in parts), tokens)
            choices.append({**choice, "finish_reason": parts[-1].finish_reason, "seed": parts[-1].seed})
        return {**task.answers.envelope(chunk=False), "choices": choices, "usage": count.usage()}

    async def _events(self, task: Task, count: _Count, relay: Relay[tuple[int, Piece]]) -> AsyncGenerator[bytes, None]:
        """The pieces as events; an error, which the status can no longer tell, as the last one."""
        answers = task.answers
        envelope = answers.envelope(chunk=True)
        null_usage = {"usage": None} if task.include_usage else {}

        def event(choice: Mapping[str, Any]) -> bytes:
            return _event({**envelope, "choices": [{"finish_reason": None, **choice}], **null_usage})

        try:
            for number in range(len(task.choices)):
                if (opening := answers.opening(number)) is not None:
                    yield event(opening)
            async for item in relay.items(IDLE_S):
                if item is None:
                    yield COMMENT
                    continue
                number, piece = item
                count.add(number, piece)
                tokens: tuple[Token, ...] | None = piece.tokens if task.logprobs else None
                last = {} if piece.finish_reason is None else {"seed": piece.seed}
                yield event({**answers.delta(number, piece, tokens), "finish_reason": piece.finish_reason, **last})
            if task.include_usage:
                yield _event({**envelope, "choices": [], "usage": count.usage()})
            yield DONE
        except Exception as error:
            yield _event(refusal(error).content())


class _Events(StreamingResponse):
    """Server-sent events, whose relay is closed and whose place is given back however they end."""

    def __init__(self, events: AsyncGenerator[bytes, None], gate: Gate, relay: Relay[tuple[int, Piece]]) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        self._events, self._gate, self._relay = events, gate, relay

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them until they end or the client goes."""
        try:
            async with contextlib.aclosing(self._events):
                await super().__call__(scope, receive, send)
        finally:
            self._relay.close()
            self._gate.leave()


def _close_opened(opening: asyncio.Task[Any]) -> None:
    """Free what was queued for a client that went in the meantime."""
    if not opening.cancelled() and opening.exception() is None:
        for pieces in opening.result():
            with contextlib.suppress(StopIteration):
                next(pieces)  # a generator that never began would free nothing
            pieces.close()


def _event(content: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(content, allow_nan=False).encode() + b"\n\n"
