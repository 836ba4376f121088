"""JobSpec: a training command as a Vertex AI custom job, as plain data that a person can read before it costs money."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from gpt.errors import ConfigError
from gpt.vertex.bucket import join, split
from gpt.vertex.machine import COUNTS, FAMILIES
from gpt.vertex.registry import LABELS

RUN_LABEL = "gpt-run"
GPU_MACHINE, CPU_MACHINE = "g2-standard-8", "n1-standard-8"
ACCELERATOR = "NVIDIA_L4"
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """One training run in the cloud.

    Attributes:
        name: the run's; a label and a folder of the bucket, so lower-case letters, digits and dashes.
        bucket: gs://bucket or a folder in it; the run is kept in its runs/NAME.
        image: the training image's address in a registry.
        machine_type: of each machine; None for one that fits the GPUs.
        accelerator: its GPU, such as NVIDIA_L4 or NVIDIA_TESLA_T4.
        accelerator_count: GPUs of each machine, with a process each; 0 trains on its CPU.
        machines: that train together.
        spot: machines that are cheaper, and may be taken away at any time; the job then goes on on others.
        max_hours: after which the service ends the job; None for the service's own limit, seven days.
        service_account: that the job acts as; None for the project's default.

    Raises:
        ConfigError: a field is out of range.
    """

    name: str
    bucket: str
    image: str
    machine_type: str | None = None
    accelerator: str = ACCELERATOR
    accelerator_count: int = 1
    machines: int = 1
    spot: bool = False
    max_hours: float | None = None
    service_account: str | None = None

    def __post_init__(self) -> None:
        check_name(self.name)
        split(self.bucket, "bucket")
        if not self.image or any(letter.isspace() for letter in self.image):
            raise ConfigError(f"image is {self.image!r}; give the address of the training image in a registry")
        check_accelerator(self.accelerator, self.accelerator_count)
        if not 1 <= self.machines <= 100:
            raise ConfigError(f"machines is {self.machines}; give a number from 1 to 100")
        if self.max_hours is not None and not 0 < self.max_hours <= 24 * 30:
            raise ConfigError(f"max_hours is {self.max_hours}; give a number above 0, up to 720")
        if not self.accelerator_count:
            return
        if self.machine_type is None and (self.accelerator, self.accelerator_count) != (ACCELERATOR, 1):
            raise ConfigError(
                f"machine_type is not given, and {GPU_MACHINE} has one {ACCELERATOR}, not {self.accelerator_count} of "
                f"{self.accelerator}; name a machine that has them, such as g2-standard-24 for two NVIDIA_L4 or "
                "n1-standard-8 for one NVIDIA_TESLA_T4"
            )
        family = FAMILIES[self.accelerator]
        if self.machine_type is not None and self.machine_type.partition("-")[0] != family:
            raise ConfigError(
                f"machine_type is {self.machine_type!r}, which cannot have {self.accelerator}; "
                f"choose one that begins with {family}-"
            )

    @property
    def folder(self) -> str:
        """Where the bucket keeps the run: checkpoints/ while it trains, model/ at its end, text/ for its corpus."""
        return join(self.bucket, "runs", self.name)

    @property
    def model(self) -> str:
        """Where the finished checkpoint will be."""
        return join(self.folder, "model")

    def custom_job(self, options: list[str], text: str | None) -> dict[str, Any]:
        """The job as the service takes it.

        Args:
            options: of python -m train.
            text: gs:// address of the corpus; None if the options name one that the image has or fetches.
        """
        words = ["--name", self.name, "--processes", str(max(1, self.accelerator_count))]
        if text:
            words += ["--text", text]
        machine: dict[str, Any] = {
            "machine_type": self.machine_type or (GPU_MACHINE if self.accelerator_count else CPU_MACHINE)
        }
        if self.accelerator_count:
            machine |= {"accelerator_type": self.accelerator, "accelerator_count": self.accelerator_count}
        pool = {
            "machine_spec": machine,
            "replica_count": 1,
            "container_spec": {
                "image_uri": self.image,
                "command": ["python", "-m", "train.vertex.worker"],
                "args": [*words, "--", *options],
            },
        }
        # The first pool is the machine that the others find; the second one has all the others.
        pools = [pool] + ([{**pool, "replica_count": self.machines - 1}] if self.machines > 1 else [])
        # A machine that comes back alone would wait for the others, which have lost it: all begin again together.
        scheduling: dict[str, Any] = {"restart_job_on_worker_restart": self.machines > 1}
        if self.spot:
            scheduling["strategy"] = "SPOT"
        if self.max_hours is not None:
            scheduling["timeout"] = {"seconds": round(self.max_hours * 3600)}
        spec: dict[str, Any] = {
            "worker_pool_specs": pools,
            "scheduling": scheduling,
            "base_output_directory": {"output_uri_prefix": self.folder},
        }
        if self.service_account:
            spec["service_account"] = self.service_account
        return {"display_name": self.name, "labels": {**LABELS, RUN_LABEL: self.name}, "job_spec": spec}


def check_accelerator(accelerator: str, count: int) -> None:
    """Raise ConfigError unless a machine can have so many of these GPUs; a count of 0 asks for none."""
    if accelerator not in FAMILIES:
        raise ConfigError(f"accelerator is {accelerator!r}; choose one of {', '.join(FAMILIES)}")
    if count not in (0, *COUNTS):
        raise ConfigError(f"accelerator_count is {count}; choose 0, {', '.join(map(str, COUNTS[:-1]))} or {COUNTS[-1]}")


def check_name(name: str) -> None:
    """Raise ConfigError unless a run can be called that."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"name is {name!r}; give up to 63 lower-case letters, digits and dashes, beginning with a letter"
        )
