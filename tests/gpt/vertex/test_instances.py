"""The body of a prediction, and what is refused in it."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from gpt.completion import CompletionRequest
from gpt.errors import RequestError
from gpt.vertex.instances import MAX_INSTANCES, decode_call, encode_call

REQUEST = CompletionRequest(
    prompt="ROMEO:\n\N{SNOWMAN}",
    temperature=0.5,
    top_k=7,
    top_p=0.9,
    min_p=0.1,
    repetition_penalty=1.1,
    presence_penalty=0.2,
    frequency_penalty=-0.3,
    max_new_tokens=12,
    seed=2**63 - 1,
    stop=("\n\n", "END"),
    logprobs=3,
)


def body(parameters: object = None, **content: Any) -> bytes:
    whole = {"instances": [{"prompt": "a"}], **content}
    return json.dumps(whole if parameters is None else {**whole, "parameters": parameters}).encode()


def one(parameters: dict[str, Any]) -> CompletionRequest:
    return decode_call(body(parameters)).requests[0]


def test_example_request_differs_from_the_defaults_everywhere() -> None:
    fields = [field for field in dataclasses.fields(REQUEST) if field.name != "prompt_ids"]  # which stay here
    assert all(getattr(REQUEST, field.name) != field.default for field in fields)


def test_a_prompt_of_tokens_is_refused_in_words() -> None:
    with pytest.raises(RequestError, match="send it as text"):
        encode_call(CompletionRequest(prompt="", prompt_ids=[1]), stream=False)


@pytest.mark.parametrize("request_", [REQUEST, CompletionRequest(prompt="a")])
@pytest.mark.parametrize("stream", [True, False])
def test_request_comes_out_as_it_went_in(request_: CompletionRequest, stream: bool) -> None:
    call = decode_call(json.dumps(encode_call(request_, stream=stream)).encode())
    assert call.requests == (request_,)
    assert call.stream is stream


def test_several_instances_share_their_parameters() -> None:
    call = decode_call(body({"seed": 1, "stop": "x"}, instances=[{"prompt": "a"}, {"prompt": "b"}]))
    assert [request.prompt for request in call.requests] == ["a", "b"]
    assert all(request.seed == 1 and request.stop == ("x",) for request in call.requests)


def test_whole_floats_are_whole_numbers() -> None:
    request = one({"top_k": 5.0, "max_new_tokens": 3.0, "seed": 2.0**53, "logprobs": 0.0, "temperature": 1})
    assert (request.top_k, request.max_new_tokens, request.seed, request.logprobs) == (5, 3, 2**53, 0)
    assert all(isinstance(value, int) for value in (request.top_k, request.max_new_tokens, request.seed))
    assert request.temperature == 1


def test_null_draws_the_seed_and_leaves_out_log_probabilities() -> None:
    request = one({"seed": None, "logprobs": None})
    assert request.seed is None and request.logprobs is None


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"", "the body is no JSON"),
        (b"{", "the body is no JSON"),
        (b"\xff", "the body is no JSON"),
        (b"[" * 100_000, "the body is no JSON"),
        (b'{"instances": [{"prompt": "a"}], "parameters": {"temperature": NaN}}', "it has NaN"),
        (b"[]", "the body is a list; send an object"),
        (b"{}", "instances is missing"),
        (body(instances={}), "instances is an object"),
        (body(instances=[]), "instances is a list of 0"),
        (body(instances=[{"prompt": "a"}] * (MAX_INSTANCES + 1)), f"instances is a list of {MAX_INSTANCES + 1}"),
        (body(instances=["a"]), "instance 0 is a text; send an object"),
        (body(instances=[{"prompt": "a"}, {}]), "instance 1 has no prompt"),
        (body(instances=[{"prompt": "a"}, {"prompt": ""}]), "instance 1: prompt is empty"),
        (body(instances=[{"prompt": "a", "text": "b"}]), "instance 0 has 'text', which is unknown"),
        (
            body(stream=True),
            "the body has 'stream', which belongs in parameters, beside instances; "
            'send {"instances": [...], "parameters": {"stream": true}}',
        ),
        (
            body(instances=[{"prompt": "a", "stream": True}]),
            "instance 0 has 'stream', which belongs in parameters, beside instances; ",
        ),
        (body(stop=["x" * 50]), '"parameters": {"stop": ...}}'),
        (body(instances=[{"prompt": 5}]), "prompt is int; pass a string"),
        (body(instances=[{"prompt": "\ud800"}]), "half a character"),
        (body(signature="x"), "the body has 'signature', which is unknown"),
        (body([]), "parameters is a list"),
        (body({"top_n": 5}), "parameters has 'top_n', which is unknown; the names are temperature, top_k"),
        (body({"prompt": "a"}), "parameters has 'prompt', which is unknown"),
        (body({"x" * 100_000: 5}), "which is unknown"),
        (body({"temperature": None}), "temperature is null"),
        (body({"stop": None}), "stop is null"),
        (body({"temperature": "hot"}), "temperature is 'hot'; give a number from 0 to 10"),
        (body({"temperature": True}), "temperature is True"),
        (body({"temperature": 11}), "temperature is 11"),
        (body({"max_new_tokens": 2.5}), "max_new_tokens is 2.5; give a whole number"),
        (body({"max_new_tokens": 0}), "max_new_tokens is 0"),
        (body({"max_new_tokens": 1e6}), "max_new_tokens is 1000000"),
        (body({"max_new_tokens": "9"}), "max_new_tokens is '9'"),
        (body({"top_k": -1.0}), "top_k is -1"),
        (body({"seed": -1}), "seed is -1"),
        (body({"seed": 2.0**60}), "lose digits"),
        (body({"logprobs": 21}), "logprobs is 21"),
        (body({"stop": [""]}), "stop has ''"),
        (body({"stop": [5]}), "stop has 5"),
        (body({"stop": {"a": 1}}), "stop is an object"),
        (body({"stop": ["x"] * 9}), "stop has 9 strings"),
        (body({"stream": "yes"}), "stream is 'yes'; send true or false"),
        (body({"stream": 1}), "stream is 1"),
        (body({"stream": True}, instances=[{"prompt": "a"}] * 2), "stream is true for 2 instances"),
    ],
    ids=range(44),
)
def test_nonsense_is_refused_with_its_name_and_what_is_allowed(sent: bytes, words: str) -> None:
    with pytest.raises(RequestError) as caught:
        decode_call(sent)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 500
