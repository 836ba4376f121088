"""RunReport: what a run's folder tells those who watch it, whoever started it, and whether or not it still goes on."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt.errors import TrainingError
from train.config import TrainConfig
from train.folder import BEST_FOLDER, METRICS_FILE, SAMPLES_FILE, STATE_FOLDER, is_training, read_run_config
from train.status import RunStatus, read_status

# What a process of its own says of a run, and two more: "starting", before it says anything, and "ended", without a
# word, as a killed process does.
STATES = ("starting", "training", "scoring", "finished", "paused", "failed", "ended")
ACTIVE_STATES = ("starting", "training", "scoring")
# Below this a disk counts as full.
FULL_DISK_BYTES = 8_000_000
LINE_TO_BEAT = 5


@dataclass(frozen=True)
class RunReport:
    """A run as its folder shows it.

    Attributes:
        name: the folder's.
        state: one of STATES.
        message: why it failed or ended, in words.
        config: its settings; None before it has written them.
        status: what it said last; None before it said anything.
        metrics: the lines of metrics.jsonl.
        samples: the lines of samples.jsonl.
        best_step: the step of its best checkpoint; None while there is none.
        saved_step: the step that it would go on from; None where nothing was saved.
    """

    name: str
    state: str
    message: str = ""
    config: TrainConfig | None = None
    status: RunStatus | None = None
    metrics: tuple[dict[str, Any], ...] = ()
    samples: tuple[dict[str, Any], ...] = ()
    best_step: int | None = None
    saved_step: int | None = None

    @property
    def is_active(self) -> bool:
        """Whether a process works on it now."""
        return self.state in ACTIVE_STATES

    @property
    def can_resume(self) -> bool:
        """Whether it can go on: a process saved its state, and steps are left."""
        left = self.config is not None and (self.saved_step or 0) < self.config.max_steps
        return not self.is_active and self.saved_step is not None and left

    @property
    def step(self) -> int:
        """The last step that is known to be made."""
        return max((line["step"] for line in self.metrics), default=self.saved_step or 0)

    @property
    def seconds(self) -> float:
        """Seconds of training up to that step."""
        return max((line.get("seconds", 0.0) for line in self.metrics), default=0.0)

    @property
    def tokens_per_second(self) -> float | None:
        """The rate over the last half minute, evaluations included; None before it is known."""
        timed = [line for line in self.metrics if "seconds" in line and "val_loss" not in line]
        if len(timed) < 2 or self.status is None:
            return None
        first = next(line for line in timed if line["seconds"] >= timed[-1]["seconds"] - 30)
        if first is timed[-1]:
            first = timed[-2]
        seconds = timed[-1]["seconds"] - first["seconds"]
        steps = timed[-1]["step"] - first["step"]
        return steps * self.status.tokens_per_step / seconds if seconds > 0 and steps > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """How long the steps that are left take at that rate."""
        rate = self.tokens_per_second
        if rate is None or self.config is None or self.status is None:
            return None
        return (self.config.max_steps - self.step) * self.status.tokens_per_step / rate

    def passed(self, order: int = LINE_TO_BEAT) -> dict[str, Any] | None:
        """The first evaluation at which the model was better than n-grams of this order; None before."""
        if self.status is None or len(self.status.ngrams) < order:
            return None
        limit = self.status.ngrams[order - 1] / self.status.tokens_per_character
        return next((line for line in self.metrics if line.get("val_loss", limit) < limit), None)


def list_runs(root: Path) -> list[str]:
    """The names of the runs in the folder `root`, the last one that did something first."""
    found = []
    try:
        for path in root.iterdir():
            if not path.name.startswith(".") and (path / METRICS_FILE).is_file():
                found.append(((path / METRICS_FILE).stat().st_mtime, path.name))
    except OSError:
        pass  # the folder is not there yet, or a run was deleted meanwhile
    return [name for _, name in sorted(found, reverse=True)]


def read_report(folder: Path) -> RunReport:
    """The run in `folder`, as far as it can be read."""
    alive = is_training(folder)
    status = read_status(folder)
    if status is None:
        state = "training" if alive else "ended"
    elif status.state in ("training", "scoring") and not alive:
        state = "ended"
    else:
        state = status.state
    config: TrainConfig | None
    try:
        config = read_run_config(folder)
    except TrainingError:
        config = None
    metrics = _lines(folder / METRICS_FILE)
    scored = [line for line in metrics if "val_loss" in line]
    has_best = (folder / BEST_FOLDER / "config.json").is_file()
    report = RunReport(
        name=folder.name,
        state=state,
        config=config,
        status=status,
        metrics=metrics,
        samples=_lines(folder / SAMPLES_FILE),
        best_step=min(scored, key=lambda line: line["val_loss"])["step"] if has_best and scored else None,
        saved_step=_saved_step(folder),
    )
    return RunReport(**{**vars(report), "message": _message(report, folder)})


def _message(report: RunReport, folder: Path) -> str:
    """Why the run is not going on, what is kept, and how to go on."""
    if report.state == "failed" and report.status is not None:
        words = f"The run failed at step {report.step:,}: {report.status.message}."
    elif report.state == "ended":
        words = f"The run ended at step {report.step:,} without a word: its process was killed"
        try:
            full = shutil.disk_usage(folder).free < FULL_DISK_BYTES
        except OSError:
            full = False
        words += ", and the disk is full: free some space first." if full else ", by somebody or for want of memory."
    elif report.state == "paused":
        words = f"Paused at step {report.step:,}, and saved."
    else:
        return ""
    if report.best_step is not None:
        words += f" Its best checkpoint, of step {report.best_step:,}, is kept."
    if report.can_resume:
        words += f" Resume goes on from step {report.saved_step:,}."
    elif report.best_step is None:
        words += " Nothing was saved; begin a new run."
    return words


def _saved_step(folder: Path) -> int | None:
    for name in (STATE_FOLDER, f"{STATE_FOLDER}.previous"):
        try:
            return int(json.loads((folder / name / "state.json").read_text(encoding="utf-8"))["step"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def _lines(path: Path) -> tuple[dict[str, Any], ...]:
    """The complete lines of a file of JSON objects that somebody may be writing to."""
    lines = []
    try:
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                fields = json.loads(line)
            except ValueError:
                continue
            if isinstance(fields, dict) and isinstance(fields.get("step"), int):
                lines.append(fields)
    except OSError:
        pass
    return tuple(lines)
