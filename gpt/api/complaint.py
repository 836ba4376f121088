"""Complaint: what is wrong with a body, in words that name the parameter, what was given and what is allowed."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from itertools import islice
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from gpt.api.refusal import Refusal

LONGEST_VALUE = 80
MOST_ERRORS = 1000
"""How many of pydantic's errors are looked at: a list of many wrong values has one for each."""

Place = tuple[str | int, ...]


def complaint(error: ValidationError, kind: type[BaseModel], body: object) -> Refusal:
    """How a body that is no such kind is refused; what is allowed is the field's description.

    Of a field that may be one of several types pydantic has an error for each: the one that got deepest counts.
    """
    errors = error.errors(include_url=False, include_context=False)
    if not isinstance(body, dict):
        return Refusal(400, f'the body is {_shown(body)}; send a JSON object such as {{"{_required(kind)}": ...}}')
    if not errors[0]["loc"]:
        return Refusal(400, "the body has a name with half a character in it; send valid Unicode text")
    field = errors[0]["loc"][0]
    candidates = [
        (*_place(one["loc"], kind, unknown=one["type"] == "extra_forbidden"), one["type"])
        for one in islice(errors, MOST_ERRORS)
        if one["loc"][0] == field
    ]
    place, owner, wrong = max(candidates, key=lambda candidate: len(candidate[0]))
    name, last = _name(place), next(str(part) for part in reversed(place) if isinstance(part, str))
    if wrong == "extra_forbidden":
        near = difflib.get_close_matches(last, owner.model_fields, 1)
        meant = f"write {near[0]}, if that is meant, or leave it out" if near else "leave it out"
        return Refusal(400, f"{name} is given, which is not known here; {meant} (/v1/openapi.json lists all)", name)
    given = "missing" if wrong == "missing" else _shown(_at(body, place))
    if wrong == "string_unicode":
        given += ", which has half a character in it"
    return Refusal(400, f"{name} is {given}; give {owner.model_fields[last].description}", name)


def _place(location: Place, kind: type[BaseModel], *, unknown: bool) -> tuple[Place, type[BaseModel]]:
    """Where in the body an error is, without the names of types that pydantic has in between, and whose field it is.

    An item of a list is not told apart from it where it is no object, or may be of several types.
    """
    place: list[str | int] = []
    owner = inner = kind
    certain, length = True, 0
    for number, part in enumerate(location):
        if isinstance(part, str):
            certain = part in inner.model_fields or (unknown and number + 1 == len(location))
            if not certain:
                continue
            owner = inner
            if part in owner.model_fields:
                inner = next(_models(owner.model_fields[part].annotation), BaseModel)
        else:
            certain = certain and inner is not BaseModel
        place.append(part)
        if certain:
            length = len(place)
    return tuple(place[:length]), owner


def _name(place: Place) -> str:
    """As messages[1].content."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")


def _at(body: object, place: Place) -> object:
    value: Any = body
    for part in place:
        value = value[part]
    return value


def _shown(value: object) -> str:
    """The value as JSON, cut."""
    text = json.dumps(value, ensure_ascii=False)
    count = f" ({len(value)} values)" if isinstance(value, list) and len(value) > 1 else ""
    return (text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…") + count


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def _required(kind: type[BaseModel]) -> str:
    return next(name for name, field in kind.model_fields.items() if field.is_required())
