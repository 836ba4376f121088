"""The checkpoints as cards: HTML in which every name and text is escaped."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from html import escape
from urllib.parse import quote

from gpt.byte_size import byte_size
from gpt.checkpoint_info import CARD_FILE, CheckpointInfo
from gpt.ui.figures import PROTOCOLS, nats

TOKENIZERS = {"gpt2": "GPT-2's byte pairs", "character": "characters", "bpe": "byte pairs of its corpus"}


def cards(
    entries: Mapping[str, CheckpointInfo],
    live: str,
    damaged: Sequence[str] = (),
    loading: str | None = None,
    *,
    protected: Mapping[str, str] | None = None,
    runs: Collection[str] = (),
) -> str:
    """The checkpoints as HTML, and below them what is wrong with those that cannot be used.

    Args:
        entries: the checkpoints by name.
        live: the name of the live one.
        damaged: what is wrong with others, a sentence each.
        loading: the name of the one that is being loaded.
        protected: why one can be neither renamed nor deleted, a clause by name; empty where it can.
        runs: the names of those that are the best of a run.
    """
    notes = "".join(f'<p class="hint" role="note">Left out: {escape(message)}.</p>' for message in damaged)
    if not entries:
        return (
            '<p class="hint">No checkpoint is in the folder yet. Train one with <code>python -m train</code>.</p>'
            + notes
        )
    listed = "".join(
        _card(name, info, live, loading, (protected or {}).get(name, ""), name in runs)
        for name, info in entries.items()
    )
    return f'<div class="cards">{listed}</div>{notes}'


def _card(name: str, info: CheckpointInfo, live: str, loading: str | None, protection: str, is_run: bool) -> str:
    record = info.record
    protocol = next((protocol for protocol in PROTOCOLS if protocol in record.nats_per_character), "")
    rows = [
        ("Parameters", f"{info.parameters:,}"),
        ("Context", f"{info.config.sequence_dim} tokens"),
        ("Tokenizer", TOKENIZERS.get(info.tokenizer_kind, info.tokenizer_kind)),
        ("Corpus", record.corpus),
        ("Steps", f"{record.best_step or record.steps:,}" if record.steps else ""),
        ("Trained", record.created_at[:10]),
        ("Size", byte_size(info.size_bytes)),
    ]
    details = "".join(f"<div><dt>{label}</dt><dd>{escape(text)}</dd></div>" for label, text in rows if text)
    figure = nats(record.nats_per_character)
    number, _, unit = figure.partition(" ")
    headline = (
        f'<p class="figure" title="Validation loss, {protocol}"><b>{number}</b> {unit} <span>{protocol}</span></p>'
        if figure
        else '<p class="figure none">no validation figure</p>'
    )
    if name == loading:
        use = '<button type="button" disabled class="use loading">Loading…</button>'
    elif name == live:
        use = '<span class="pill tone-live">Live</span>'
    else:
        use = _button("use", name, "Use", "use", " disabled" if loading else "")
    return (
        f'<article class="card{" live" if name == live else ""}">'
        f"<header><h3>{escape(name)}</h3>{use}</header>{headline}<dl>{details}</dl>"
        f"<footer>{_actions(name, info, live, protection, is_run)}</footer></article>"
    )


def _actions(name: str, info: CheckpointInfo, live: str, protection: str, is_run: bool) -> str:
    """What can be done with a checkpoint besides using it; where something cannot, why."""
    actions = _button("card", name, "Card") if (info.folder / CARD_FILE).is_file() else ""
    actions += (
        f'<a href="checkpoints/{quote(name, safe="")}.zip" download aria-label="Download {escape(name)}">Download</a>'
    )
    if protection:
        return f"{actions}<p>Stays as it is: {escape(protection)}.</p>"
    actions += _button("rename", name, "Rename")
    if name != live:
        question = (
            "The whole run goes, with its state; the run cannot go on. It cannot be brought back."
            if is_run
            else "Its folder goes, with all that it holds. It cannot be brought back."
        )
        actions += _button("delete", name, "Delete", "danger", f' data-question="{question}"')
    return actions


def _button(action: str, name: str, label: str, style: str = "", more: str = "") -> str:
    return (
        f'<button type="button" class="{style}" data-action="{action}" data-name="{escape(name)}"'
        f' aria-label="{label} {escape(name)}"{more}>{label}</button>'
    )
