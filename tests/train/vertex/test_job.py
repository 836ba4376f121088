"""The command that trains in the cloud: submitted to the emulator, whose machines are processes here."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.cloud.aiplatform_v1.types import CustomJob

from gpt.errors import ServiceUnavailableError
from gpt.vertex.bucket import Storage
from gpt.vertex.session import Session
from tests.emulator.emulator import BUCKET, Emulator
from tests.train.tiny_run import ROOT, SHORT
from train.vertex import job
from train.vertex.jobs import Jobs

TIMEOUT_S = 240
CLOUD = ["--bucket", f"gs://{BUCKET}", "--image", "registry/gpt-train:1", "--accelerator-count", "0"]


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "POLL_S", 0.2)


@pytest.fixture
def storage(emulator: Emulator) -> Iterator[Storage]:
    with contextlib.closing(Storage()) as storage:
        yield storage


def _options(text: Path, **settings: Any) -> list[str]:
    chosen = {"data": text, "threads": 1, "device": "cpu", "eval_windows": 8, "sample_tokens": 4, **SHORT, **settings}
    words = [word for name, value in chosen.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    return ["--preset", "tiny", *words]


def _refusal(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    assert captured.err.startswith("python -m train.vertex.job: error: ")
    return captured.err.removeprefix("python -m train.vertex.job: error: ").strip()


@pytest.mark.timeout(TIMEOUT_S)
def test_job_trains_tells_its_state_and_leaves_the_checkpoint(
    emulator: Emulator, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert job.main([*CLOUD, "--name", "tiny-1", *_options(text)]) == 0
    captured = capsys.readouterr()
    assert re.fullmatch(r"projects/\d+/locations/us-central1/customJobs/\d+\n", captured.out)
    states = re.findall(r"^\d\d:\d\d:\d\d (\w+)$", captured.err, re.MULTILINE)
    assert states[-1] == "succeeded"
    assert "running" in states
    assert "finished at step 24" in captured.err  # the run's own log
    assert f"the checkpoint is in gs://{BUCKET}/runs/tiny-1/model" in captured.err
    names = emulator.storage.names(BUCKET)
    assert "runs/tiny-1/model/model.safetensors" in names
    assert f"runs/tiny-1/text/{text.name}" in names
    assert job.main(["cancel", "tiny-1"]) == 0
    ended = rf"job \d+ of the run tiny-1 has ended already: succeeded; its run is in gs://{BUCKET}/runs/tiny-1\n"
    assert re.fullmatch(ended, capsys.readouterr().err)
    assert job.main(["list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[1:3] for line in listed] == [["tiny-1", "succeeded"]]


@pytest.mark.timeout(TIMEOUT_S)
def test_job_that_fails_is_one_sentence_with_the_way_on(
    emulator: Emulator, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert job.main([*CLOUD, "--name", "tiny-1", *_options(text, sequence_dim=4000)]) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("python -m train.vertex.job: error: the job ")
    assert "of the run tiny-1 failed (The replica workerpool0-0 exited with a non-zero status of 1.)" in last
    assert "--resume --name tiny-1 goes on with it" in last


@pytest.mark.timeout(TIMEOUT_S)
def test_run_is_begun_once_and_resumed_with_more_steps(
    emulator: Emulator, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = [*CLOUD, "--name", "tiny-1"]
    emulator.storage.put(BUCKET, "mine/text.txt", text.read_bytes())
    assert job.main([*again, *_options(text, max_steps=6, data=f"gs://{BUCKET}/mine/text.txt")]) == 0
    emulator.storage.put(BUCKET, "mine/text.txt", b"another text by now")
    capsys.readouterr()
    assert job.main([*again, *_options(text, max_steps=9)]) == 1
    assert _refusal(capsys) == (
        f"gs://{BUCKET}/runs/tiny-1 has a run already; go on with it with --resume, or choose another --name"
    )
    assert job.main([*again, "--resume", "--max-steps", "9", "--device", "cpu"]) == 0
    assert "finished at step 9" in capsys.readouterr().err
    record = json.loads(emulator.storage.read(f"gs://{BUCKET}/runs/tiny-1/model/record.json"))
    assert record["steps"] == 9


@pytest.mark.timeout(TIMEOUT_S)
def test_ctrl_c_leaves_the_job_and_says_how_to_go_on(emulator: Emulator, text: Path) -> None:
    words = [*CLOUD, "--name", "tiny-1", *_options(text, max_steps=100_000)]
    with subprocess.Popen(
        [sys.executable, "-m", "train.vertex.job", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        name = process.stdout.readline().strip()
        process.stderr.readline()  # it has said the first state
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        assert process.wait(TIMEOUT_S) == job.DETACHED
    number = name.rpartition("/")[2]
    place = "--project rehearsal --location us-central1"
    assert f"python -m train.vertex.job watch {number} {place} follows it" in said
    assert f"python -m train.vertex.job cancel {number} {place} ends it" in said
    assert "Traceback" not in said
    assert emulator.custom_jobs.jobs[name]["state"] in ("JOB_STATE_PENDING", "JOB_STATE_RUNNING")


@pytest.mark.timeout(TIMEOUT_S)
def test_job_is_cancelled_by_the_name_of_its_run_and_seen_to_end(
    emulator: Emulator, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert job.main([*CLOUD, "--name", "tiny-to-cancel", "--no-wait", *_options(text, max_steps=100_000)]) == 0
    assert "the job goes on, and costs money until it ends" in capsys.readouterr().err
    cancelling = threading.Timer(1.0, lambda: job.main(["cancel", "tiny-to-cancel"]))
    cancelling.start()
    assert job.main(["watch", "tiny-to-cancel"]) == 1
    cancelling.join()
    said = capsys.readouterr().err
    assert "of the run tiny-to-cancel cancelled; what it saved is in" in said
    assert "is asked to end" in said


@pytest.mark.slow
@pytest.mark.timeout(TIMEOUT_S)
def test_several_machines_with_several_processes_train_together(
    emulator: Emulator,
    storage: Storage,
    text: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def two_processes(self: Jobs, custom_job: dict[str, Any]) -> Any:
        # The emulator's machines have no GPUs; two processes each all the same.
        for pool in custom_job["job_spec"]["worker_pool_specs"]:
            pool["container_spec"]["args"][3] = "2"
        return submit(self, custom_job)

    submit = Jobs.submit
    monkeypatch.setattr(Jobs, "submit", two_processes)
    words = [*CLOUD, "--machines", "2", "--name", "tiny-4", *_options(text, max_steps=4, batch_size=2)]
    assert job.main(words) == 0, capsys.readouterr().err
    manifest = json.loads(storage.read(f"gs://{BUCKET}/runs/tiny-4/checkpoints/backup.json") or b"")
    folder = f"gs://{BUCKET}/runs/tiny-4/checkpoints/backups/{manifest['backup']}"
    assert json.loads(storage.read(f"{folder}/state/state.json") or b"")["world_size"] == 4
    given = emulator.custom_jobs.environments[capsys.readouterr().out.strip()]
    assert [json.loads(variables["CLUSTER_SPEC"])["task"]["type"] for variables in given] == [
        "workerpool0",
        "workerpool1",
    ]


@pytest.mark.timeout(TIMEOUT_S)
def test_gpu_is_asked_for_by_its_name(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    place = ["--bucket", f"gs://{BUCKET}", "--image", "registry/gpt-train:1", "--spot", "--no-wait"]
    assert job.main([*place, "--data", "sonnets", "--preset", "tiny", "--max-steps", "1", "--device", "cpu"]) == 0
    spec = emulator.custom_jobs.jobs[capsys.readouterr().out.strip()]["jobSpec"]
    machine = spec["workerPoolSpecs"][0]["machineSpec"]
    assert (machine["machineType"], machine["acceleratorCount"]) == ("g2-standard-8", 1)
    sent = CustomJob.from_json(json.dumps({"jobSpec": spec}))
    assert sent.job_spec.worker_pool_specs[0].machine_spec.accelerator_type.name == "NVIDIA_L4"
    assert sent.job_spec.scheduling.strategy.name == "SPOT"


def test_dry_run_prints_the_job_and_reaches_for_nothing(
    text: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VERTEX_API_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    place = ["--project", "p", "--location", "us-central1", "--dry-run", "--name", "tiny-1"]
    assert job.main([*CLOUD, *place, *_options(text)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["parent"] == "projects/p/locations/us-central1"
    (pool,) = printed["custom_job"]["job_spec"]["worker_pool_specs"]
    words = pool["container_spec"]["args"]
    assert words[words.index("--text") + 1] == f"gs://{BUCKET}/runs/tiny-1/text/{text.name}"
    assert "--data" not in words
    assert words[words.index("--") + 1 :][:2] == ["--preset", "tiny"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max-steps", "0"], "max_steps is 0; give a number at least 1"),
        (["--out", "folder"], "out is given; the run's folder is in the bucket: name the run with --name"),
        (
            ["--teachers", "checkpoints/laptop"],
            "teachers is given; they are folders of this machine, and a job has none",
        ),
        (["--name", "No"], "name is 'No'; give up to 63 lower-case letters"),
        (["--accelerator-count", "2"], "machine_type is not given"),
        (["--resume"], "name is not given; --resume needs the --name"),
        (
            ["--resume", "--name", "a", "--dropout", "0.1", "--preset", "tiny"],
            "--dropout, --preset cannot change in a resumed run",
        ),
    ],
)
def test_wrong_argument_is_exit_2_before_anything_is_done(
    emulator: Emulator, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert job.main([*CLOUD, *words]) == 2
    assert _refusal(capsys).startswith(message)
    assert emulator.custom_jobs.jobs == {}
    assert emulator.storage.names(BUCKET) == []


@pytest.mark.parametrize(
    ("words", "variables", "message"),
    [
        (["--data", "no-such-text.txt"], {}, "the corpus no-such-text.txt is not there"),
        (
            ["--data", "sonnets", "--accelerator-count", "1", "--accelerator", "NVIDIA_T4", "--machine-type", "a"],
            {},
            "accelerator is",
        ),
        (["--bucket", "gs://no-such-bucket", "--data", "sonnets"], {}, "gs://no-such-bucket/runs/"),
        (["--resume", "--name", "nobody"], {}, f"gs://{BUCKET}/runs/nobody has no run to go on with"),
        (["--data", "sonnets"], {"GOOGLE_CLOUD_PROJECT": ""}, "the project is not given"),
        (["--data", "sonnets"], {"GOOGLE_CLOUD_LOCATION": ""}, "the location is not given"),
    ],
)
def test_what_cannot_be_submitted_is_one_sentence(
    emulator: Emulator,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    variables: dict[str, str],
    message: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert job.main([*CLOUD, *words]) in (1, 2)
    assert _refusal(capsys).startswith(message)
    assert emulator.custom_jobs.jobs == {}
    assert emulator.storage.names(BUCKET) == []


@pytest.mark.parametrize("status", [401, 403, 429, 503])
def test_service_that_refuses_is_one_sentence(
    emulator: Emulator, capsys: pytest.CaptureFixture[str], status: int
) -> None:
    emulator.faults.answer(status, "/customJobs", times=20)
    assert job.main([*CLOUD, "--data", "sonnets", "--preset", "tiny"]) == 1
    assert "the job tiny-" in _refusal(capsys)


def test_service_that_stumbles_while_a_job_is_watched_is_asked_again(
    emulator: Emulator, capsys: pytest.CaptureFixture[str], text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert job.main([*CLOUD, "--name", "tiny-1", "--no-wait", *_options(text, max_steps=2)]) == 0
    name = capsys.readouterr().out.strip()
    while not emulator.custom_jobs.jobs[name]["state"].endswith("SUCCEEDED"):
        time.sleep(0.1)

    def unreachable(self: Storage, address: str) -> bytes | None:
        raise ServiceUnavailableError("the bucket cannot be reached now")

    lines: list[str] = []
    with contextlib.closing(Jobs(Session.from_options(None, None, os.environ))) as jobs:
        found = dataclasses.replace(jobs.find(name), state="running")
        emulator.faults.answer(503, "/customJobs/", times=3)
        monkeypatch.setattr(Storage, "read", unreachable)
        assert jobs.follow(found, lines.append, poll_s=0.01).state == "succeeded"
        emulator.faults.answer(503, "/customJobs/", times=50)
        with pytest.raises(ServiceUnavailableError):
            jobs.follow(found, lines.append, poll_s=0.01)


def test_unknown_job_is_one_sentence(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    assert job.main(["watch", "nobody"]) == 1
    assert _refusal(capsys).startswith("no job of the run nobody is in location us-central1 of project rehearsal")
    assert job.main(["cancel", "12345"]) == 1
    assert _refusal(capsys).startswith("job 12345 was not found")


@pytest.mark.parametrize("command", ["", "list", "watch", "cancel"])
def test_help_is_there_and_does_not_wait_for_torch_or_google(command: str) -> None:
    words = [command, "--help"] if command else ["--help"]
    code = (
        "import sys, train.vertex.job as job\n"
        f"try: job.main({words})\n"
        "finally: print(sorted({'torch', 'google.cloud.aiplatform_v1', 'google.cloud.storage'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, env={**os.environ}
    )
    assert result.stdout.startswith("usage: python -m train.vertex.job")
    assert result.stdout.endswith("[]\n")
