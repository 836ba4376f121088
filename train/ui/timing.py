"""Timing: how long a run would take, measured by a process of its own and remembered by the shape of the run."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Any

from gpt.errors import TrainingError
from train.command import command_options
from train.config import TrainConfig
from train.job import ENVIRONMENT, ROOT

# Settings that make the same step, or only more of them.
COUNTS = ("max_steps", "eval_interval", "save_interval", "seed", "patience", "sample_prompt")


class Timing:
    """Measures one run at a time; asking anew ends the measurement under way.

    Args:
        device: to measure on, as `--device` takes it.
        environment: of the process.
    """

    def __init__(self, device: str, environment: Mapping[str, str]) -> None:
        self._device = device
        self._environment = {**environment, **ENVIRONMENT}
        self._known: dict[str, dict[str, Any]] = {}
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def measure(self, config: TrainConfig, threads: int | None = None) -> dict[str, Any] | None:
        """What `python -m train --estimate` says of these settings; None if another measurement took its place.

        Raises:
            TrainingError: the run cannot be made; the message is the command's.
        """
        shape = {name: value for name, value in dataclasses.asdict(config).items() if name not in COUNTS}
        key = json.dumps([shape, threads], sort_keys=True)
        if key not in self._known:
            found = self._run([*command_options(config), *(["--threads", str(threads)] if threads else [])])
            if found is None:
                return None
            self._known[key] = found
        known = self._known[key]
        from train.estimate import total_seconds

        seconds = total_seconds(config, known["step_s"], known["evaluation_s"], known["scoring_s"])
        return {**known, "seconds": seconds, "steps": config.max_steps}

    def cancel(self) -> None:
        """End the measurement under way, if there is one."""
        with self._lock:
            if self._process is not None:
                self._process.kill()

    def _run(self, options: list[str]) -> dict[str, Any] | None:
        with self._lock:
            if self._process is not None:
                self._process.kill()
            process = self._process = subprocess.Popen(
                [sys.executable, "-m", "train", "--estimate", *options, "--device", self._device],
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        output, errors = process.communicate()
        with self._lock:
            if self._process is process:
                self._process = None
        if process.returncode < 0:
            return None
        if process.returncode:
            last = (errors.strip().splitlines() or ["it gave no reason"])[-1]
            raise TrainingError(last.partition("error: ")[2] or last)
        found: dict[str, Any] = json.loads(output)
        return found
