"""Byte sizes in the form that people read."""

from __future__ import annotations

import pytest

from gpt.byte_size import byte_size


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (950, "950 B"), (32_100, "32.1 kB"), (16_400_000, "16.4 MB"), (2 * 10**9, "2.0 GB")],
)
def test_size_is_decimal(number: int, text: str) -> None:
    assert byte_size(number) == text
