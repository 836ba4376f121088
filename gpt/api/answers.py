"""Answers: the objects of OpenAI's two interfaces, whole and as the chunks of a stream."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any, Protocol

from gpt.api.choice import Piece, Token

LOWEST_LOGPROB = -9999.0
"""Stands for minus infinity, which JSON lacks."""


class Answers(Protocol):
    """How an interface gives its choices."""

    def whole(self, number: int, text: str, tokens: Sequence[Token] | None) -> dict[str, Any]:
        """A complete choice, but for its finish_reason."""
        ...

    def delta(self, number: int, piece: Piece, tokens: Sequence[Token] | None) -> dict[str, Any]:
        """A piece of one, but for its finish_reason."""
        ...

    def opening(self, number: int) -> dict[str, Any] | None:
        """What a stream has of a choice before its first piece."""
        ...

    def envelope(self, *, chunk: bool) -> dict[str, Any]:
        """The object around the choices."""
        ...


class _Envelope:
    def __init__(self, prefix: str, model: str) -> None:
        self._fields = {"id": f"{prefix}-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}


class CompletionAnswers(_Envelope):
    """Those of /v1/completions."""

    def __init__(self, model: str) -> None:
        super().__init__("cmpl", model)

    def envelope(self, *, chunk: bool) -> dict[str, Any]:
        """The object around the choices."""
        return {**self._fields, "object": "text_completion"}

    def opening(self, number: int) -> dict[str, Any] | None:
        """Nothing comes before the text."""
        return None

    def whole(self, number: int, text: str, tokens: Sequence[Token] | None) -> dict[str, Any]:
        """A complete choice."""
        return {"index": number, "text": text, "logprobs": None if tokens is None else _columns(tokens)}

    def delta(self, number: int, piece: Piece, tokens: Sequence[Token] | None) -> dict[str, Any]:
        """A piece of one."""
        return self.whole(number, piece.text, tokens)


class ChatAnswers(_Envelope):
    """Those of /v1/chat/completions."""

    def __init__(self, model: str) -> None:
        super().__init__("chatcmpl", model)

    def envelope(self, *, chunk: bool) -> dict[str, Any]:
        """The object around the choices."""
        return {**self._fields, "object": "chat.completion.chunk" if chunk else "chat.completion"}

    def opening(self, number: int) -> dict[str, Any] | None:
        """The role."""
        return {"index": number, "delta": {"role": "assistant", "content": ""}, "logprobs": None}

    def whole(self, number: int, text: str, tokens: Sequence[Token] | None) -> dict[str, Any]:
        """A complete choice."""
        message = {"role": "assistant", "content": text, "refusal": None}
        return {"index": number, "message": message, "logprobs": _content(tokens)}

    def delta(self, number: int, piece: Piece, tokens: Sequence[Token] | None) -> dict[str, Any]:
        """A piece of one."""
        delta = {"content": piece.text} if piece.text else {}
        return {"index": number, "delta": delta, "logprobs": _content(tokens)}


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """The tokens that a request took."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def _columns(tokens: Sequence[Token]) -> dict[str, Any]:
    """Log-probabilities as /v1/completions has them.

    The token itself stands among the most probable ones; the first token of a prompt has null for both.
    """
    top: list[dict[str, float] | None] = []
    for token in tokens:
        # Tokens that are parts of characters may look alike: the more probable one stands for them.
        found = {one.text: _finite(one.logprob) for one in reversed(token.alternatives)}
        if token.logprob is not None:
            found.setdefault(token.text, _finite(token.logprob))
        top.append(None if token.logprob is None else found)
    return {
        "tokens": [token.text for token in tokens],
        "token_logprobs": [None if token.logprob is None else _finite(token.logprob) for token in tokens],
        "top_logprobs": top,
        "text_offset": [token.offset for token in tokens],
    }


def _content(tokens: Sequence[Token] | None) -> dict[str, Any] | None:
    """Log-probabilities as /v1/chat/completions has them."""
    if tokens is None:
        return None

    def entry(text: str, logprob: float) -> dict[str, Any]:
        return {"token": text, "logprob": _finite(logprob), "bytes": list(text.encode())}

    return {
        "content": [
            {
                **entry(token.text, token.logprob or 0.0),
                "top_logprobs": [entry(one.text, one.logprob) for one in token.alternatives],
            }
            for token in tokens
        ],
        "refusal": None,
    }


def _finite(logprob: float) -> float:
    return max(logprob, LOWEST_LOGPROB)
