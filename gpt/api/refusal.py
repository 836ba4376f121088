"""Refusals: every error as OpenAI's interface gives it, {"error": {"message", "type", "param", "code"}}."""

from __future__ import annotations

import logging
from typing import Any

from fastapi.responses import JSONResponse, Response

from gpt.errors import (
    BackendClosedError,
    BackendError,
    GPTError,
    QueueFullError,
    RequestError,
    TokenizerError,
    VertexError,
    VertexTimeoutError,
)

logger = logging.getLogger(__name__)

MAX_MESSAGE = 500
RETRY_S = 1
BROKEN = "the server failed at this request; its log says why"
TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "server_error",
    502: "server_error",
    503: "server_error",
    504: "server_error",
}
NAMES = {"max_new_tokens": "max_tokens", "prompt_ids": "prompt"}
"""What the interface calls differently from a CompletionRequest."""


class Refusal(Exception):
    """A request that is answered with an error's status and words."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code

    def content(self) -> dict[str, Any]:
        """The error object."""
        message = _valid(self.message if len(self.message) <= MAX_MESSAGE else f"{self.message[:MAX_MESSAGE]}…")
        param = None if self.param is None else _valid(self.param[:MAX_MESSAGE])
        kind = TYPES.get(self.status, "invalid_request_error")
        return {"error": {"message": message, "type": kind, "param": param, "code": self.code}}

    def answer(self) -> Response:
        """The response."""
        headers = {"Retry-After": str(RETRY_S)} if self.status in (429, 503) else None
        return JSONResponse(self.content(), status_code=self.status, headers=headers)


def refusal(error: Exception) -> Refusal:
    """How the error is answered; a failure of the server's own is logged."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, TokenizerError):
        return Refusal(400, str(error), "prompt")
    if isinstance(error, RequestError):
        message = str(error)
        name = message.removeprefix("the ").partition(" ")[0]
        if name in NAMES:
            message = message.replace(name, NAMES[name], 1)
            name = NAMES[name]
        return Refusal(400, message, name if name.isidentifier() else None)
    if isinstance(error, QueueFullError):
        return Refusal(429, str(error), code="rate_limit_exceeded")
    if isinstance(error, BackendClosedError):
        return Refusal(503, str(error))
    if isinstance(error, VertexError):
        return Refusal(504 if isinstance(error, VertexTimeoutError) else 502, str(error))
    logger.error("a request failed", exc_info=error)
    return Refusal(500, str(error) if isinstance(error, GPTError | BackendError) else BROKEN)


def _valid(text: str) -> str:
    """The text with halves of characters, which no answer could carry, as escapes."""
    return text.encode(errors="backslashreplace").decode()
