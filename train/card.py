"""The model card that a finished run writes beside its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gpt.config import GPTConfig
from gpt.record import TrainingRecord
from train.config import TrainConfig

MEMORISATION_TITLE = "## Memorisation"


def model_card(
    name: str,
    config: GPTConfig,
    settings: TrainConfig,
    record: TrainingRecord,
    num_parameters: int,
    ladder: list[float],
    sample: str,
) -> str:
    """The card's text, Markdown.

    Args:
        name: the checkpoint's.
        config: the model's shape.
        settings: the run's.
        record: the run's, with its figures.
        num_parameters: the model's.
        ladder: the n-grams' figures on the same validation text, from order 1 on; empty if they were not counted.
        sample: text that the model wrote.
    """
    figures = record.nats_per_character
    rows = "\n".join(f"| {row['step']:.0f} | {row['train_loss']:.3f} | {row['val_loss']:.3f} |" for row in record.curve)
    ngrams = ""
    if ladder:
        values = ", ".join(f"{value:.3f}" for value in ladder)
        ngrams = f"| n-grams of order 1 to {len(ladder)}, for comparison | {values} |\n"
    optimizer = f"AdamW {settings.learning_rate:g}"
    if settings.muon_learning_rate:
        optimizer += f", Muon {settings.muon_learning_rate:g} on the blocks' matrices"
    against_rote = f"dropout {settings.dropout:g}"
    if settings.bpe_dropout:
        against_rote += f", BPE dropout {settings.bpe_dropout:g}"
    if settings.label_smoothing:
        against_rote += f", label smoothing {settings.label_smoothing:g}"
    taught = ""
    if settings.teachers:
        folders = settings.teachers.replace(",", ",\n  ")
        weight = f"{settings.teacher_weight:.0%}"
        taught = f"- Teachers, the mean of whose probabilities is {weight} of every target:\n  {folders}.\n"
    count = settings.batch_size * settings.accumulation_steps
    windows = f"{count} windows a step"
    if short := settings.short_sequence_dim:
        more = count * settings.sequence_dim // short
        windows += f" ({more} of {short} tokens for the first {settings.short_fraction:.0%})"
    card = f"""# {name}

{num_parameters:,} parameters, trained from {settings.init or "nothing"} on {record.corpus}
({record.corpus_characters:,} characters, the first {settings.train_fraction:.0%} of them for training) by

    {record.command}

| | nats per character, whole validation split |
|---|---|
| block (windows of {config.sequence_dim} tokens, none overlapping) | **{figures["block"]:.4f}** |
| sliding (stride of half a window) | **{figures["sliding"]:.4f}** |
{ngrams}
The figures are of the weights as they are stored here ({settings.checkpoint_dtype}), each token scored once, total nats
divided by the characters of the raw text; `python -m train.evaluate` prints them again. The step was chosen by the loss
on part of the same validation split, which flatters a little.

- Architecture: vocabulary {config.vocab_dim:,} ({settings.tokenizer}), context {config.sequence_dim} tokens, width
  {config.embed_dim}, {config.num_heads} heads, {config.num_layers} blocks, {config.activation},
  {"rotary" if config.rotary else "learned"} positions.
- Training: {record.steps:,} steps, {record.tokens:,} tokens, {record.seconds / 60:.1f} minutes on {record.machine},
  torch {record.torch_version}, seed {record.seed}; the best step was {record.best_step:,}; {windows}.
- Optimizer: {optimizer}, weight decay {settings.weight_decay:g}, {against_rote},
  {settings.precision} products.
{taught}- Text sha256: {record.corpus_sha256}

It writes in the manner of its text and knows nothing else; names and words may be made up.

| step | training loss, nats per token | validation loss, nats per token |
|---|---|---|
{rows}

A sample at temperature 0.8:

```
{sample.strip()}
```
"""
    return with_memorisation(card, record.memorisation) if record.memorisation else card


def with_memorisation(card: str, rows: Sequence[Mapping[str, str | float]]) -> str:
    """The card with the table of what texts have in common with the training text.

    It takes the place of an older one, or stands at the end.

    Args:
        card: Markdown.
        rows: the record's, at least one: `train.shared_runs.SharedRuns` as dictionaries.
    """
    lines = "\n".join(
        f"| {row['source']} | {row['texts']} | {row['median']:g} | {row['percentile_90']:g} | {row['maximum']} "
        f"| {row['covered']:.2%} |"
        for row in rows
    )
    section = f"""{MEMORISATION_TITLE}

The longest run of characters that a text of {rows[0]["characters"]:,} has in common with the training part: texts drawn
from this model, drawn from n-grams of the training part, and cut from the validation part, where nobody copied. The
last column is the part of all their characters that stands in common runs of 50 or more.

| texts | number | median | 90th percentile | maximum | in runs of 50 or more |
|---|---|---|---|---|---|
{lines}

`python -m train.memorised` prints them again, and the longest runs themselves.
"""
    before, found, behind = card.rpartition(f"\n{MEMORISATION_TITLE}\n")
    if not found:
        return f"{card.rstrip()}\n\n{section}"
    _, next_title, rest = behind.partition("\n## ")
    return f"{before}\n{section}" + (f"\n## {rest}" if next_title else "")
