"""A listing of resources: filter, order and pages, as far as the project asks for them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from tests.emulator.call import Call, Resource
from tests.emulator.google_error import GoogleError

PAGE_SIZE = 100
TERM = re.compile(r"""^(NOT\s+)?([\w.\-]+)\s*(=|!=|:)\s*(?:"([^"]*)"|'([^']*)'|(\S+))$""", re.IGNORECASE)


def listing(call: Call, key: str, resources: Iterable[Resource]) -> Resource:
    """The page of `resources` that `call` asks for, under `key`.

    Raises:
        GoogleError: a filter or an order that the emulator does not speak.
    """
    chosen = [resource for resource in resources if matches(resource, call.query.get("filter", ""))]
    for term in reversed([term.strip() for term in call.query.get("orderBy", "").split(",") if term.strip()]):
        field, _, direction = term.partition(" ")
        if direction.strip().lower() not in ("", "asc", "desc"):
            raise GoogleError(400, f"Invalid order_by: {term}")
        descending = direction.strip().lower() == "desc"
        chosen.sort(key=lambda resource: str(_value(resource, field) or ""), reverse=descending)
    start = int(call.query.get("pageToken") or 0)
    end = start + int(call.query.get("pageSize") or PAGE_SIZE)
    page: Resource = {key: chosen[start:end]}
    if end < len(chosen):
        page["nextPageToken"] = str(end)
    return page


def matches(resource: Resource, expression: str) -> bool:
    """Whether a resource passes a filter: terms like display_name="x" or labels.k=v, joined by AND."""
    for text in filter(None, (part.strip() for part in re.split(r"\s+AND\s+", expression))):
        term = TERM.match(text)
        if term is None:
            raise GoogleError(400, f"Invalid filter: {text}")
        negated, field, operator, *values = term.groups()
        wanted = next(value for value in values if value is not None)
        found = _value(resource, field)
        if operator == ":":  # "has": a label of this name, or a field that is there
            fits = found is not None and (wanted == "*" or wanted in found)
        else:
            fits = (found is not None and _text(found) == wanted) == (operator == "=")
        if fits == bool(negated):
            return False
    return True


def _value(resource: Resource, path: str) -> Any:
    """The field that a filter names in snake or camel case, with dots between its levels."""
    found: Any = resource
    for number, part in enumerate(path.split(".")):
        if not isinstance(found, dict):
            return None
        camel = re.sub(r"_(\w)", lambda letter: letter[1].upper(), part)
        found = found.get(part) if number else found.get(camel, found.get(part))
    return found


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
