"""A training command as a custom job: what the service is asked for, and what is refused before it costs money."""

from __future__ import annotations

from typing import Any

import pytest

from gpt.errors import ConfigError
from train.vertex.job_spec import JobSpec

PLACE: dict[str, Any] = {"name": "tiny-1", "bucket": "gs://my-bucket/gpt/", "image": "registry/gpt-train:1"}


def test_one_gpu_is_one_machine_with_the_command_and_its_options() -> None:
    job = JobSpec(**PLACE).custom_job(["--preset", "tiny"], "gs://my-bucket/a/text.txt")
    assert job == {
        "display_name": "tiny-1",
        "labels": {"app": "gpt", "gpt-run": "tiny-1"},
        "job_spec": {
            "worker_pool_specs": [
                {
                    "machine_spec": {
                        "machine_type": "g2-standard-8",
                        "accelerator_type": "NVIDIA_L4",
                        "accelerator_count": 1,
                    },
                    "replica_count": 1,
                    "container_spec": {
                        "image_uri": "registry/gpt-train:1",
                        "command": ["python", "-m", "train.vertex.worker"],
                        "args": [
                            *("--name", "tiny-1", "--processes", "1", "--text", "gs://my-bucket/a/text.txt"),
                            *("--", "--preset", "tiny"),
                        ],
                    },
                }
            ],
            "scheduling": {"restart_job_on_worker_restart": False},
            "base_output_directory": {"output_uri_prefix": "gs://my-bucket/gpt/runs/tiny-1"},
        },
    }


def test_several_gpus_are_as_many_processes() -> None:
    spec = JobSpec(**PLACE, machine_type="n1-standard-32", accelerator="NVIDIA_TESLA_T4", accelerator_count=4)
    (pool,) = spec.custom_job([], None)["job_spec"]["worker_pool_specs"]
    assert pool["machine_spec"]["accelerator_count"] == 4
    assert pool["container_spec"]["args"][2:4] == ["--processes", "4"]


def test_several_machines_are_a_first_one_and_a_pool_of_others_that_begin_again_together() -> None:
    job = JobSpec(**PLACE, machines=3).custom_job([], None)["job_spec"]
    assert [pool["replica_count"] for pool in job["worker_pool_specs"]] == [1, 2]
    assert job["worker_pool_specs"][0]["container_spec"] == job["worker_pool_specs"][1]["container_spec"]
    assert job["scheduling"] == {"restart_job_on_worker_restart": True}


def test_machine_without_gpu_has_none_in_its_specification() -> None:
    (pool,) = JobSpec(**PLACE, accelerator_count=0).custom_job([], None)["job_spec"]["worker_pool_specs"]
    assert pool["machine_spec"] == {"machine_type": "n1-standard-8"}
    assert pool["container_spec"]["args"] == ["--name", "tiny-1", "--processes", "1", "--"]


def test_money_and_account_are_the_schedulers() -> None:
    job = JobSpec(**PLACE, spot=True, max_hours=1.5, service_account="me@p.iam.gserviceaccount.com").custom_job(
        [], None
    )
    assert job["job_spec"]["scheduling"] == {
        "restart_job_on_worker_restart": False,
        "strategy": "SPOT",
        "timeout": {"seconds": 5400},
    }
    assert job["job_spec"]["service_account"] == "me@p.iam.gserviceaccount.com"


def test_specification_is_one_that_the_sdk_reads() -> None:
    from google.cloud.aiplatform_v1.types import AcceleratorType, CustomJob, Scheduling

    spec = JobSpec(**PLACE, machines=2, spot=True, max_hours=2)
    job = CustomJob(spec.custom_job(["--preset", "tiny"], None))
    assert job.job_spec.worker_pool_specs[1].machine_spec.accelerator_type == AcceleratorType.NVIDIA_L4
    assert job.job_spec.scheduling.strategy == Scheduling.Strategy.SPOT
    assert job.job_spec.scheduling.timeout.total_seconds() == 7200


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "Tiny_1"}, "name is 'Tiny_1'; give up to 63 lower-case letters, digits and dashes"),
        ({"name": "tiny-"}, "name is 'tiny-'"),
        ({"name": "a" * 64}, "name is 'aaa"),
        ({"bucket": "my-bucket"}, "bucket is 'my-bucket'; give gs://"),
        ({"image": ""}, "image is ''; give the address"),
        ({"image": "a b"}, "image is 'a b'; give the address"),
        ({"accelerator": "L4"}, "accelerator is 'L4'; choose one of NVIDIA_TESLA_T4"),
        ({"accelerator_count": -1}, "accelerator_count is -1; choose 0, 1, 2, 4 or 8"),
        ({"machines": 0}, "machines is 0; give a number from 1 to 100"),
        ({"max_hours": 0.0}, "max_hours is 0.0; give a number above 0"),
        ({"max_hours": float("nan")}, "max_hours is nan; give a number above 0"),
        (
            {"accelerator_count": 2},
            "machine_type is not given, and g2-standard-8 has one NVIDIA_L4, not 2 of NVIDIA_L4",
        ),
        ({"machine_type": "n1-standard-8"}, "machine_type is 'n1-standard-8', which cannot have NVIDIA_L4"),
        ({"accelerator": "NVIDIA_TESLA_T4"}, "machine_type is not given, and g2-standard-8 has one NVIDIA_L4"),
    ],
)
def test_setting_out_of_range_is_one_sentence(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        JobSpec(**{**PLACE, **settings})
    assert str(refused.value).startswith(message)
