"""Record: what a benchmark measured, kept row by row, so that an interruption loses nothing."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class Record:
    """A file of lines of JSON, each a row or a peer that is missing.

    Args:
        path: where they go, behind what is there; None keeps nothing.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path

    def row(self, table: str, name: str, unit: str, values: Sequence[float], **settings: object) -> None:
        """Keep one line of a table.

        Args:
            table: the table that it stands in.
            name: what was measured.
            unit: of the values.
            values: one for each round, at least one.
            settings: with which it was measured, such as threads=2.
        """
        self._write(
            {
                "table": table,
                "name": name,
                "settings": settings,
                "unit": unit,
                "median": statistics.median(values),
                "minimum": min(values),
                "maximum": max(values),
                "rounds": len(values),
            }
        )

    def missing(self, name: str, reason: str) -> None:
        """Keep, and say, that a peer could not be measured."""
        print(f"without {name}: {reason}", flush=True)
        self._write({"missing": name, "reason": reason})

    def _write(self, line: dict[str, Any]) -> None:
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                print(json.dumps(line), file=file)


def read_record(path: Path) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The rows that were kept, and the reason by missing peer; a last line that was cut off is left out."""
    rows, missing = list[dict[str, Any]](), dict[str, str]()
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if "missing" in line:
            missing[line["missing"]] = line["reason"]
        else:
            rows.append(line)
    return rows, missing
