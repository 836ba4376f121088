"""Figures in the form that people read."""

from __future__ import annotations

import pytest

from gpt.ui.figures import count, nats


@pytest.mark.parametrize(
    ("number", "text"), [(950, "950"), (7456, "7.46k"), (1_050_000, "1.05M"), (163_059_793, "163M"), (7 * 10**9, "7B")]
)
def test_count_has_three_digits(number: int, text: str) -> None:
    assert count(number) == text


def test_nats_prefers_the_sliding_figure() -> None:
    assert nats({"block": 1.4622, "sliding": 1.4473}) == "1.447 nats/char"
    assert nats({"block": 1.4622}) == "1.462 nats/char"
    assert nats({}) == ""
