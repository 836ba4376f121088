"""A pipeline's run on this machine: each step a process, its files in a folder."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from pathlib import Path
from typing import Any

from gpt.errors import TrainingError
from train.vertex.pipeline_file import build

_COLOUR = re.compile(r"\x1b\[\d+m")


def run_here(parameters: dict[str, Any], out: Path, image: str) -> dict[str, Any]:
    """Run the pipeline with Kubeflow's local runner.

    Kubeflow reports success for a pipeline whose last step was skipped, so what happened is read from what the steps
    left behind.

    Args:
        parameters: the pipeline's.
        out: the folder for the files of its runs.
        image: what the steps say that they run in; they run in this environment.

    Returns:
        "nats", the figure; "decision", the gate's; "deployed", what the last step deployed, None if it did not run;
        "folder", where the files are.

    Raises:
        TrainingError: a step failed; what it wrote says why.
    """
    pipeline = build(image, "", 0)
    from kfp import local

    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(out))
    before = set(out.glob("*"))
    try:
        # The steps' own words are no result.
        with contextlib.redirect_stdout(sys.stderr):
            pipeline(**parameters)
    except RuntimeError as error:
        raise TrainingError(f"{_COLOUR.sub('', str(error))} What the step wrote says why") from error
    (folder,) = set(out.glob("*")) - before
    return {
        "nats": _output(folder, "evaluate"),
        "decision": _output(folder, "gate"),
        "deployed": _output(folder, "deploy"),
        "folder": str(folder),
    }


def _output(folder: Path, step: str) -> Any:
    """A step's output; None if the step did not run."""
    path = folder / step / "executor_output.json"
    if not path.is_file():
        return None
    return json.loads(path.read_text(encoding="utf-8"))["parameterValues"]["Output"]
