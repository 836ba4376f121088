"""What is said of a wrong body: its place, what was given, and what may be given."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from gpt.api.message import Message, Part
from gpt.api.refusal import Refusal
from gpt.api.schema import Body, ChatBody, CompletionBody, StreamOptions, TextFormat

QUESTION = {"role": "user", "content": "Who calls?"}


def said(kind: type[Body], body: object) -> tuple[str | None, str]:
    """The parameter's name and the words of the refusal."""
    with pytest.raises(Refusal) as caught:
        kind.model_validate(body)
    error = caught.value.content()["error"]
    assert caught.value.status == 400 and (error["param"] is None or error["message"].startswith(error["param"]))
    return error["param"], error["message"].removeprefix(error["param"] or "")


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"temperature": 11}, "temperature", " is 11; give a number from 0 to 10, or leave it out for 1"),
        ({"temperature": float("nan")}, "temperature", " is NaN; give a number from 0 to 10, or leave it out for 1"),
        (
            {"stop": list("abcde")},
            "stop",
            ' is ["a", "b", "c", "d", "e"] (5 values); give a text or a list of up to 4 texts, none of them empty',
        ),
        (
            {"stop": ["a", ""]},
            "stop",
            ' is ["a", ""] (2 values); give a text or a list of up to 4 texts, none of them empty',
        ),
        ({"n": True}, "n", " is true; give a whole number from 1 to 32, how many texts a prompt gets"),
        (
            {"temprature": 1},
            "temprature",
            " is given, which is not known here; write temperature, if that is meant, or leave it out "
            "(/v1/openapi.json lists all)",
        ),
        (
            {"colour": 1},
            "colour",
            " is given, which is not known here; leave it out (/v1/openapi.json lists all)",
        ),
        (
            {"stream_options": {"include_usage": 3}},
            "stream_options.include_usage",
            " is 3; give true for a last event with the tokens it took, or false",
        ),
        (
            {"logit_bias": {"1": 2}},
            "logit_bias",
            ' is {"1": 2}; give null or {}; single tokens cannot be made more or less probable here',
        ),
        (
            {"prompt": [1] * 40 + [-1]},
            "prompt",
            f" is [{'1, ' * 26}1… (41 values); give a text that is not empty, its tokens as whole numbers, "
            "or a list of up to 32 of either",
        ),
        (
            {"prompt": "\ud800"},
            "prompt",
            ' is "\\ud800", which has half a character in it; give a text that is not empty, '
            "its tokens as whole numbers, or a list of up to 32 of either",
        ),
    ],
)
def test_a_wrong_value_is_named_shown_and_set_right(fields: dict[str, Any], param: str, words: str) -> None:
    assert said(CompletionBody, {"prompt": "a", **fields}) == (param, words)


@pytest.mark.parametrize(
    ("message", "place", "words"),
    [
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
            "messages[1].content[0].type",
            ' is "image_url"; give "text"; the models here read no images, sounds or files',
        ),
        (
            {"role": "tool", "content": "a"},
            "messages[1].role",
            ' is "tool"; give "system", "developer", "user" or "assistant"',
        ),
        (
            {"role": "user"},
            "messages[1].content",
            ' is missing; give a text, or a list of parts such as {"type": "text", "text": "Who calls?"}',
        ),
        (
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text"}]},
            "messages[1].content[1].text",
            " is missing; give a text",
        ),
        (
            {"role": "assistant", "content": "I.", "tool_calls": [{"id": "1"}]},
            "messages[1].tool_calls",
            ' is [{"id": "1"}]; give null or []; the models here call no tools',
        ),
        (
            {"role": "assistant", "content": "I.", "audio": {"id": "1"}},
            "messages[1].audio",
            ' is {"id": "1"}; give null; the models here hear and make no sound',
        ),
        (
            "Who?",
            "messages[1]",
            ' is "Who?"; give messages such as {"role": "user", "content": "Who calls?"}, at least one, in a list',
        ),
    ],
)
def test_a_wrong_message_is_told_by_its_place(message: object, place: str, words: str) -> None:
    assert said(ChatBody, {"messages": [QUESTION, message]}) == (place, words)


@pytest.mark.parametrize(
    ("fields", "param", "missing"),
    [
        ({"response_format": {"type": "json_object"}}, "response_format.type", "cannot be held to JSON or a schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}},
            "response_format.type",
            "cannot be held to JSON or a schema",
        ),
        ({"service_tier": "priority"}, "service_tier", "there is one way to be served here"),
        ({"modalities": ["text", "audio"]}, "modalities", "nothing but text is made here"),
        ({"audio": {"voice": "alloy", "format": "wav"}}, "audio", "nothing but text is made here"),
        ({"prediction": {"type": "content", "content": "a"}}, "prediction", "does not speed up this server"),
        ({"functions": [{"name": "a"}]}, "functions", "call no tools"),
        ({"tools": [{"type": "function"}]}, "tools", "call no tools"),
        ({"tool_choice": "required"}, "tool_choice", "call no tools"),
        ({"tool_choice": {"type": "function", "function": {"name": "a"}}}, "tool_choice", "call no tools"),
        ({"reasoning_effort": "high"}, "reasoning_effort", "do not reason"),
        ({"store": True}, "store", "texts are not stored here"),
        ({"metadata": {"run": "1"}}, "metadata", "texts are not stored here"),
        ({"logit_bias": {"1": 2}}, "logit_bias", "cannot be made more or less probable"),
        ({"web_search_options": {}}, "web_search_options", "search nothing"),
    ],
)
def test_what_is_not_offered_is_said_so(fields: dict[str, Any], param: str, missing: str) -> None:
    name, words = said(ChatBody, {"messages": [QUESTION], **fields})
    assert name == param and "; give " in words and missing in words, words


def test_a_body_that_is_no_object_is_refused_with_an_example() -> None:
    assert said(CompletionBody, []) == (None, 'the body is []; send a JSON object such as {"prompt": ...}')
    assert said(ChatBody, None) == (None, 'the body is null; send a JSON object such as {"messages": ...}')
    assert "half a character" in said(CompletionBody, {"prompt": "a", "\ud800": 1})[1]


@pytest.mark.parametrize("kind", [CompletionBody, ChatBody, Message, Part, StreamOptions, TextFormat])
def test_every_field_says_what_may_be_given(kind: type[BaseModel]) -> None:
    assert [name for name, field in kind.model_fields.items() if not field.description] == []
