"""SweepPlan: what all runs of a sweep have in common; sweep.json in its folder, from the first run on."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path

from gpt.atomic import write_file
from gpt.errors import ConfigError, TrainingError
from train.sweep.results import SPLITS

PLAN_FILE = "sweep.json"


@dataclass
class SweepPlan:
    """What a sweep was begun with, and what was measured since.

    Attributes:
        budget_s: seconds of training that the rows' steps are chosen for; 0: the rows give their steps.
        selects: whether the runs validate on the last tenth of the training part.
        max_steps: the steps that the budget allows here, by the options of the run, once they were measured.
    """

    budget_s: float
    selects: bool
    max_steps: dict[str, int] = field(default_factory=dict)

    @property
    def split(self) -> str:
        """What its figures are of, one of SPLITS."""
        return SPLITS[self.selects]

    @classmethod
    def open(cls, out: Path, budget_s: float, selects: bool) -> SweepPlan:
        """The plan in the sweep's folder, or a new one.

        Raises:
            ConfigError: the folder's sweep was begun otherwise.
            TrainingError: its file is damaged.
        """
        path = out / PLAN_FILE
        if not path.exists():
            return cls(budget_s, selects)
        try:
            found = cls(**json.loads(path.read_text(encoding="utf-8")))
            steps_are_numbers = all(isinstance(steps, int) for steps in found.max_steps.values())
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise TrainingError(f"{path} is damaged ({error}); begin anew with another --out") from error
        if not steps_are_numbers:
            raise TrainingError(f"{path} is damaged: max_steps has what is no number; begin anew with another --out")
        if (found.budget_s, found.selects) != (budget_s, selects):
            raise ConfigError(
                f"the sweep in {out} was begun {found._options()}, not {cls(budget_s, selects)._options()}; figures of "
                "both do not compare: give the same again, or another --out"
            )
        return found

    def save(self, out: Path) -> None:
        """Write it; OSError if it cannot be."""
        write_file(out / PLAN_FILE, json.dumps(dataclasses.asdict(self), indent=2) + "\n")

    def _options(self) -> str:
        time = f"with --seconds {self.budget_s:g}" if self.budget_s else "without --seconds"
        return f"{time} and {'with' if self.selects else 'without'} --select"
