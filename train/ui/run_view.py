"""The run view: a training run as one looks at it, with its progress, its curve and what it wrote on the way."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from train.report import LINE_TO_BEAT, RunReport

MAX_POINTS = 300
MAX_SAMPLES = 80

TEMPLATE = """
<div class="rv">
  <p class="rv-empty">No run yet. Choose a text, press <b>Start</b>, and watch the model learn to write like it.</p>
  <div class="rv-body">
    <div class="rv-head"><h3 class="rv-name"></h3><span class="rv-state"></span><span class="rv-facts"></span></div>
    <div class="rv-bar" role="progressbar" aria-label="Progress of the run" aria-valuemin="0" aria-valuemax="100">
      <i></i>
    </div>
    <div class="rv-progress">
      <span class="rv-step"></span><span class="rv-left"></span><span class="rv-rate"></span>
    </div>
    <p class="rv-message" role="status"></p>
    <div class="rv-figures"></div>
    <figure class="rv-chart"><svg role="img"></svg><div class="rv-tip" hidden></div></figure>
    <div class="rv-samples">
      <div class="rv-samples-head">
        <span class="rv-samples-title">What it writes</span>
        <button type="button" class="rv-earlier" aria-label="The sample before">&#8249;</button>
        <input type="range" class="rv-scrub" min="0" value="0" step="1" aria-label="Sample, from the first to the last">
        <button type="button" class="rv-later" aria-label="The sample behind">&#8250;</button>
        <span class="rv-samples-step"></span>
      </div>
      <pre class="rv-text" tabindex="0" aria-label="The sample"></pre>
    </div>
  </div>
</div>
"""
WORDS = {
    "starting": "Starting",
    "training": "Training",
    "scoring": "Scoring the best",
    "finished": "Finished",
    "paused": "Paused",
    "failed": "Failed",
    "ended": "Ended",
}


def run_view(elem_id: str) -> gr.HTML:
    """A view of a run; its value is what `run_value` gives."""
    return gr.HTML(
        "",
        html_template=TEMPLATE,
        js_on_load=Path(__file__).with_suffix(".js").read_text(encoding="utf-8"),
        apply_default_css=False,
        elem_id=elem_id,
        elem_classes=["run-view"],
    )


def run_value(report: RunReport | None) -> str:
    """The run as JSON, for the view; empty for none. Losses in nats per character, times in seconds."""
    if report is None:
        return ""
    status, config = report.status, report.config
    scale = status.tokens_per_character if status else 1.0
    steps = config.max_steps if config else 0
    scored = [line for line in report.metrics if "val_loss" in line]
    losses = {line["step"]: line["val_loss"] * scale for line in scored}
    best = report.best_step if report.best_step in losses else None
    passed = report.passed()
    value: dict[str, Any] = {
        "name": report.name,
        "state": report.state,
        "words": "Stopped early" if report.state == "finished" and report.can_resume else WORDS[report.state],
        "message": report.message,
        "step": report.step,
        "steps": steps,
        "seconds": report.seconds,
        "left": report.seconds_left if report.state == "training" else None,
        "rate": report.tokens_per_second if report.state == "training" else None,
        "scored": status.scored if status and report.state == "scoring" else None,
        "facts": _facts(report),
        "train": _thinned([[line["step"], line["train_loss"] * scale] for line in report.metrics if "tokens" in line]),
        "val": _thinned([[step, loss] for step, loss in losses.items()]),
        "best": [best, losses[best]] if best is not None else None,
        "line": status.ngrams[LINE_TO_BEAT - 1] if status and len(status.ngrams) >= LINE_TO_BEAT else None,
        "order": LINE_TO_BEAT,
        "passed": [passed["step"], passed.get("seconds")] if passed else None,
        "figures": status.nats_per_character if status else {},
        "samples": _spread(
            [[line["step"], str(line.get("text", "")), losses.get(line["step"])] for line in report.samples],
            MAX_SAMPLES,
        ),
    }
    return json.dumps(_rounded(value), ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _facts(report: RunReport) -> str:
    """What is trained, on what and where, in a line."""
    status, config = report.status, report.config
    if status is None or config is None:
        return ""
    threads = f", {status.threads} thread{'s' if status.threads > 1 else ''}" if status.threads else ""
    base = f", from {Path(config.init).name}" if config.init else ""
    return (
        f"{status.corpus}, {status.corpus_characters:,} characters \u00b7 {config.preset}{base}, "
        f"{status.parameters:,} parameters \u00b7 {status.device}{threads}"
    )


def _thinned(points: Sequence[list[float]]) -> list[list[float]]:
    """At most MAX_POINTS points: means of neighbours, so that no part of a curve goes missing."""
    size = -(-len(points) // MAX_POINTS)
    if size <= 1:
        return list(points)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [[group[-1][0], sum(loss for _, loss in group) / len(group)] for group in groups]


def _spread(items: Sequence[Any], most: int) -> list[Any]:
    """At most `most` of the items, evenly spread, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(number * (len(items) - 1) / (most - 1))] for number in range(most)]


def _rounded(value: Any) -> Any:
    """The value with its numbers as short as they can be seen, and none that JSON lacks."""
    if isinstance(value, float):
        return round(value, 4) if abs(value) < 1e9 else None
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return value
