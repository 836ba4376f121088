"""The compiled pipeline: what Kubeflow makes of train/vertex/components.py, as a file and as data."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from gpt.errors import ConfigError, TrainingError

INSTALL = "pip install -r requirements-pipeline.txt"


def build(image: str, accelerator: str, accelerator_count: int) -> Any:
    """The pipeline, as Kubeflow's own object.

    Raises:
        ConfigError: Kubeflow is not installed.
    """
    try:
        from train.vertex.components import build_pipeline
    except ModuleNotFoundError as error:
        if error.name != "kfp":
            raise
        raise ConfigError(f"the pipeline needs Kubeflow's SDK, which is not installed; {INSTALL}") from error
    return build_pipeline(image, accelerator, accelerator_count)


def write_pipeline(path: Path, image: str, accelerator: str, accelerator_count: int) -> None:
    """Compile the pipeline into a file, in the place of an older one.

    Args:
        path: ends in .yaml.
        image: the training image.
        accelerator, accelerator_count: GPUs of the machine that trains.

    Raises:
        ConfigError: Kubeflow is not installed.
        TrainingError: the file cannot be written.
    """
    pipeline = build(image, accelerator, accelerator_count)
    from kfp import compiler

    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".pipeline-") as folder:
            partial = Path(folder) / path.name
            compiler.Compiler().compile(pipeline, str(partial))
            os.replace(partial, path)
    except OSError as error:
        raise TrainingError(f"{path} cannot be written ({error.strerror or error}); choose another file") from error


def read_pipeline(image: str, accelerator: str, accelerator_count: int) -> dict[str, Any]:
    """The compiled pipeline as plain data, as the service takes it.

    Raises:
        ConfigError: Kubeflow is not installed.
    """
    pipeline = build(image, accelerator, accelerator_count)
    from google.protobuf import json_format

    compiled: dict[str, Any] = json_format.MessageToDict(pipeline.pipeline_spec)
    return compiled
