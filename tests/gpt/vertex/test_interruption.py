"""A deployment that is killed anywhere is completed by the same command, which then deploys nothing twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpt.vertex.deploy import main
from tests.emulator.emulator import BUCKET, Emulator
from tests.gpt.vertex.deploying import PROGRAM, ROOT, deploy, endpoint, make_checkpoint, options, versions

WAIT_S = 60
SLOW_S = 1.5  # an operation under way when its caller is killed, and done soon after
# Where the command is when it is killed: the request it waits for, and the operation that goes on without it.
STAGES = {
    "uploading": ("POST /upload/storage", None),
    "registering": ("models:upload", "UploadModel"),
    "making the endpoint": ("/us-central1/endpoints", "CreateEndpoint"),
    "deploying": (":deployModel", "DeployModel"),
    "moving the traffic": ("PATCH ", None),
    "asking": (":predict", None),
    "undeploying": (":undeployModel", "UndeployModel"),
}
DEFAULT = ("deploying",)


@pytest.fixture(autouse=True)
def _sdk() -> None:
    """Import it now: the second command must come while what the first began is under way."""
    from google.cloud import aiplatform  # noqa: F401


def start(checkpoint: Path, *more: str) -> subprocess.Popen[str]:
    """Start the command as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "gpt.vertex.deploy", *options(checkpoint, *more)],
        cwd=ROOT,
        env=os.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(emulator: Emulator, stage: str) -> None:
    """Wait until the command's request of this stage has come, and what it begins is under way."""
    request, operation = STAGES[stage]
    ends = time.monotonic() + WAIT_S
    while time.monotonic() < ends:
        came = any(request in f"{line} " for line in emulator.requests if "POST /token" not in line)
        if came and (operation is None or emulator.operations.under_way()):
            return
        time.sleep(0.02)
    raise AssertionError(f"the command did not come to {stage}: {emulator.requests}")


def prepare(emulator: Emulator, stage: str) -> None:
    """Let the command wait at this stage for as long as it takes to end it."""
    request, operation = STAGES[stage]
    if operation is None:
        emulator.faults.hang(request)
    else:
        emulator.faults.slow(operation, SLOW_S)
    emulator.requests.clear()


@pytest.mark.parametrize(
    "stage", [pytest.param(stage, marks=[] if stage in DEFAULT else [pytest.mark.slow]) for stage in STAGES]
)
def test_killed_deployment_is_completed_by_the_same_command(
    cloud: Emulator, checkpoint: Path, tmp_path: Path, stage: str
) -> None:
    # What serves already, so that there is traffic to move and something to undeploy.
    replaces = stage in ("moving the traffic", "asking", "undeploying")
    if replaces:
        assert deploy(make_checkpoint(tmp_path / "first", seed=1)) == 0
    prepare(cloud, stage)
    with start(checkpoint) as process:
        wait_until(cloud, stage)
        process.kill()
        process.communicate()
    assert deploy(checkpoint) == 0
    newest = str(1 + replaces)
    assert list(versions(cloud)) == [str(number + 1) for number in range(int(newest))]
    (deployed,) = endpoint(cloud)["deployedModels"]
    assert deployed["modelVersionId"] == newest
    assert endpoint(cloud)["trafficSplit"] == {deployed["id"]: 100}
    assert list(cloud.endpoints.containers) == [deployed["id"]]
    assert len([request for request in cloud.requests if request.endswith(":deployModel")]) == 1
    assert len(cloud.storage.names(BUCKET)) == 4 * int(newest)


def test_interrupt_says_what_goes_on_and_which_command_completes_it(cloud: Emulator, checkpoint: Path) -> None:
    prepare(cloud, "deploying")
    with start(checkpoint) as process:
        wait_until(cloud, "deploying")
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=WAIT_S)
    assert process.returncode == 130
    assert output == ""
    assert "Traceback" not in errors
    last = errors.splitlines()[-1]
    assert "what was begun goes on in the cloud, and a machine may cost money" in last
    assert last.endswith(f"{PROGRAM} {' '.join(options(checkpoint))}")
    # Somebody who does not want it any more need not wait for the machine to start; the command does.
    assert main(["undeploy", "--yes"]) == 0
    assert cloud.operations.under_way() == []
    assert endpoint(cloud)["deployedModels"] == []
    assert cloud.endpoints.containers == {}
