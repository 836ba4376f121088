"""Notes: what the training page says in words, as HTML."""

from __future__ import annotations

from html import escape

from gpt.errors import GPTError
from train.corpus_report import CorpusReport


def facts_html(report: CorpusReport, size_bytes: int, left_out: list[str]) -> str:
    """What the text is, as HTML, with what speaks against it."""
    rows = [
        (f"{size_bytes / 1e6:.2f} MB" if size_bytes >= 1e5 else f"{size_bytes / 1e3:.1f} kB", "size"),
        (f"{report.characters:,}", "characters"),
        (f"{report.distinct_characters:,}", "distinct"),
    ]
    if not report.refusal:
        rows += [(f"{report.train_tokens:,}", "tokens to train on"), (f"{report.passes:.1f}", "passes")]
    cells = "".join(f"<div><b>{number}</b> {label}</div>" for number, label in rows)
    notes = [note(words, "warn") for words in report.warnings]
    if report.refusal:
        notes.append(note(report.refusal[:1].upper() + report.refusal[1:], "bad"))
    if left_out:
        notes.append(note(f"Not to go on from, for lack of some of its characters: {', '.join(left_out)}.", "hint"))
    return f'<div class="ts-facts">{cells}</div>{"".join(notes)}'


def note(words: str, tone: str, share: float | None = None) -> str:
    """A paragraph in the tone "hint", "wait", "warn" or "bad", with a bar for the share that is done."""
    bar = "" if share is None else f'<i style="width:{share:.0%}"></i>'
    return f'<p class="ts-note ts-{tone}" role="status">{escape(words)}{bar}</p>'


def sentence(error: GPTError) -> str:
    """The error's words as a sentence."""
    words = str(error)
    return words[:1].upper() + words[1:] + ("" if words.endswith(".") else ".")


def duration(seconds: float) -> str:
    """About how long that is."""
    if seconds < 90:
        whole = max(1, round(seconds))
        return f"About {whole} second{'s' if whole > 1 else ''}"
    if seconds < 5400:
        return f"About {seconds / 60:.1f} minutes"
    return f"About {seconds / 3600:.1f} hours"
