"""Links are read with care."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest

from gpt.ui.link import read_link


def test_prompt_and_settings_are_read() -> None:
    fields = {"prompt": "Am & <b>?\n#+ ", "temperature": "0.35", "top_k": "7", "seed": "9007199254740991"}
    expected = {"prompt": fields["prompt"], "temperature": 0.35, "top_k": 7, "seed": 9007199254740991}
    assert read_link(urlencode(fields)) == (False, expected, [])


def test_a_comparison_has_sides_of_its_own() -> None:
    found = read_link("a=laptop&b=laptop&a.temperature=0&b.temperature=1&seed=3")
    values = {"a": "laptop", "b": "laptop", "a.temperature": 0, "b.temperature": 1, "seed": 3}
    assert found == (True, values, [])


@pytest.mark.parametrize("value", ["9", "-1", "nan", "inf", "x", "", "1e400"])
def test_a_number_out_of_range_is_left_out(value: str) -> None:
    _, values, problems = read_link(urlencode({"temperature": value, "seed": "1"}))
    assert values == {"seed": 1} and len(problems) == 1 and problems[0].startswith("temperature is ")


def test_whole_numbers_must_be_whole() -> None:
    assert read_link("top_k=1.5") == (False, {}, ["top_k is '1.5', not a number from 0 to 200"])


def test_unknown_names_and_floods_are_told() -> None:
    _, values, problems = read_link("prompt=O&b.seed=1&" + "y" * 100 + "=2")
    assert values == {"prompt": "O"} and problems[0] == "'b.seed' is no setting" and len(problems[1]) < 70
    assert read_link("&".join(f"x{n}=1" for n in range(1000))) == (False, {}, ["it has too many fields"])
