"""Chunks on the wire."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gpt.completion import Alternative, CompletionChunk, TokenLogprob
from gpt.errors import ModelError
from gpt.vertex.events import decode_chunk, encode_chunk, encode_event, encode_prediction, join_chunks

LOGPROB = TokenLogprob(7, "é", -0.1 - 1e-17, (Alternative(7, "é", -0.1), Alternative(8, "\n", -2.5)))
FIRST = CompletionChunk("é", (7,), (LOGPROB,), None, 2**63 - 1, 3)
LAST = CompletionChunk("", (8, 9), (LOGPROB, LOGPROB), "stop", 2**63 - 1, 3)
PLAIN = CompletionChunk("data: \n\n☃", (1,), (), "length", 0, 1)


@pytest.mark.parametrize("chunk", [FIRST, LAST, PLAIN, CompletionChunk("")])
def test_chunk_comes_out_as_it_went_in(chunk: CompletionChunk) -> None:
    event = encode_event(encode_chunk(chunk))
    assert event.startswith(b"data: ") and event.endswith(b"\n\n") and event.count(b"\n") == 2
    assert decode_chunk(json.loads(event.removeprefix(b"data: "))) == chunk


def test_floats_that_were_whole_numbers_are_taken_back() -> None:
    def floats(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: floats(one) for name, one in value.items()}
        if isinstance(value, list):
            return [floats(one) for one in value]
        return float(value) if isinstance(value, int) else value

    chunk = CompletionChunk("é", (7,), (LOGPROB,), None, 2**53, 3)
    assert decode_chunk(floats(encode_chunk(chunk))) == chunk


def test_logprobs_and_finish_reason_are_there_only_where_they_say_something() -> None:
    assert set(encode_chunk(CompletionChunk("a", (1,)))) == {"text", "token_ids", "seed", "prompt_tokens"}


def test_prediction_is_the_whole_completion() -> None:
    prediction = encode_prediction([FIRST, LAST])
    assert prediction["completion_tokens"] == 3
    assert decode_chunk(prediction) == join_chunks([FIRST, LAST])
    assert join_chunks([FIRST, LAST]) == CompletionChunk(
        "é", (7, 8, 9), (LOGPROB, LOGPROB, LOGPROB), "stop", 2**63 - 1, 3
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"text": None}, "no text"),
        ({"text": ...}, "it has no 'text'"),
        ({"token_ids": 5}, "not iterable"),
        ({"token_ids": [1.5]}, "1.5 is no whole number"),
        ({"token_ids": [True]}, "True is no whole number"),
        ({"seed": "7"}, "'7' is no whole number"),
        ({"seed": float("inf")}, "inf is no whole number"),
        ({"finish_reason": "tired"}, "its finish_reason is 'tired'"),
        ({"logprobs": [{"token_id": 1}]}, "it has no 'text'"),
        ({"logprobs": [{"token_id": 1, "text": "a", "logprob": "x", "alternatives": []}]}, "could not convert"),
    ],
)
def test_piece_that_cannot_be_read_is_named(change: dict[str, Any], words: str) -> None:
    content = {**encode_chunk(PLAIN), **change}
    content = {name: value for name, value in content.items() if value is not ...}
    with pytest.raises(ModelError) as caught:
        decode_chunk(content)
    assert words in str(caught.value) and "of the same version" in str(caught.value)


@pytest.mark.parametrize("content", [None, [], "text", 5])
def test_what_is_no_object_is_no_piece(content: object) -> None:
    with pytest.raises(ModelError):
        decode_chunk(content)
