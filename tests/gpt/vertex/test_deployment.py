"""Deploying, against the emulator through the real SDK: from nothing, again, anew, and what can go wrong on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

import gpt.vertex.operation
from gpt.vertex.deploy import main
from tests.emulator.emulator import BUCKET, Emulator
from tests.gpt.vertex.deploying import (
    IMAGE,
    PROGRAM,
    changes,
    deploy,
    endpoint,
    make_checkpoint,
    plain_container,
    sentence,
    versions,
)

T4 = 5  # the service's number of NVIDIA_TESLA_T4


def test_real_predictor_serves_what_was_deployed_from_nothing(
    emulator: Emulator, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert deploy(checkpoint) == 0
    captured = capsys.readouterr()
    assert captured.out == "gpt\n"
    assert "It runs on one e2-standard-2, which costs money until this undeploys it:" in captured.err
    assert captured.err.splitlines()[-1] == f"{PROGRAM} undeploy gpt --project rehearsal --location us-central1"

    names = emulator.storage.names(BUCKET)
    assert {Path(name).name for name in names} == {path.name for path in checkpoint.iterdir()}
    (version,) = versions(emulator).values()
    assert version["artifactUri"] == f"gs://{BUCKET}/{Path(names[0]).parent}"
    assert version["containerSpec"]["imageUri"] == IMAGE
    found = endpoint(emulator)
    assert found["dedicatedEndpointEnabled"] is True
    assert found["clientConnectionConfig"] == {"inferenceTimeout": "600s"}
    assert list(found["trafficSplit"].values()) == [100]

    from google.cloud import aiplatform

    answer = aiplatform.Endpoint("gpt").predict([{"prompt": "abc"}], {"max_new_tokens": 3, "seed": 1}, timeout=30)
    assert len(answer.predictions[0]["text"]) == 3
    assert answer.predictions[0]["finish_reason"] == "length"


def test_again_changes_nothing(cloud: Emulator, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert deploy(checkpoint) == 0
    cloud.requests.clear()
    capsys.readouterr()
    assert deploy(checkpoint) == 0
    assert changes(cloud) == []
    assert capsys.readouterr().out == "gpt\n"


def test_new_checkpoint_takes_the_traffic_and_the_old_one_goes(
    cloud: Emulator, checkpoint: Path, tmp_path: Path
) -> None:
    assert deploy(checkpoint) == 0
    (old,) = cloud.endpoints.containers.values()
    assert deploy(make_checkpoint(tmp_path / "second", seed=1)) == 0
    assert list(versions(cloud)) == ["1", "2"]
    assert "default" in versions(cloud)["2"]["versionAliases"]
    (deployed,) = endpoint(cloud)["deployedModels"]
    assert deployed["modelVersionId"] == "2"
    assert endpoint(cloud)["trafficSplit"] == {deployed["id"]: 100}
    assert old.process.poll() is not None


def test_earlier_checkpoint_is_its_version_again(cloud: Emulator, checkpoint: Path, tmp_path: Path) -> None:
    assert deploy(checkpoint) == 0
    assert deploy(make_checkpoint(tmp_path / "second", seed=1)) == 0
    written = cloud.storage.writes
    assert deploy(checkpoint) == 0
    assert cloud.storage.writes == written
    assert list(versions(cloud)) == ["1", "2"]
    assert "default" in versions(cloud)["1"]["versionAliases"]
    assert [one["modelVersionId"] for one in endpoint(cloud)["deployedModels"]] == ["1"]


def test_new_image_is_a_new_version_of_the_same_files(cloud: Emulator, checkpoint: Path) -> None:
    assert deploy(checkpoint) == 0
    written = cloud.storage.writes
    assert deploy(checkpoint, image=f"{IMAGE}1") == 0
    assert cloud.storage.writes == written
    assert versions(cloud)["2"]["containerSpec"]["imageUri"] == f"{IMAGE}1"


def test_other_machine_takes_the_place_of_the_first(cloud: Emulator, checkpoint: Path) -> None:
    assert deploy(checkpoint) == 0
    assert deploy(checkpoint, "--accelerator", "NVIDIA_TESLA_T4", "--max-replicas", "2") == 0
    (deployed,) = endpoint(cloud)["deployedModels"]
    assert deployed["dedicatedResources"] == {
        "machineSpec": {"machineType": "n1-standard-4", "acceleratorType": T4, "acceleratorCount": 1},
        "minReplicaCount": 1,
        "maxReplicaCount": 2,
    }
    cloud.requests.clear()
    assert deploy(checkpoint, "--accelerator", "NVIDIA_TESLA_T4", "--max-replicas", "2") == 0
    assert changes(cloud) == []


def test_only_the_files_that_are_missing_are_uploaded(cloud: Emulator, checkpoint: Path) -> None:
    assert deploy(checkpoint) == 0
    lost = next(name for name in cloud.storage.names(BUCKET) if name.endswith("config.json"))
    del cloud.storage.buckets[BUCKET].objects[lost]
    written = cloud.storage.writes
    assert deploy(checkpoint) == 0
    assert cloud.storage.writes == written + 1
    assert lost in cloud.storage.names(BUCKET)


def test_dry_run_prints_the_steps_and_changes_nothing(
    cloud: Emulator, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def plan(folder: Path, *more: str, **changed: str) -> list[str]:
        cloud.requests.clear()
        capsys.readouterr()
        assert deploy(folder, *more, "--dry-run", **changed) == 0
        assert changes(cloud) == []
        return capsys.readouterr().out.splitlines()

    first = plan(checkpoint)
    assert [line.split()[0] for line in first] == ["upload", "register", "make", "deploy", "send"]
    assert plan(checkpoint, "--create-bucket", bucket="another-bucket")[0] == "make the bucket gs://another-bucket"
    assert deploy(checkpoint) == 0
    assert [line.split()[0] for line in plan(checkpoint)] == ["nothing", "nothing", "nothing", "send"]
    assert [line.split()[0] for line in plan(make_checkpoint(tmp_path / "second", seed=1))] == [
        "upload",
        "register",
        "deploy",
        "move",
        "send",
        "undeploy",
    ]


def test_bucket_that_is_missing_is_named_with_the_command_that_makes_it(
    cloud: Emulator, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert deploy(checkpoint, bucket="another-bucket") == 1
    make = "`gcloud storage buckets create gs://another-bucket --project=rehearsal --location=us-central1`"
    assert sentence(capsys).endswith(
        f"the bucket gs://another-bucket is not there; add --create-bucket, or make it with {make}"
    )
    assert deploy(checkpoint, "--create-bucket", bucket="another-bucket") == 0
    assert cloud.storage.buckets["another-bucket"].resource["location"] == "US-CENTRAL1"


@pytest.mark.parametrize("kind", ["models", "endpoints"])
def test_what_others_made_is_left_alone(
    cloud: Emulator, checkpoint: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert deploy(checkpoint) == 0
    kept = endpoint(cloud) if kind == "endpoints" else versions(cloud)["1"]
    kept["labels"] = {"app": "another"}
    cloud.requests.clear()
    capsys.readouterr()
    for words in (
        [str(checkpoint), "--bucket", f"gs://{BUCKET}", "--image", IMAGE],
        ["undeploy", "--yes"],
        ["delete", "--yes"],
    ):
        assert main(words) == 2
        assert "was not made by this command; choose another name with --name" in sentence(capsys)
    assert changes(cloud) == []


def test_shared_endpoint_of_that_name_is_refused(
    cloud: Emulator, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert deploy(checkpoint) == 0
    endpoint(cloud)["dedicatedEndpointEnabled"] = False
    capsys.readouterr()
    assert deploy(checkpoint) == 2
    assert "is a shared one; choose another name with --name, or delete it" in sentence(capsys)


def test_old_version_goes_only_when_the_new_one_answers(cloud: Emulator, checkpoint: Path, tmp_path: Path) -> None:
    assert deploy(make_checkpoint(tmp_path / "first", seed=1)) == 0
    cloud.endpoints.late_requests = 1
    cloud.requests.clear()
    assert deploy(checkpoint) == 0
    verbs = [request.rpartition(":")[2] for request in cloud.requests if ":" in request]
    assert verbs == ["upload", "deployModel", "predict", "predict", "undeployModel"]


def test_container_that_does_not_start_fails_the_deployment(
    cloud: Emulator, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud.predictor = plain_container("broken")
    assert deploy(checkpoint) == 1
    assert "no model can be loaded" in sentence(capsys)
    assert endpoint(cloud)["deployedModels"] == []
    cloud.predictor = plain_container()
    assert deploy(checkpoint) == 0


@pytest.mark.parametrize("replaces", [False, True])
def test_version_that_does_not_answer_is_taken_back(
    cloud: Emulator, checkpoint: Path, tmp_path: Path, replaces: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    if replaces:
        assert deploy(make_checkpoint(tmp_path / "good", seed=1)) == 0
    before = [one["id"] for one in endpoint(cloud)["deployedModels"]] if replaces else []
    cloud.predictor = plain_container("500")
    capsys.readouterr()
    assert deploy(checkpoint) == 1
    ends = "version 1 serves on" if replaces else "nothing is deployed now"
    assert "did not answer its first request (endpoint gpt failed" in (said := sentence(capsys))
    assert f"it is undeployed again, and {ends}" in said
    assert [one["id"] for one in endpoint(cloud)["deployedModels"]] == before
    assert endpoint(cloud)["trafficSplit"] == dict.fromkeys(before, 100)


def test_request_that_fails_undeploys_nothing_that_served_before(
    cloud: Emulator, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert deploy(checkpoint) == 0
    cloud.faults.answer(429, ":predict")
    cloud.requests.clear()
    capsys.readouterr()
    assert deploy(checkpoint) == 1
    assert "takes no more requests now" in sentence(capsys)
    assert changes(cloud) == []


def test_name_that_is_not_in_the_network_yet_is_asked_again(cloud: Emulator, checkpoint: Path) -> None:
    cloud.faults.answer(503, ":predict")
    assert deploy(checkpoint) == 0
    assert len([request for request in cloud.requests if request.endswith(":predict")]) == 2


@pytest.mark.parametrize(
    ("match", "status", "words"),
    [
        ("POST /upload/storage", 403, "the account may not use"),
        ("models:upload", 401, "the credentials were not accepted"),
        ("models:upload", 403, "the account may not use model gpt in us-central1 of project rehearsal"),
        ("POST /v1/projects/rehearsal/locations/us-central1/endpoints", 429, "takes no more requests now"),
        (":deployModel", 503, "cannot be reached now"),
        (":deployModel", 404, "was not found"),
        ("GET /v1/projects/rehearsal/locations/us-central1/endpoints/gpt", 500, "failed"),
    ],
)
def test_refusal_is_one_sentence_and_the_next_run_completes(
    cloud: Emulator, checkpoint: Path, match: str, status: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud.faults.answer(status, match, times=3)  # the libraries ask a second time after some of them
    assert deploy(checkpoint) == 1
    assert words in sentence(capsys)
    cloud.faults.clear()
    assert deploy(checkpoint) == 0
    assert (len(versions(cloud)), len(endpoint(cloud)["deployedModels"])) == (1, 1)


@pytest.mark.parametrize(
    ("method", "status", "words"),
    [
        (
            "UploadModel",
            429,
            "registering the model gpt in us-central1 of project rehearsal takes no more requests now",
        ),
        (
            "CreateEndpoint",
            500,
            "making the endpoint gpt in us-central1 of project rehearsal failed (An internal error",
        ),
        ("DeployModel", 412, "deploying version 1 to one e2-standard-2 at the endpoint gpt in us-central1 of project"),
    ],
)
def test_operation_that_fails_is_one_sentence_and_the_next_run_completes(
    cloud: Emulator, checkpoint: Path, method: str, status: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud.faults.fail(method, status)
    assert deploy(checkpoint) == 1
    assert words in sentence(capsys)
    assert deploy(checkpoint) == 0
    assert (len(versions(cloud)), len(endpoint(cloud)["deployedModels"])) == (1, 1)


def test_operation_is_waited_for_although_asking_fails_at_times(cloud: Emulator, checkpoint: Path) -> None:
    cloud.faults.slow("CreateEndpoint", 0.5)
    cloud.faults.answer(503, "/endpoints/gpt/operations/", times=4)
    assert deploy(checkpoint) == 0


def test_long_operation_tells_that_it_goes_on(
    cloud: Emulator, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpt.vertex.operation, "SHOW_S", 0.1)
    cloud.faults.slow("UploadModel", 1)
    assert deploy(checkpoint) == 0
    told = "still registering the model gpt in us-central1 of project rehearsal, 0 min 00 s"
    assert told in capsys.readouterr().err.splitlines()


def test_checkpoint_that_changes_meanwhile_is_refused_and_none_of_it_stays(
    cloud: Emulator, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from gpt.vertex.bucket import Storage

    upload = Storage.upload

    def upload_late(self: Storage, path: Path, address: str) -> None:
        (checkpoint / "config.json").touch()
        upload(self, path, address)

    monkeypatch.setattr(Storage, "upload", upload_late)
    assert deploy(checkpoint) == 1
    assert f"the checkpoint {checkpoint} changed while it was uploaded" in sentence(capsys)
    assert cloud.storage.names(BUCKET) == []
    assert cloud.models.versions == {}
