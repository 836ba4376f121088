"""Pictures of what was measured, as SVG for light pages and dark: bars beside the peers, curves of the cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

Row = Mapping[str, Any]
WIDTH, MARGIN = 720, 20
BAR, GAP, LABELS, FIGURES = 16, 8, 210, 130  # of bars: height, distance, room for names and for figures
COLUMNS, PLOT_WIDTH, PLOT_HEIGHT = 2, 260, 110  # of curves
LABEL = {"uncached float32": "plain loop without a cache"}
CURVES = {
    "tokens before it": "tokens before it",
    "streams": "streams in a step",
    "num_layers": "layers",
    "vocab_dim": "vocabulary",
    "embed_dim": "embed_dim",
}
STYLE = """
    text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: #1e293b }
    .title { font-size: 17px; font-weight: 700 }
    .panel { font-weight: 600 }
    .note { font-size: 11px; fill: #475569 }
    .end { text-anchor: end }
    .middle { text-anchor: middle }
    .ours { fill: #6366f1 }
    .theirs { fill: #94a3b8 }
    .range { stroke: #1e293b; stroke-width: 1.5 }
    .grid { stroke: #cbd5e1 }
    .line { fill: none; stroke: #6366f1; stroke-width: 2 }
    @media (prefers-color-scheme: dark) {
      text { fill: #e2e8f0 }
      .note { fill: #a3b1c6 }
      .ours { fill: #818cf8 }
      .theirs { fill: #64748b }
      .range { stroke: #e2e8f0 }
      .grid { stroke: #334155 }
      .line { stroke: #818cf8 }
    }
  """


def pictures(found: Mapping[str, Any]) -> dict[str, str]:
    """The SVG by file name, of what there are rows for.

    Args:
        found: the JSON of a run of the benchmarks.
    """
    tables: dict[str, list[Row]] = {}
    for benchmark in found["benchmarks"]:
        for row in benchmark["rows"]:
            tables.setdefault(row["table"], []).append(row)
    drawn = {}
    # What only reads the weights is no peer, and its bar would dwarf the others.
    if rows := [row for row in tables.get("one stream", ()) if not row["name"].startswith("floor")]:
        drawn["benchmark-one-stream.svg"] = _bars("One stream: tokens a second", {"": rows}, found)
    batches = {name: rows for name, rows in tables.items() if name in ("16 streams", "64 streams")}
    if batches:
        drawn["benchmark-streams.svg"] = _bars("Many streams at once: tokens a second of all", batches, found)
    curves = {title: tables[f"scale: {name}"] for name, title in CURVES.items() if f"scale: {name}" in tables}
    if curves:
        drawn["benchmark-scale.svg"] = _curves("How the cost of a step grows", curves, found)
    return drawn


def _bars(title: str, panels: Mapping[str, Sequence[Row]], found: Mapping[str, Any]) -> str:
    """A bar for each row, the highest first, with a line from its minimum to its maximum."""
    top = max(row["maximum"] for rows in panels.values() for row in rows)
    scale = (WIDTH - 2 * MARGIN - LABELS - FIGURES) / top
    left, y, parts = MARGIN + LABELS, 56, list[str]()
    for panel, rows in panels.items():
        if panel:
            parts.append(_text(MARGIN, y + 12, panel, "panel"))
            y += BAR + GAP
        for row in sorted(rows, key=lambda row: -row["median"]):
            kind = "ours" if row["name"].startswith("engine") else "theirs"
            middle, width = y + BAR / 2, scale * row["median"]
            low, high = left + scale * row["minimum"], left + scale * row["maximum"]
            threads = row["settings"]["threads"]
            figure = f"{row['median']:,.0f}  ({threads} thread{'s' if threads > 1 else ''})"
            parts += [
                _text(left - 8, y + 12, LABEL.get(str(row["name"]), str(row["name"])), "end"),
                f'<rect class="{kind}" x="{left}" y="{y}" width="{width:.1f}" height="{BAR}" rx="2"/>',
                f'<line class="range" x1="{low:.1f}" y1="{middle}" x2="{high:.1f}" y2="{middle}"/>',
                _text(max(high, left + width) + 8, y + 12, figure),
            ]
            y += BAR + GAP
        y += GAP
    return _frame(title, y, parts, "medians; the lines reach from the slowest round to the fastest", found)


def _curves(title: str, panels: Mapping[str, Sequence[Row]], found: Mapping[str, Any]) -> str:
    """Microseconds of a step over what varies, both axes from 0, so that a cost in proportion is a straight line."""
    parts = list[str]()
    step = PLOT_HEIGHT + 70
    for number, (name, rows) in enumerate(panels.items()):
        left, top = MARGIN + 50 + number % COLUMNS * (PLOT_WIDTH + 75), 84 + number // COLUMNS * step
        bottom = top + PLOT_HEIGHT
        highest = _round_up(max(row["median"] for row in rows))
        last = float(rows[-1]["name"])
        parts.append(_text(left, top - 12, f"microseconds, by {name}", "panel"))
        for share in (0.0, 0.5, 1.0):
            y = bottom - share * PLOT_HEIGHT
            parts.append(f'<line class="grid" x1="{left}" y1="{y}" x2="{left + PLOT_WIDTH}" y2="{y}"/>')
            parts.append(_text(left - 6, y + 4, f"{share * highest:,.0f}", "note end"))
        points = [
            (left + float(row["name"]) / last * PLOT_WIDTH, bottom - row["median"] / highest * PLOT_HEIGHT)
            for row in rows
        ]
        parts.append(f'<polyline class="line" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>')
        free_to = math.inf
        for row, (x, y) in zip(reversed(rows), reversed(points), strict=True):
            parts.append(f'<circle class="ours" cx="{x:.1f}" cy="{y:.1f}" r="3"/>')
            if x < free_to - 32:  # a label that would run into its neighbour is left out
                parts.append(_text(x, bottom + 16, f"{int(row['name']):,}", "note middle"))
                free_to = x
    height = 84 + -(-len(panels) // COLUMNS) * step - 24
    return _frame(title, height, parts, "medians of a compiled step; its other sizes are shakespeare's", found)


def _frame(title: str, height: float, parts: Sequence[str], note: str, found: Mapping[str, Any]) -> str:
    """The whole picture: title, what was drawn, and the machine and the day below it."""
    machine, quick = found["machine"], ", a quick run" if found["quick"] else ""
    where = f"{machine['cores']} cores of {machine['processor']}, {found['date'][:10]}, "
    where += f"torch {found['versions']['torch']}; load before the run {found['benchmarks'][0]['load_before']:.2f}"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height + 44:.0f}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        _text(MARGIN, 34, title, "title"),
        *parts,
        _text(MARGIN, height + 12, f"{note}{quick}", "note"),
        _text(MARGIN, height + 28, where, "note"),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{named}>{escape(text)}</text>'


def _round_up(value: float) -> float:
    """The next even digit, or 1, times a power of ten, for the end of an axis."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(digit * power for digit in (1, 2, 4, 6, 8, 10) if digit * power >= value)
