"""A sweep's table in Markdown, made from its results."""

from __future__ import annotations

import dataclasses
import shlex
import statistics
from collections.abc import Sequence

from gpt.errors import TrainingError
from train.command import command_options
from train.presets import PRESETS
from train.sweep.results import RunResult
from train.sweep.rows import BASE

COLUMNS = ("row", "parameters", "tokens", "seconds", "block", "sliding", "difference", "command")


def markdown_table(results: Sequence[RunResult]) -> str:
    """A sentence on what the figures are, and a line for each row: means and spreads over the seeds.

    Raises:
        TrainingError: there are no results, or some that do not compare.
    """
    if not results:
        raise TrainingError("there are no results yet; run the sweep first")
    for name in ("split", "budget_s", "corpus_sha256"):
        if len(values := dict.fromkeys(str(getattr(result, name)) for result in results)) > 1:
            raise TrainingError(
                f"the results do not compare: {name} is {' in some, and '.join(values)} in others; keep a file for each"
            )
    rows: dict[str, list[RunResult]] = {}
    for result in results:
        rows.setdefault(result.row, []).append(result)
    for name, row in rows.items():
        if any(dataclasses.replace(result.config, seed=row[0].seed) != row[0].config for result in row):
            raise TrainingError(
                f"the results do not compare: the row {name} has several settings; keep a file for each"
            )
    base = rows.get(BASE)
    lines = [_line(name, row, base) for name, row in sorted(rows.items(), key=lambda item: item[0] != BASE)]
    head = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}"
    return "\n".join([_caption(results), "", head, *lines])


def _caption(results: Sequence[RunResult]) -> str:
    first = results[0]
    split = {
        "validation": f"the validation part of {first.corpus}",
        "selection": "the last tenth of the training part, from which these runs did not learn; the validation part "
        "was not looked at",
    }[first.split]
    time = f" Each row has as many steps as take about {first.budget_s:g} seconds." if first.budget_s else ""
    seeds = sorted({result.seed for result in results})
    spread = {1: "", 2: ", least and greatest in brackets"}.get(len(seeds), ", ± their standard deviation")
    over = f"{'Means over' if len(seeds) > 1 else 'With'} --seed {' and '.join(map(str, seeds))}{spread}"
    machines = " and ".join(dict.fromkeys(result.machine for result in results))
    versions = " and ".join(dict.fromkeys(result.torch_version for result in results))
    days = sorted(result.date[:10] for result in results)
    date = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
    return (
        f"Nats per character of {split}.{time} {over}; the difference is of sliding, under 0.01 a tie. "
        f"{machines}, torch {versions}, {date}."
    )


def _line(name: str, row: Sequence[RunResult], base: Sequence[RunResult] | None) -> str:
    difference = ""
    if base and name != BASE:
        difference = f"{_mean(row, 'sliding') - _mean(base, 'sliding'):+.3f}"
    config = row[0].config
    options = command_options(dataclasses.replace(config, seed=PRESETS[config.preset].config.seed))
    command = shlex.join(["python", "-m", "train", *options]).replace("|", "\\|")
    cells = (
        name,
        f"{row[0].parameters:,}",
        f"{_mean(row, 'tokens'):,.0f}",
        f"{_mean(row, 'seconds'):.1f}",
        _spread([result.block for result in row]),
        _spread([result.sliding for result in row]),
        difference,
        f"`{command}`",
    )
    return "| " + " | ".join(cells) + " |"


def _mean(row: Sequence[RunResult], name: str) -> float:
    return statistics.mean(float(getattr(result, name)) for result in row)


def _spread(figures: Sequence[float]) -> str:
    """The mean; of two also both, of more their standard deviation."""
    mean = f"{statistics.mean(figures):.3f}"
    if len(figures) > 2:
        return f"{mean} ± {statistics.stdev(figures):.3f}"
    return mean if len(figures) == 1 else f"{mean} ({min(figures):.3f} to {max(figures):.3f})"
