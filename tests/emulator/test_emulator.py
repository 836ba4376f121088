"""The emulator through the SDK: what the other tests take for granted of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import Any

import pytest

from tests.emulator.container import ROOT
from tests.emulator.emulator import Emulator
from tests.gpt.vertex.deploying import IMAGE, plain_container

BODY = b'{"instances": [{"prompt": "a"}]}'


@pytest.fixture
def sdk(emulator: Emulator) -> Any:
    from google.cloud import aiplatform

    emulator.predictor = plain_container()
    aiplatform.init(project="rehearsal", location="us-central1", api_endpoint=emulator.url, api_transport="rest")
    return aiplatform


def upload(sdk: Any, name: str, **more: Any) -> Any:
    return sdk.Model.upload(
        display_name=name, serving_container_image_uri=IMAGE, artifact_uri="gs://rehearsal-models/a", **more
    )


@pytest.fixture
def dedicated(sdk: Any) -> Any:
    endpoint = sdk.Endpoint.create(display_name="dedicated", dedicated_endpoint_enabled=True)
    endpoint.deploy(upload(sdk, "gpt"), machine_type="e2-standard-2")
    return endpoint


def test_models_have_versions_with_aliases(sdk: Any) -> None:
    first = upload(sdk, "gpt", model_id="gpt", version_aliases=["one"])
    second = upload(sdk, "gpt", parent_model="gpt", version_aliases=["two"], is_default_version=False)
    assert (first.version_id, second.version_id) == ("1", "2")
    assert sdk.Model("gpt").version_id == "1"
    assert sdk.Model("gpt@two").version_id == "2"
    second.versioning_registry.add_version_aliases(["default"], version="2")
    assert sdk.Model("gpt").version_id == "2"
    first.versioning_registry.delete_version("1")
    assert [version.version_id for version in second.versioning_registry.list_versions()] == ["2"]


def test_lists_are_filtered_and_ordered(sdk: Any) -> None:
    for name, labels in (("b", {"app": "gpt"}), ("a", {"app": "gpt"}), ("c", {})):
        upload(sdk, name, labels=labels)
    assert [model.display_name for model in sdk.Model.list(filter='labels.app="gpt"')] == ["b", "a"]
    assert [model.display_name for model in sdk.Model.list(order_by="display_name desc")] == ["c", "b", "a"]
    assert [model.display_name for model in sdk.Model.list(filter='display_name="c" AND NOT labels.app:*')] == ["c"]


def test_names_have_the_projects_number_and_another_project_is_forbidden(sdk: Any) -> None:
    from google.api_core.exceptions import Forbidden, NotFound

    assert upload(sdk, "gpt", model_id="gpt").resource_name.startswith("projects/123456789012/")
    with pytest.raises(Forbidden):
        sdk.Model("projects/somebodys/locations/us-central1/models/gpt")
    with pytest.raises(NotFound):
        sdk.Model("projects/rehearsal/locations/europe-west4/models/gpt")


def test_dedicated_endpoint_answers_only_under_its_own_name(dedicated: Any, emulator: Emulator) -> None:
    assert dedicated.predict([{"prompt": "a"}], timeout=10).predictions[0]["instance"] == {"prompt": "a"}
    headers = {"Content-Type": "application/json"}
    assert dedicated.raw_predict(BODY, headers, timeout=10).json()["predictions"][0]["instance"] == {"prompt": "a"}
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(f"{emulator.url}/v1/{dedicated.resource_name}:predict", BODY)


def test_shared_endpoint_splits_its_traffic_and_refuses_what_is_too_large(sdk: Any) -> None:
    from google.api_core.exceptions import BadRequest

    endpoint, model = sdk.Endpoint.create(display_name="shared"), upload(sdk, "gpt")
    with pytest.raises(BadRequest, match="No model is deployed"):
        endpoint.predict([{"prompt": "a"}], timeout=10)
    for percentage in (100, 50):
        endpoint.deploy(model, machine_type="e2-standard-2", traffic_percentage=percentage)
    answered = {endpoint.predict([{}], timeout=10).deployed_model_id for _ in range(40)}
    assert answered == set(endpoint.traffic_split)
    with pytest.raises(BadRequest, match="exceeds the limit"):
        endpoint.predict([{"prompt": "a" * 1_500_000}], timeout=10)


def test_container_has_its_contract_and_ends_with_its_deployment(dedicated: Any, emulator: Emulator) -> None:
    (container,) = emulator.endpoints.containers.values()
    assert dedicated.predict([{}], timeout=10).predictions[0]["text"] == "gs://rehearsal-models/a"
    dedicated.undeploy_all()
    assert container.process.poll() is not None


def test_faults_are_met_once(dedicated: Any, emulator: Emulator) -> None:
    import requests

    emulator.faults.answer(429, ":predict")
    with pytest.raises(ValueError, match="Status code:429"):
        dedicated.predict([{}], timeout=10)
    emulator.faults.hang(":predict")
    with pytest.raises(requests.ReadTimeout):
        dedicated.predict([{}], timeout=0.2)
    emulator.faults.truncate(0, ":streamRawPredict")
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        list(dedicated.stream_raw_predict(BODY, {}, timeout=10))
    emulator.faults.end(0, ":streamRawPredict")
    assert list(dedicated.stream_raw_predict(BODY, {}, timeout=10)) == []
    urllib.request.urlopen(f"{emulator.url}/faults?kind=answer&status=404&match=:predict", b"").close()
    with pytest.raises(ValueError, match="Status code:404"):
        dedicated.predict([{}], timeout=10)
    assert dedicated.predict([{}], timeout=10).predictions
    emulator.endpoints.kill()
    with pytest.raises(ValueError, match="Status code:503"):
        dedicated.predict([{}], timeout=10)


def job(sdk: Any, *scripts: str) -> Any:
    """A custom job of one worker pool a script."""
    pools = [
        {
            "machine_spec": {"machine_type": "n1-standard-4"},
            "replica_count": 1,
            "container_spec": {"image_uri": IMAGE, "command": ["python", "-c", script], "args": ["more"]},
        }
        for script in scripts
    ]
    return sdk.CustomJob(
        display_name="job",
        worker_pool_specs=pools,
        staging_bucket="gs://rehearsal-models",
        base_output_dir="gs://rehearsal-models/out",
    )


def ended(submitted: Any) -> str:
    """The state that a job ends in."""
    for _ in range(300):
        if (state := submitted.state.name) not in ("JOB_STATE_PENDING", "JOB_STATE_RUNNING"):
            return state
        time.sleep(0.05)
    raise AssertionError("the job does not end")


def test_custom_job_runs_its_pools_in_their_environment(sdk: Any, emulator: Emulator) -> None:
    script = (
        "import json, os, sys; spec = json.loads(os.environ['CLUSTER_SPEC']); "
        "print(spec['task'], len(spec['cluster']), os.environ['AIP_MODEL_DIR'], sys.argv[1:])"
    )
    submitted = job(sdk, script, script)
    submitted.submit()
    assert ended(submitted) == "JOB_STATE_SUCCEEDED"
    lines = emulator.custom_jobs.log(submitted.name).splitlines()
    rest = "2 gs://rehearsal-models/out/model/ ['more']"
    assert lines == [f"{{'type': 'workerpool{number}', 'index': 0}} {rest}" for number in (0, 1)]


def test_custom_job_fails_as_a_whole_and_is_cancelled_as_a_whole(sdk: Any, emulator: Emulator) -> None:
    failing = job(sdk, "import time; time.sleep(60)", "raise SystemExit(3)")
    failing.submit()
    assert ended(failing) == "JOB_STATE_FAILED"
    assert "workerpool1-0 exited with a non-zero status of 3" in failing.error.message
    waiting = job(sdk, "import time; time.sleep(60)")
    waiting.submit()
    while waiting.state.name != "JOB_STATE_RUNNING":
        time.sleep(0.05)
    waiting.cancel()
    assert ended(waiting) == "JOB_STATE_CANCELLED"


@pytest.mark.parametrize(("run", "state"), [(None, "SUCCEEDED"), ("runs", "SUCCEEDED"), ("fails", "FAILED")])
def test_pipeline_job_is_recorded_and_run_as_the_test_says(
    sdk: Any, emulator: Emulator, run: str | None, state: str
) -> None:
    from google.cloud.aiplatform_v1 import PipelineServiceClient

    seen = []

    def execute(resource: dict[str, Any]) -> None:
        seen.append(resource["displayName"])
        if run == "fails":
            raise ValueError("the gate failed")

    emulator.pipeline_jobs.run = None if run is None else execute
    client = PipelineServiceClient(client_options={"api_endpoint": emulator.url}, transport="rest")
    job: Any = {
        "display_name": "pipeline",
        "pipeline_spec": {"root": {}},
        "runtime_config": {"gcs_output_directory": "gs://rehearsal-models/pipeline"},
    }
    created = client.create_pipeline_job(
        parent="projects/rehearsal/locations/us-central1",
        pipeline_job=job,
        pipeline_job_id="pipeline-1",
        timeout=10,
    )
    for _ in range(100):
        found = client.get_pipeline_job(name=created.name, timeout=10)
        if found.state.name in ("PIPELINE_STATE_SUCCEEDED", "PIPELINE_STATE_FAILED"):
            break
        time.sleep(0.02)
    assert found.state.name == f"PIPELINE_STATE_{state}"
    assert seen == ([] if run is None else ["pipeline"])
    assert ("the gate failed" in found.error.message) == (run == "fails")


def test_by_hand_it_prints_what_to_export_and_serves_until_ctrl_c() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.emulator"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        exports = dict(process.stdout.readline().removeprefix("export ").strip().split("=", 1) for _ in range(6))
        assert set(exports) >= {"VERTEX_API_ENDPOINT", "STORAGE_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS"}
        assert "gs://rehearsal-models" in process.stderr.readline()
        with urllib.request.urlopen(f"{exports['STORAGE_EMULATOR_HOST']}/storage/v1/b", timeout=10) as answer:
            assert b"rehearsal-models" in answer.read()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
