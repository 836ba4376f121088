"""Machines and GPUs: which go together, and what the service is told."""

from __future__ import annotations

from typing import Any

import pytest

from gpt.errors import ConfigError
from gpt.vertex.machine import FAMILIES, Machine


def test_every_gpu_is_one_that_the_sdk_knows() -> None:
    from google.cloud.aiplatform_v1.types import AcceleratorType

    assert set(FAMILIES) <= set(AcceleratorType.__members__)


@pytest.mark.parametrize(
    ("options", "machine"),
    [
        ({}, Machine("e2-standard-2")),
        ({"kind": "n1-highmem-8", "min_replicas": 2}, Machine("n1-highmem-8", min_replicas=2, max_replicas=2)),
        ({"max_replicas": 3}, Machine(max_replicas=3)),
        ({"accelerator": "NVIDIA_TESLA_T4"}, Machine("n1-standard-4", "NVIDIA_TESLA_T4", 1)),
        ({"accelerator": "NVIDIA_L4", "accelerator_count": 2}, Machine("g2-standard-4", "NVIDIA_L4", 2)),
        (
            {"kind": "a2-highgpu-1g", "accelerator": "NVIDIA_TESLA_A100"},
            Machine("a2-highgpu-1g", "NVIDIA_TESLA_A100", 1),
        ),
    ],
)
def test_options_make_a_machine(options: dict[str, Any], machine: Machine) -> None:
    assert Machine.from_options(**options) == machine


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"accelerator": "NVIDIA_T4"}, "accelerator is 'NVIDIA_T4'; choose one of NVIDIA_TESLA_T4, "),
        ({"accelerator_count": 1}, "accelerator_count is 1 and no accelerator is named; name one"),
        ({"accelerator": "NVIDIA_L4", "accelerator_count": 3}, "accelerator_count is 3; choose 1, 2, 4 or 8"),
        ({"accelerator": "NVIDIA_L4", "accelerator_count": 0}, "accelerator_count is 0; choose 1, 2, 4 or 8"),
        (
            {"kind": "e2-standard-2", "accelerator": "NVIDIA_TESLA_T4"},
            "machine_type is 'e2-standard-2', which cannot have NVIDIA_TESLA_T4; choose one that begins with n1-",
        ),
        ({"accelerator": "NVIDIA_H100_80GB"}, "machine_type is not given, and NVIDIA_H100_80GB is had in several"),
        ({"kind": "big"}, "machine_type is 'big'; give a name such as e2-standard-2 or n1-standard-4"),
        ({"min_replicas": 0}, "min_replicas is 0; give a number from 1 to 100"),
        ({"min_replicas": 2, "max_replicas": 1}, r"max_replicas is 1; give a number from min_replicas \(2\) to 100"),
        ({"max_replicas": 101}, r"max_replicas is 101; give a number from min_replicas \(1\) to 100"),
    ],
)
def test_options_that_do_not_go_together_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        Machine.from_options(**options)


@pytest.mark.parametrize(
    "machine",
    [Machine(), Machine("n1-standard-4", "NVIDIA_TESLA_T4", 2, 1, 3), Machine("g2-standard-4", "NVIDIA_L4", 1, 2, 2)],
)
def test_service_gives_back_the_machine_that_it_was_told(machine: Machine) -> None:
    from google.cloud.aiplatform_v1.types import DedicatedResources

    assert Machine.from_resources(DedicatedResources(machine.to_resources())) == machine


def test_machines_without_a_maximum_are_as_many_as_the_minimum() -> None:
    from google.cloud.aiplatform_v1.types import DedicatedResources

    resources = DedicatedResources(machine_spec={"machine_type": "e2-standard-2"}, min_replica_count=2)
    assert Machine.from_resources(resources) == Machine(min_replicas=2, max_replicas=2)


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        (Machine(), "one e2-standard-2"),
        (Machine("n1-standard-4", "NVIDIA_TESLA_T4", 2), "one n1-standard-4 with 2 NVIDIA_TESLA_T4"),
        (Machine(min_replicas=2, max_replicas=2), "2 e2-standard-2"),
        (Machine(max_replicas=3), "1 to 3 e2-standard-2"),
    ],
)
def test_machine_is_told_in_words(machine: Machine, words: str) -> None:
    assert str(machine) == words
