"""Machine: what a deployed model runs on, with or without GPUs, and how many of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from gpt.errors import ConfigError

DEFAULT_KIND = "e2-standard-2"
# Which machines a GPU can be had in, by the beginning of their names.
FAMILIES = {
    "NVIDIA_TESLA_T4": "n1",
    "NVIDIA_TESLA_P4": "n1",
    "NVIDIA_TESLA_P100": "n1",
    "NVIDIA_TESLA_V100": "n1",
    "NVIDIA_L4": "g2",
    "NVIDIA_TESLA_A100": "a2",
    "NVIDIA_A100_80GB": "a2",
    "NVIDIA_H100_80GB": "a3",
    "NVIDIA_H100_MEGA_80GB": "a3",
    "NVIDIA_H200_141GB": "a3",
}
DEFAULT_KINDS = {"n1": "n1-standard-4", "g2": "g2-standard-4"}
COUNTS = (1, 2, 4, 8)
MAX_REPLICAS = 100


@dataclass(frozen=True)
class Machine:
    """Machines of one kind.

    Attributes:
        kind: for example "n1-standard-4".
        accelerator: a GPU's name, a key of FAMILIES; empty for none.
        accelerator_count: GPUs of each machine, 0 for none.
        min_replicas, max_replicas: machines that always run, and at most under load.
    """

    kind: str = DEFAULT_KIND
    accelerator: str = ""
    accelerator_count: int = 0
    min_replicas: int = 1
    max_replicas: int = 1

    @classmethod
    def from_options(
        cls,
        kind: str | None = None,
        accelerator: str | None = None,
        accelerator_count: int | None = None,
        min_replicas: int = 1,
        max_replicas: int | None = None,
    ) -> Machine:
        """What the options name; None stands for one that was not given.

        Raises:
            ConfigError: a value is out of range, or machine and GPU do not go together.
        """
        if accelerator is None and accelerator_count is not None:
            raise ConfigError(
                f"accelerator_count is {accelerator_count} and no accelerator is named; "
                f"name one, such as NVIDIA_TESLA_T4, or leave the count out"
            )
        if accelerator is not None and accelerator not in FAMILIES:
            raise ConfigError(f"accelerator is {accelerator!r}; choose one of {', '.join(FAMILIES)}")
        count = 0 if accelerator is None else 1 if accelerator_count is None else accelerator_count
        if accelerator is not None and count not in COUNTS:
            raise ConfigError(
                f"accelerator_count is {count}; choose {', '.join(map(str, COUNTS[:-1]))} or {COUNTS[-1]}"
            )
        kind = kind or _default_kind(accelerator)
        if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)+", kind):
            raise ConfigError(f"machine_type is {kind!r}; give a name such as {DEFAULT_KIND} or n1-standard-4")
        if accelerator is not None and kind.partition("-")[0] != FAMILIES[accelerator]:
            raise ConfigError(
                f"machine_type is {kind!r}, which cannot have {accelerator}; "
                f"choose one that begins with {FAMILIES[accelerator]}-"
            )
        if not 1 <= min_replicas <= MAX_REPLICAS:
            raise ConfigError(f"min_replicas is {min_replicas}; give a number from 1 to {MAX_REPLICAS}")
        most = min_replicas if max_replicas is None else max_replicas
        if not min_replicas <= most <= MAX_REPLICAS:
            raise ConfigError(
                f"max_replicas is {most}; give a number from min_replicas ({min_replicas}) to {MAX_REPLICAS}"
            )
        return cls(kind, accelerator or "", count, min_replicas, most)

    @classmethod
    def from_resources(cls, resources: Any) -> Machine:
        """What the service says of a deployed model's dedicated_resources."""
        spec = resources.machine_spec
        return cls(
            spec.machine_type,
            spec.accelerator_type.name if spec.accelerator_count else "",
            spec.accelerator_count,
            resources.min_replica_count,
            resources.max_replica_count or resources.min_replica_count,
        )

    def to_resources(self) -> dict[str, Any]:
        """The same for the service."""
        spec: dict[str, Any] = {"machine_type": self.kind}
        if self.accelerator:
            spec |= {"accelerator_type": self.accelerator, "accelerator_count": self.accelerator_count}
        return {
            "machine_spec": spec,
            "min_replica_count": self.min_replicas,
            "max_replica_count": self.max_replicas,
        }

    def __str__(self) -> str:
        gpus = f" with {self.accelerator_count} {self.accelerator}" if self.accelerator else ""
        if self.max_replicas == 1:
            return f"one {self.kind}{gpus}"
        if self.max_replicas == self.min_replicas:
            return f"{self.min_replicas} {self.kind}{gpus}"
        return f"{self.min_replicas} to {self.max_replicas} {self.kind}{gpus}"


def _default_kind(accelerator: str | None) -> str:
    if accelerator is None:
        return DEFAULT_KIND
    family = FAMILIES[accelerator]
    if family not in DEFAULT_KINDS:
        raise ConfigError(
            f"machine_type is not given, and {accelerator} is had in several; name one that begins with {family}-"
        )
    return DEFAULT_KINDS[family]
