"""Sweep: rows times seeds, each a run of `python -m train` in a folder of its own; whatever is finished stays so."""

from __future__ import annotations

import dataclasses
import json
import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from gpt.checkpoint_info import read_info
from gpt.errors import ConfigError, GPTError, TrainingError
from train.command import command_options
from train.config import TrainConfig
from train.folder import BEST_FOLDER, CONFIG_FILE, is_training, read_run_config
from train.status import read_status
from train.sweep.plan import SweepPlan
from train.sweep.process import TICK_S, train
from train.sweep.progress import SweepProgress
from train.sweep.results import RESULTS_FILE, RunResult, read_results, write_results
from train.sweep.rows import SweepRow


class Sweep:
    """A sweep in its folder, which has the plan, the results, and the folders of the runs.

    Args:
        rows: as `read_rows` gives them, the text that they learn perhaps changed.
        seeds: each row is run with each of them.
        out: its folder, which is there.
        plan: its plan.
        machine: the options of `python -m train` that say what computes.
        is_stopping: asked twice a second; the run under way then saves and ends, and the sweep with it.

    Raises:
        ConfigError: a row has results or a run already, with other settings.
        TrainingError: the results cannot be read.
    """

    def __init__(
        self,
        rows: Sequence[SweepRow],
        seeds: Sequence[int],
        out: Path,
        plan: SweepPlan,
        machine: Sequence[str],
        is_stopping: Callable[[], bool],
    ) -> None:
        self._runs = [(row, seed) for seed in seeds for row in rows]  # every row once before any is repeated
        self._out = out
        self._plan = plan
        self._machine = machine
        self._is_stopping = is_stopping
        self.results = read_results(out / RESULTS_FILE)
        for result in self.results:
            if (result.budget_s, result.split) != (plan.budget_s, plan.split):
                raise ConfigError(
                    f"{out / RESULTS_FILE} has results of another --seconds or without the same --select; figures of "
                    "both do not compare: give another --out"
                )
            for row in rows:
                if row.name == result.row:
                    self._check(row, result.config, f"results in {out / RESULTS_FILE}")
        for row, seed in self._runs:
            folder = self._folder(row, seed)
            if (folder / CONFIG_FILE).exists():
                self._check(row, read_run_config(folder), f"a run in {folder}")

    def run(self) -> list[str]:
        """Make the runs that are missing; what failed, in words.

        Raises:
            KeyboardInterrupt: it was asked to stop; the next one goes on.
            OSError: results cannot be written.
        """
        self._plan.save(self._out)
        done = {(result.row, result.seed) for result in self.results}
        missing = [(row, seed) for row, seed in self._runs if (row.name, seed) not in done]
        failures: list[str] = []
        progress = SweepProgress(len(self._runs), len(missing), self._plan.budget_s)
        for row, seed in missing:
            self._wait_for(self._folder(row, seed))  # or what is measured would be slower than what is run
        for row, seed in missing:
            name = f"{row.name}, seed {seed}"
            progress.begin(name)
            try:
                result = self._run(row, seed, progress)
            except GPTError as error:
                failures.append(f"{name}: {error}")
                progress.end(f"failed: {error}")
                continue
            self.results.append(result)
            write_results(self._out / RESULTS_FILE, self.results)
            progress.end(
                f"block {result.block:.4f}, sliding {result.sliding:.4f}; {result.steps:,} steps, "
                f"{result.tokens:,} tokens, {result.seconds:.1f} s"
            )
        return failures

    def _folder(self, row: SweepRow, seed: int) -> Path:
        return self._out / f"{row.name}-seed{seed}"

    def _key(self, row: SweepRow) -> str:
        """What the row's measured steps are kept under; another one as soon as the row changes."""
        return shlex.join(command_options(row.config))

    def _check(self, row: SweepRow, found: TrainConfig, where: str) -> None:
        """Refuse a row whose settings are not those found; its steps may be found only there."""
        wanted = dataclasses.replace(row.config, seed=found.seed)
        if self._plan.budget_s:
            steps = self._plan.max_steps.setdefault(self._key(row), found.max_steps)
            wanted = dataclasses.replace(wanted, max_steps=steps)
        changed = [
            f"{item.name} was {getattr(found, item.name)!r} and is now {getattr(wanted, item.name)!r}"
            for item in dataclasses.fields(TrainConfig)
            if getattr(found, item.name) != getattr(wanted, item.name)
        ]
        if changed:
            raise ConfigError(
                f"the row {row.name} has {where} with other settings: {', '.join(changed)}; put that back, give the "
                "row another name or the sweep another --out, or delete what the row has there"
            )

    def _wait_for(self, folder: Path) -> None:
        """Wait for a run whose sweep was killed, and which goes on alone."""
        while is_training(folder):
            if self._is_stopping():
                raise KeyboardInterrupt
            time.sleep(TICK_S)

    def _run(self, row: SweepRow, seed: int, progress: SweepProgress) -> RunResult:
        """The result of the run, which is begun, or taken up, unless it is finished."""
        folder = self._folder(row, seed)
        if self._plan.budget_s and self._key(row) not in self._plan.max_steps:
            self._plan.max_steps[self._key(row)] = self._measure(row)
            self._plan.save(self._out)
        config = dataclasses.replace(row.config, seed=seed)
        if self._plan.budget_s:
            config = dataclasses.replace(config, max_steps=self._plan.max_steps[self._key(row)])
        while not _is_finished(folder):
            options = ["--resume"] if (folder / CONFIG_FILE).exists() else command_options(config)
            try:
                train(
                    [*options, "--out", str(folder), *self._machine],
                    is_stopping=self._is_stopping,
                    on_tick=lambda: progress.tick(folder, config.max_steps),
                )
            except TrainingError:
                if not is_training(folder):
                    raise
                self._wait_for(folder)  # a run that was left alone, and had no folder yet
        return self._result(row, config, folder)

    def _measure(self, row: SweepRow) -> int:
        """The steps that the budget allows."""
        options = ["--estimate", *command_options(row.config), *self._machine]
        found = json.loads(train(options, is_stopping=self._is_stopping, on_tick=lambda: None))
        return max(1, round(self._plan.budget_s / float(found["step_s"])))

    def _result(self, row: SweepRow, config: TrainConfig, folder: Path) -> RunResult:
        info = read_info(folder / BEST_FOLDER)
        record = info.record
        if not {"block", "sliding"} <= set(record.nats_per_character):
            raise TrainingError(f"the record in {info.folder} has no figures; delete {folder}, and it is run again")
        if any(result.corpus_sha256 != record.corpus_sha256 for result in self.results):
            raise TrainingError(f"{record.corpus} is no longer the text of the sweep's other runs; put that back")
        return RunResult(
            row=row.name,
            options=row.options,
            seed=config.seed,
            steps=record.steps,
            tokens=record.tokens,
            parameters=info.parameters,
            seconds=record.seconds,
            budget_s=self._plan.budget_s,
            split=self._plan.split,
            block=record.nats_per_character["block"],
            sliding=record.nats_per_character["sliding"],
            machine=record.machine,
            torch_version=record.torch_version,
            date=record.created_at,
            corpus=record.corpus,
            corpus_sha256=record.corpus_sha256,
            config=config,
        )


def _is_finished(folder: Path) -> bool:
    status = read_status(folder)
    return status is not None and status.state == "finished" and not is_training(folder)
