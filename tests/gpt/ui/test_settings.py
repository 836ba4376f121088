"""The sampling settings of the page."""

from __future__ import annotations

from typing import Any

import pytest

from gpt.completion import CompletionRequest
from gpt.errors import RequestError
from gpt.ui.settings import MAX_DRAWN_SEED, NAMES, SETTINGS, request_fields

DEFAULTS = [setting.default for setting in SETTINGS]


def values(**changed: Any) -> list[Any]:
    return [changed.get(setting.name, setting.default) for setting in SETTINGS]


def test_defaults_are_the_requests_own() -> None:
    fields = request_fields(DEFAULTS)
    del fields["seed"]
    assert CompletionRequest(prompt="O", **fields) == CompletionRequest(prompt="O")


def test_every_setting_explains_itself_in_a_line() -> None:
    for setting in SETTINGS:
        assert 10 < len(setting.info) <= 42
        assert setting.minimum <= setting.default <= setting.maximum


def test_the_whole_range_of_every_setting_is_a_valid_request() -> None:
    for setting in SETTINGS:
        for value in (setting.minimum, setting.maximum):
            CompletionRequest(prompt="O", **request_fields(values(**{setting.name: value})))


def test_whole_numbers_come_as_integers() -> None:
    fields = request_fields(values(top_k=40.0, max_new_tokens=10.0, seed=7.0, temperature=1))
    assert fields["top_k"] == 40 and isinstance(fields["top_k"], int)
    assert isinstance(fields["max_new_tokens"], int) and isinstance(fields["seed"], int)
    assert isinstance(fields["temperature"], float)


def test_a_seed_of_minus_one_draws_another_each_time() -> None:
    drawn = {request_fields(DEFAULTS)["seed"] for _ in range(10)}
    assert len(drawn) > 5
    assert all(0 <= seed <= MAX_DRAWN_SEED for seed in drawn)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("value", "words"), [(None, "empty"), ("7", "'7'"), (float("nan"), "nan"), (True, "True")])
def test_what_is_no_number_is_refused_by_name(name: str, value: Any, words: str) -> None:
    with pytest.raises(RequestError, match=f"{name} is {words}"):
        request_fields(values(**{name: value}))


@pytest.mark.parametrize("name", ["top_k", "max_new_tokens", "seed"])
def test_a_fraction_where_a_whole_number_is_needed_is_refused(name: str) -> None:
    with pytest.raises(RequestError, match=rf"{name} is 3\.5; give a whole number"):
        request_fields(values(**{name: 3.5}))
