"""A field of the page that has only just come up."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

TRIES, SETTLED_MS = 20, 200


def fill_new(page: Page, field: str, value: str) -> None:
    """Fill it in so that it stays: in its first few milliseconds it can still fall back to what it begins with."""
    for _ in range(TRIES):
        page.fill(field, value)
        page.wait_for_timeout(SETTLED_MS)
        if page.input_value(field) == value:
            return
    raise AssertionError(f"{field} does not keep {value}")
