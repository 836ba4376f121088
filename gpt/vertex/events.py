"""Chunks on the wire: as server-sent events while they are made, and joined as a prediction when all are there.

Both sides of the wire use these functions, so that the same CompletionChunk comes out that went in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from gpt.completion import Alternative, CompletionChunk, FinishReason, TokenLogprob
from gpt.errors import ModelError

COMMENT = b": the text is still to come\n\n"
"""An event of no content, which keeps a connection alive and shows whether anybody still listens."""


def encode_event(content: Mapping[str, Any]) -> bytes:
    """One server-sent event: `data: {json}` and an empty line."""
    return b"data: " + json.dumps(content, allow_nan=False).encode() + b"\n\n"


def encode_chunk(chunk: CompletionChunk) -> dict[str, Any]:
    """A chunk as JSON; log-probabilities only where it has any, the finish reason only in the last one."""
    content: dict[str, Any] = {
        "text": chunk.text,
        "token_ids": list(chunk.token_ids),
        "seed": chunk.seed,
        "prompt_tokens": chunk.prompt_tokens,
    }
    if chunk.logprobs:
        content["logprobs"] = [
            {
                "token_id": token.token_id,
                "text": token.text,
                "logprob": token.logprob,
                "alternatives": [
                    {"token_id": other.token_id, "text": other.text, "logprob": other.logprob}
                    for other in token.alternatives
                ],
            }
            for token in chunk.logprobs
        ]
    if chunk.finish_reason is not None:
        content["finish_reason"] = chunk.finish_reason
    return content


def decode_chunk(content: object) -> CompletionChunk:
    """The chunk that `encode_chunk` wrote; whole numbers may have become floats on the way.

    Raises:
        ModelError: it is none.
    """
    try:
        if not isinstance(content, Mapping):
            raise TypeError(f"it is {type(content).__name__}")
        return CompletionChunk(
            text=_text(content["text"]),
            token_ids=tuple(_integer(token_id) for token_id in content["token_ids"]),
            logprobs=tuple(
                TokenLogprob(
                    _integer(token["token_id"]),
                    _text(token["text"]),
                    float(token["logprob"]),
                    tuple(
                        Alternative(_integer(other["token_id"]), _text(other["text"]), float(other["logprob"]))
                        for other in token["alternatives"]
                    ),
                )
                for token in content.get("logprobs", ())
            ),
            finish_reason=_finish_reason(content.get("finish_reason")),
            seed=_integer(content["seed"]),
            prompt_tokens=_integer(content["prompt_tokens"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise ModelError(
            f"the model's server sent a piece of text that cannot be read ({what}); "
            "see that what runs there is this project's predictor, and of the same version"
        ) from error


def join_chunks(chunks: Sequence[CompletionChunk]) -> CompletionChunk:
    """All chunks of a completion as one, the last of which has the finish reason."""
    last = chunks[-1]
    return CompletionChunk(
        text="".join(chunk.text for chunk in chunks),
        token_ids=tuple(token_id for chunk in chunks for token_id in chunk.token_ids),
        logprobs=tuple(token for chunk in chunks for token in chunk.logprobs),
        finish_reason=last.finish_reason,
        seed=last.seed,
        prompt_tokens=last.prompt_tokens,
    )


def encode_prediction(chunks: Sequence[CompletionChunk]) -> dict[str, Any]:
    """A whole completion as a prediction: `encode_chunk`'s JSON and the number of generated tokens."""
    joined = join_chunks(chunks)
    return {**encode_chunk(joined), "completion_tokens": len(joined.token_ids)}


def _integer(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value % 1:
        raise TypeError(f"{value!r} is no whole number")
    return int(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _finish_reason(value: object) -> FinishReason | None:
    if value in (None, "length", "stop"):
        return value
    raise ValueError(f"its finish_reason is {value!r}")
