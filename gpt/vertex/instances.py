"""The body of a prediction: instances and parameters as JSON, to and from completion requests.

    {"instances": [{"prompt": "ROMEO:"}], "parameters": {"temperature": 0.8, "max_new_tokens": 40}}

Vertex AI passes numbers through a format that knows floats only, so whole ones are taken back: 40.0 means 40.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gpt.completion import CompletionRequest
from gpt.errors import RequestError, TokenizerError

MAX_INSTANCES = 32
MAX_WHOLE_FLOAT = 2**53
"""Whole numbers above this may have lost digits as floats."""

_FIELDS = {
    field.name: field for field in dataclasses.fields(CompletionRequest) if field.name not in ("prompt", "prompt_ids")
}
_PARAMETERS = (*_FIELDS, "stream")
_INTEGERS = ("top_k", "max_new_tokens", "seed", "logprobs")
_OPTIONAL = ("seed", "logprobs")


@dataclass(frozen=True)
class Call:
    """What one body asks for.

    Attributes:
        requests: one an instance, all with the same parameters.
        stream: whether to send the text as it is made; then there is one request.
    """

    requests: tuple[CompletionRequest, ...]
    stream: bool


def encode_call(request: CompletionRequest, *, stream: bool) -> dict[str, Any]:
    """The body that asks for one completion: what differs from the defaults.

    Raises:
        RequestError: the prompt is tokens.
    """
    if request.prompt_ids is not None:
        raise RequestError("prompt is a list of tokens, which a model elsewhere does not take; send it as text")
    parameters: dict[str, Any] = {
        name: list(value) if name == "stop" else value
        for name, field in _FIELDS.items()
        if (value := getattr(request, name)) != field.default
    }
    if stream:
        parameters["stream"] = True
    return {"instances": [{"prompt": request.prompt}], "parameters": parameters}


def decode_call(body: bytes) -> Call:
    """What the body asks for.

    Raises:
        RequestError: it is no such body, or a value in it is out of range; the message names it and what is allowed.
    """
    try:
        content = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise RequestError(
            f'the body is no JSON ({error}); send {{"instances": [{{"prompt": "..."}}], "parameters": {{...}}}}'
        ) from error
    if not isinstance(content, dict):
        raise RequestError(f"the body is {_kind(content)}; send an object with instances and parameters")
    _refuse_unknown("the body", content, ("instances", "parameters"))
    instances = content.get("instances")
    if not isinstance(instances, list) or not 1 <= len(instances) <= MAX_INSTANCES:
        given = f"a list of {len(instances)}" if isinstance(instances, list) else _kind(instances)
        raise RequestError(f"instances is {given}; send a list of 1 to {MAX_INSTANCES} objects with a prompt")
    fields, stream = _parameters(content.get("parameters"))
    if stream and len(instances) > 1:
        raise RequestError(
            f"stream is true for {len(instances)} instances; send one instance a request, or leave stream out"
        )
    requests = []
    for number, instance in enumerate(instances):
        prompt = _prompt(f"instance {number}", instance)
        with naming_instance(number, len(instances)):
            requests.append(CompletionRequest(prompt=prompt, **fields))
    return Call(tuple(requests), stream)


@contextlib.contextmanager
def naming_instance(number: int, count: int) -> Iterator[None]:
    """Say in a refusal which of several instances it is about."""
    try:
        yield
    except (RequestError, TokenizerError) as error:
        if count == 1:
            raise
        raise type(error)(f"instance {number}: {error}") from error


def _parameters(given: object) -> tuple[dict[str, Any], bool]:
    """CompletionRequest's fields, and whether to stream."""
    if given is None:
        return {}, False
    if not isinstance(given, dict):
        raise RequestError(f"parameters is {_kind(given)}; send an object, or leave it out")
    _refuse_unknown("parameters", given, _PARAMETERS)
    stream = given.get("stream", False)
    if not isinstance(stream, bool):
        raise RequestError(f"stream is {stream!r}; send true or false")
    fields = {name: value for name, value in given.items() if name != "stream"}
    for name, value in fields.items():
        if value is None and name not in _OPTIONAL:
            raise RequestError(f"{name} is null; send a value, or leave it out for {_FIELDS[name].default!r}")
        if name in _INTEGERS:
            fields[name] = _whole(name, value)
    if not isinstance(fields.get("stop", ""), (str, list)):
        raise RequestError(f"stop is {_kind(fields['stop'])}; send a text, or a list of texts")
    return fields, stream


def _prompt(where: str, instance: object) -> str:
    """The prompt of one instance, of whatever type."""
    if not isinstance(instance, dict):
        raise RequestError(f'{where} is {_kind(instance)}; send an object such as {{"prompt": "ROMEO:"}}')
    _refuse_unknown(where, instance, ("prompt",))
    if "prompt" not in instance:
        raise RequestError(f"{where} has no prompt; send the text to continue")
    prompt: str = instance["prompt"]  # CompletionRequest refuses what is none
    return prompt


def _whole(name: str, value: object) -> object:
    """A float that is a whole number as an int; anything else as it is, for CompletionRequest to judge."""
    if not isinstance(value, float) or not value.is_integer():
        return value
    if abs(value) > MAX_WHOLE_FLOAT:
        raise RequestError(f"{name} is {value!r}; numbers this large lose digits on the way, send at most 2**53")
    return int(value)


def _refuse_unknown(where: str, given: dict[str, Any], known: tuple[str, ...]) -> None:
    unknown = [name for name in given if name not in known]
    if misplaced := [name for name in unknown if name in _PARAMETERS]:
        name, value = misplaced[0], _short(given[misplaced[0]])
        raise RequestError(
            f"{where} has {name!r}, which belongs in parameters, beside instances; "
            f'send {{"instances": [...], "parameters": {{"{name}": {value}}}}}'
        )
    if unknown:
        raise RequestError(f"{where} has {unknown[0][:60]!r}, which is unknown; the names are {', '.join(known)}")


def _short(value: object) -> str:
    """The value as JSON, where it is short."""
    text = json.dumps(value)
    return text if len(text) <= 40 else "..."


def _refuse_constant(name: str) -> None:
    raise ValueError(f"it has {name}")


def _kind(value: object) -> str:
    """What a JSON value is, in JSON's words."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "missing"}
    return names.get(type(value), "a number")
