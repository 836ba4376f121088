"""Figures in the form that people read."""

from __future__ import annotations

from collections.abc import Mapping

PROTOCOLS = ("sliding", "block")


def count(number: int) -> str:
    """A count with three digits at most: 950, 1.05M, 163M."""
    for limit, unit in ((1_000_000_000, "B"), (1_000_000, "M"), (1_000, "k")):
        if number >= limit:
            return f"{number / limit:.3g}{unit}"
    return str(number)


def nats(figures: Mapping[str, float]) -> str:
    """The best known validation figure, with its unit; empty where none is known."""
    for protocol in PROTOCOLS:
        if protocol in figures:
            return f"{figures[protocol]:.3f} nats/char"
    return ""
