"""A machine of a job: the same training, kept in the bucket, and gone on with after the machine is lost."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gpt.vertex.bucket import Storage
from tests.emulator.container import free_port
from tests.emulator.emulator import BUCKET, Emulator
from tests.train.tiny_run import ROOT, SHORT, essence, options, train
from train.vertex import worker
from train.vertex.backup import RunBackup

FOLDER = f"gs://{BUCKET}/runs/tiny"
TIMEOUT_S = 240


@pytest.fixture
def storage(emulator: Emulator) -> Iterator[Storage]:
    with contextlib.closing(Storage()) as storage:
        yield storage


@pytest.fixture
def text_address(storage: Storage, text: Path) -> str:
    storage.upload(text, f"{FOLDER}/text/text.txt")
    return f"{FOLDER}/text/text.txt"


@pytest.fixture
def launch(emulator: Emulator) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts machines, and ends those that a failed test leaves running, with all that they started."""
    started: list[subprocess.Popen[str]] = []

    def start(text_address: str, processes: int = 1, variables: dict[str, str] | None = None, **settings: Any) -> Any:
        chosen = {"threads": 1, "device": "cpu", "eval_windows": 8, "sample_tokens": 4, **SHORT, **settings}
        words = [word for name, value in chosen.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        command = ["--name", "tiny", "--processes", str(processes), "--text", text_address, "--", "--preset", "tiny"]
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "train.vertex.worker", *command, *words],
                cwd=ROOT,
                env={**os.environ, **_outputs(), **(variables or {})},
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _outputs() -> dict[str, str]:
    return {
        "AIP_MODEL_DIR": f"{FOLDER}/model/",
        "AIP_CHECKPOINT_DIR": f"{FOLDER}/checkpoints/",
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
    }


def _end(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, errors = process.communicate(timeout=TIMEOUT_S)
    assert "Traceback" not in errors, errors
    return process.returncode, errors


def _saved_step(storage: Storage) -> int:
    """The step of the bucket's backup; -1 while there is none."""
    manifest = storage.read(f"{FOLDER}/checkpoints/backup.json")
    step: int = -1 if manifest is None else json.loads(manifest)["step"]
    return step


def _wait_for_step(storage: Storage, step: int, process: subprocess.Popen[str]) -> None:
    """Until the bucket has a backup of at least this step."""
    ends = time.monotonic() + TIMEOUT_S
    while _saved_step(storage) < step:
        assert time.monotonic() < ends, "no backup in time"
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)


def _run_in_bucket(storage: Storage, folder: Path) -> Path:
    assert RunBackup(storage, f"{FOLDER}/checkpoints/", folder / "tiny").restore()
    return folder / "tiny"


def _same_text(run: Path) -> dict[str, Any]:
    """What a run is but for the path of its text."""
    found = essence(run)
    found["config"]["data"] = ""
    return found


@pytest.mark.timeout(TIMEOUT_S)
def test_run_of_a_job_is_the_run_of_the_command(
    launch: Callable[..., subprocess.Popen[str]],
    storage: Storage,
    text_address: str,
    whole: Path,
    tmp_path: Path,
    emulator: Emulator,
) -> None:
    status, errors = _end(launch(text_address))
    assert status == 0, errors
    assert "machine 1 of 1, 1 process(es) each; a new run" in errors
    assert _same_text(_run_in_bucket(storage, tmp_path)) == _same_text(whole)
    storage.download_folder(f"{FOLDER}/model", tmp_path / "model")
    assert {path.name for path in (tmp_path / "model").iterdir()} == {path.name for path in (whole / "best").iterdir()}
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == (
        whole / "best" / "model.safetensors"
    ).read_bytes()
    record = json.loads((tmp_path / "model" / "record.json").read_text(encoding="utf-8"))
    assert record["command"].endswith("--data text.txt --out tiny")
    assert b"finished at step" in emulator.storage.read(f"{FOLDER}/checkpoints/train.log")


@pytest.mark.slow
@pytest.mark.timeout(3 * TIMEOUT_S)
@pytest.mark.parametrize("ending", ["killed", "asked"])
def test_lost_machine_loses_nothing_of_the_run(
    launch: Callable[..., subprocess.Popen[str]],
    storage: Storage,
    text: Path,
    text_address: str,
    tmp_path: Path,
    ending: str,
) -> None:
    length = {"max_steps": 500, "eval_interval": 100}
    uninterrupted = tmp_path / "uninterrupted"
    assert train(*options(uninterrupted, text, **{**SHORT, **length})) == 0
    first = launch(text_address, **length)
    _wait_for_step(storage, 5, first)
    if ending == "killed":
        os.killpg(first.pid, signal.SIGKILL)
        first.communicate()
    else:
        os.kill(first.pid, signal.SIGTERM)  # to the first process of the container alone, as the service does
        status, errors = _end(first)
        assert status == 130, errors
    assert 5 <= _saved_step(storage) < 500
    assert storage.list(f"{FOLDER}/model") == {}
    status, errors = _end(launch(text_address, **length))
    assert status == 0, errors
    assert "going on with the run in the bucket" in errors
    assert _same_text(_run_in_bucket(storage, tmp_path)) == _same_text(uninterrupted)


@pytest.mark.slow
@pytest.mark.timeout(3 * TIMEOUT_S)
def test_two_machines_train_as_one(
    launch: Callable[..., subprocess.Popen[str]], storage: Storage, text_address: str, tmp_path: Path
) -> None:
    hosts = {"workerpool0": [f"127.0.0.1:{free_port()}"], "workerpool1": ["127.0.0.1:2222"]}
    machines = []
    for pool in hosts:
        task = {"cluster": hosts, "environment": "cloud", "task": {"type": pool, "index": 0}}
        # The service sets these too, for each machine; torchrun's own win.
        variables = {"CLUSTER_SPEC": json.dumps(task), "RANK": "0", "WORLD_SIZE": "2"}
        machines.append(launch(text_address, variables=variables, max_steps=6, batch_size=4))
    for number, machine in enumerate(machines, start=1):
        status, errors = _end(machine)
        assert status == 0, errors
        assert f"machine {number} of 2" in errors
    state = json.loads((_run_in_bucket(storage, tmp_path) / "state" / "state.json").read_text(encoding="utf-8"))
    assert (state["world_size"], state["step"]) == (2, 6)
    assert "model.safetensors" in storage.list(f"{FOLDER}/model")


@pytest.mark.timeout(TIMEOUT_S)
def test_bucket_that_fails_for_a_while_does_not_end_the_training(
    launch: Callable[..., subprocess.Popen[str]], storage: Storage, text_address: str, emulator: Emulator
) -> None:
    emulator.faults.answer(403, "/upload/", times=2)
    status, errors = _end(launch(text_address, max_steps=6))
    assert status == 0, errors
    assert errors.count("the run could not be copied to the bucket") == 2
    assert "model.safetensors" in storage.list(f"{FOLDER}/model")


def test_failure_of_the_trainer_is_the_machines(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, storage: Storage, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, value in _outputs().items():
        monkeypatch.setenv(name, value)
    assert worker.main(["--name", "tiny", "--", "--preset", "tiny", "--dropout", "2"]) == 2
    assert "dropout is 2.0; give a number from 0 to 0.95" in capfd.readouterr().err
    assert storage.list(FOLDER) == {}


@pytest.mark.parametrize(
    ("variables", "words", "message"),
    [
        ({"AIP_MODEL_DIR": ""}, [], "AIP_MODEL_DIR is ''; give gs:// and a bucket's name"),
        ({"AIP_CHECKPOINT_DIR": "/tmp/a"}, [], "AIP_CHECKPOINT_DIR is '/tmp/a'; give gs:// and a bucket's name"),
        ({}, ["--processes", "0"], "processes is 0; give a number at least 1"),
    ],
)
def test_wrong_surroundings_are_one_sentence(
    emulator: Emulator,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variables: dict[str, str],
    words: list[str],
    message: str,
) -> None:
    for name, value in {**_outputs(), **variables}.items():
        monkeypatch.setenv(name, value)
    assert worker.main(["--name", "tiny", *words]) == 2
    assert capsys.readouterr().err.startswith(f"python -m train.vertex.worker: error: {message}")


def test_missing_text_is_one_sentence(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in _outputs().items():
        monkeypatch.setenv(name, value)
    assert worker.main(["--name", "tiny", "--text", f"{FOLDER}/text/no.txt"]) == 1
    assert f"{FOLDER}/text/no.txt was not found" in capsys.readouterr().err


def test_resumed_run_is_told_only_what_may_change() -> None:
    options = ["--preset", "tiny", "--dropout", "0.2", "--device", "cpu", "--threads", "2", "--max-steps", "40"]
    assert worker.resume_options([*options, "--patience", "0", "--data", "text.txt"]) == [
        *("--resume", "--device", "cpu", "--threads", "2", "--max-steps", "40", "--patience", "0")
    ]
    assert worker.resume_options([]) == ["--resume", "--device", "auto"]


def test_help_does_not_wait_for_torch_or_google() -> None:
    code = (
        "import sys, train.vertex.worker as command; command.build_parser().format_help();"
        "print({'torch', 'google.cloud.storage'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"
