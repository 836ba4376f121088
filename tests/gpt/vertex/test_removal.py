"""Undeploying and deleting: asked for first, whole, and completed after an interruption."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from gpt.vertex.deploy import main
from tests.emulator.emulator import BUCKET, Emulator
from tests.gpt.vertex.deploying import changes, deploy, endpoint, make_checkpoint, sentence


class Terminal(io.StringIO):
    """Somebody who types."""

    def isatty(self) -> bool:
        return True


def typed(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(text))


@pytest.fixture
def deployed(cloud: Emulator, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> Emulator:
    """The emulator with a checkpoint that serves."""
    assert deploy(checkpoint) == 0
    cloud.requests.clear()
    capsys.readouterr()
    return cloud


@pytest.mark.parametrize("command", ["undeploy", "delete"])
def test_without_a_terminal_nothing_is_done_unless_told(
    deployed: Emulator, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert main([command]) == 2
    assert sentence(capsys) == f"{command} asks first, and there is no terminal to ask on; add --yes"
    assert deployed.requests == []


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
@pytest.mark.parametrize("command", ["undeploy", "delete"])
def test_anything_but_yes_changes_nothing(
    deployed: Emulator, command: str, answer: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed(monkeypatch, answer)
    assert main([command]) == 0
    assert capsys.readouterr().err.endswith("nothing was changed\n")
    assert changes(deployed) == []


def test_undeploying_stops_the_machine_and_keeps_the_endpoint(
    deployed: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (container,) = deployed.endpoints.containers.values()
    typed(monkeypatch, "y\n")
    assert main(["undeploy"]) == 0
    asked = "This stops version 1 on one e2-standard-2; requests to gpt fail from then on. Undeploy? [y/N] "
    assert asked in capsys.readouterr().err
    assert container.process.poll() is not None
    assert endpoint(deployed)["deployedModels"] == []
    assert main(["undeploy", "--yes"]) == 0
    assert "nothing is deployed to gpt" in capsys.readouterr().err


def test_undeployed_checkpoint_is_deployed_again_from_what_is_there(deployed: Emulator, checkpoint: Path) -> None:
    assert main(["undeploy", "--yes"]) == 0
    deployed.requests.clear()
    assert deploy(checkpoint) == 0
    assert [request.rpartition(":")[2] for request in changes(deployed)] == ["deployModel"]


def test_every_model_goes_however_the_traffic_is_split(deployed: Emulator, checkpoint: Path) -> None:
    from google.cloud import aiplatform

    found = aiplatform.Endpoint("gpt")
    found.deploy(aiplatform.Model("gpt"), machine_type="e2-standard-4", traffic_percentage=50)
    assert list(endpoint(deployed)["trafficSplit"].values()) == [50, 50]
    assert main(["undeploy", "--yes"]) == 0
    assert endpoint(deployed)["deployedModels"] == []


def test_deleting_names_all_that_goes_and_leaves_nothing(
    deployed: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert deploy(make_checkpoint(tmp_path / "second", seed=1)) == 0
    deployed.storage.put(BUCKET, "something/else", b"")
    typed(monkeypatch, "yes\n")
    assert main(["delete", "--files"]) == 0
    question = capsys.readouterr().err
    assert (
        "This deletes version 2 on one e2-standard-2, the endpoint gpt, the model gpt with 2 versions, gs://"
        in question
    )
    assert question.count(f"gs://{BUCKET}/checkpoints/") >= 4  # asked about, and told while they go
    assert (deployed.endpoints.endpoints, deployed.models.versions) == ({}, {})
    assert deployed.storage.names(BUCKET) == ["something/else"]


def test_files_stay_unless_told(deployed: Emulator) -> None:
    names = deployed.storage.names(BUCKET)
    assert main(["delete", "--yes"]) == 0
    assert deployed.storage.names(BUCKET) == names


@pytest.mark.parametrize("fault", ["UndeployModel", "DeleteEndpoint", "DeleteModel"])
def test_deletion_that_fails_is_completed_by_the_same_command(
    deployed: Emulator, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    deployed.faults.fail(fault)
    assert main(["delete", "--yes", "--files"]) == 1
    assert "failed (An internal error has occurred)" in sentence(capsys)
    assert main(["delete", "--yes", "--files"]) == 0
    assert (deployed.endpoints.endpoints, deployed.models.versions) == ({}, {})
    assert deployed.storage.names(BUCKET) == []


@pytest.mark.parametrize("command", ["undeploy", "delete"])
def test_name_that_is_not_there_is_told(cloud: Emulator, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "another", "--yes"]) == 1
    assert "there is no endpoint and no model another in us-central1 of project rehearsal" in sentence(capsys)


def test_list_shows_every_endpoint_of_ours(deployed: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    from google.cloud import aiplatform

    aiplatform.Endpoint.create(display_name="somebody's")
    assert main(["list"]) == 0
    line = capsys.readouterr().out
    assert line.startswith("gpt\tversion 1\t100 %\tone e2-standard-2\tsince 20")
    assert main(["undeploy", "--yes"]) == 0
    assert main(["list"]) == 0
    assert capsys.readouterr().out == "gpt\tnothing deployed\n"
    assert main(["delete", "--yes"]) == 0
    capsys.readouterr()
    assert main(["list"]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "there are no endpoints of this project in us-central1 of rehearsal" in captured.err
