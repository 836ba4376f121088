"""Byte sizes in the form that people read."""

from __future__ import annotations


def byte_size(number_bytes: int) -> str:
    """A size in bytes, decimal as file managers show it: 950 B, 32.1 kB, 16.4 MB."""
    for limit, unit in ((1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")):
        if number_bytes >= limit:
            return f"{number_bytes / limit:,.1f} {unit}"
    return f"{number_bytes} B"
