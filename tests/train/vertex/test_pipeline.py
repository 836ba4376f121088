"""The pipeline: compiled, run for real on this machine with both ends, and as a job of the cloud."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.emulator.emulator import BUCKET, Emulator
from tests.train.tiny_run import ROOT
from train.vertex import pipeline

pytest.importorskip("kfp", reason="Kubeflow's SDK is an extra: requirements-pipeline.txt")

TIMEOUT_S = 240
CLOUD = ["run", "--bucket", f"gs://{BUCKET}", "--serving-image", "registry/my/gpt-serve:1", "--threshold"]
TINY = ["--preset", "tiny", "--max-steps", "10", "--threads", "1", "--device", "cpu", "--sample-tokens", "0"]
# Kubeflow's local runner wants to see "python" in an image's name.
IMAGE = ["--image", "registry/my/python-gpt-train:1", "--accelerator-count", "0"]
STEPS = ("prepare", "train", "evaluate", "gate", "deploy")


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "POLL_S", 0.1)


def _refusal(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    assert captured.err.startswith("python -m train.vertex.pipeline: error: ")
    return captured.err.removeprefix("python -m train.vertex.pipeline: error: ").strip()


def _run_local(threshold: str, out: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "train.vertex.pipeline", *CLOUD, threshold, "--local", "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([*command, *TINY, *words], cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.timeout(TIMEOUT_S)
def test_model_that_passes_the_gate_is_deployed_and_answers(emulator: Emulator, tmp_path: Path, text: Path) -> None:
    result = _run_local("9", tmp_path, "--data", str(text))
    assert result.returncode == 0, result.stderr
    outcome = json.loads(result.stdout)
    # What happened, not what was reported: the steps' own files, and the cloud.
    folder = Path(outcome["folder"])
    assert {path.name for path in folder.iterdir()} == set(STEPS)
    metrics = json.loads((folder / "evaluate" / "executor_output.json").read_text(encoding="utf-8"))
    assert metrics["parameterValues"]["Output"] == outcome["nats"] < 9
    assert outcome["decision"] == "deploy"
    assert outcome["deployed"] == "gpt version 1"
    (endpoint,) = emulator.endpoints.endpoints.values()
    (deployed,) = endpoint["deployedModels"]
    assert endpoint["trafficSplit"] == {deployed["id"]: 100}
    stored = next(name for name in emulator.storage.names(BUCKET) if name.endswith("model.safetensors"))
    assert (
        emulator.storage.read(f"gs://{BUCKET}/{stored}")
        == (folder / "train" / "model" / "model.safetensors").read_bytes()
    )
    assert any("redict" in request for request in emulator.requests if request.startswith("POST"))


@pytest.mark.slow
@pytest.mark.timeout(TIMEOUT_S)
def test_model_that_fails_the_gate_is_kept(emulator: Emulator, tmp_path: Path, text: Path) -> None:
    result = _run_local("0.5", tmp_path, "--data", str(text))
    assert result.returncode == 0, result.stderr
    outcome = json.loads(result.stdout)
    assert {path.name for path in Path(outcome["folder"]).iterdir()} == set(STEPS) - {"deploy"}
    assert outcome["nats"] > 0.5
    assert (outcome["decision"], outcome["deployed"]) == ("keep", None)
    assert "not deployed:" in result.stderr.splitlines()[-1]
    assert emulator.endpoints.endpoints == {}
    assert emulator.models.versions == {}
    assert emulator.storage.names(BUCKET) == []


@pytest.mark.slow
@pytest.mark.timeout(TIMEOUT_S)
def test_step_that_fails_ends_the_run_in_words(emulator: Emulator, tmp_path: Path, text: Path) -> None:
    result = _run_local("9", tmp_path, "--data", str(text), "--sequence-dim", "4000")
    assert result.returncode == 1
    assert result.stdout == ""
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("python -m train.vertex.pipeline: error: ")
    assert "Inner task failed: 'train'" in last
    assert "\x1b" not in last
    assert "fewer than sequence_dim = 4000" in result.stderr


@pytest.fixture
def machines(emulator: Emulator, tmp_path: Path) -> Callable[[dict[str, Any]], None]:
    """What the cloud does with a pipeline: the specification that was sent, run step by step on this machine."""
    code = (
        "import json, sys; from kfp import components, local;"
        "job = json.load(open(sys.argv[1]));"
        "local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=sys.argv[2]);"
        "pipeline = components.load_component_from_text(json.dumps(job['pipelineSpec']));"
        "pipeline(**job['runtimeConfig']['parameterValues'])"
    )

    def run(job: dict[str, Any]) -> None:
        path = tmp_path / "job.json"
        path.write_text(json.dumps(job), encoding="utf-8")
        environment = {**os.environ, **emulator.environment(), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        words = [sys.executable, "-c", code, str(path), str(tmp_path / "steps")]
        result = subprocess.run(words, env=environment, capture_output=True, text=True)
        if result.returncode:
            raise RuntimeError(result.stdout[-2000:] + result.stderr[-2000:])

    return run


@pytest.mark.slow
@pytest.mark.timeout(TIMEOUT_S)
def test_pipeline_that_the_cloud_is_sent_runs_and_deploys(
    emulator: Emulator, machines: Callable[[dict[str, Any]], None], text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    emulator.pipeline_jobs.run = machines
    assert pipeline.main([*CLOUD, "9", *IMAGE, "--name", "mine", *TINY, "--data", str(text)]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("projects/")
    assert "the pipeline: succeeded" in captured.err
    assert "https://console.cloud.google.com/vertex-ai/pipelines/locations/us-central1/runs/mine-" in captured.err
    (endpoint,) = emulator.endpoints.endpoints.values()
    assert len(endpoint["deployedModels"]) == 1
    names = emulator.storage.names(BUCKET)
    assert any(name.startswith("pipelines/mine-") and name.endswith(f"/text/{text.name}") for name in names)


def test_job_in_the_cloud_has_the_pipeline_and_its_values(
    emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--name", "mine", "--service-account", "me@p.iam.gserviceaccount.com", "--data", "sonnets", *TINY]
    assert pipeline.main([*CLOUD, "1.5", *IMAGE, *words]) == 0
    (job,) = emulator.pipeline_jobs.jobs.values()
    values = job["runtimeConfig"]["parameterValues"]
    assert values["options"] == ["--data", "sonnets", *TINY]
    assert (values["data"], values["threshold"], values["train_fraction"]) == ("sonnets", 1.5, 0.9)
    assert job["runtimeConfig"]["gcsOutputDirectory"].startswith(f"gs://{BUCKET}/pipelines/mine-")
    assert job["serviceAccount"] == "me@p.iam.gserviceaccount.com"
    assert job["pipelineSpec"]["pipelineInfo"]["name"] == "gpt-train-and-deploy"
    assert capsys.readouterr().out.strip() == job["name"]


def test_compiled_pipeline_has_the_image_the_gpu_and_the_gate(tmp_path: Path) -> None:
    import yaml

    path = tmp_path / "pipeline.yaml"
    assert pipeline.main(["compile", str(path), "--image", "registry/my/train:1", "--accelerator-count", "2"]) == 0
    compiled = yaml.safe_load(path.read_text(encoding="utf-8"))
    executors = {
        name.removeprefix("exec-"): executor["container"]
        for name, executor in compiled["deploymentSpec"]["executors"].items()
    }
    assert set(executors) == set(STEPS)
    assert {container["image"] for container in executors.values()} == {"registry/my/train:1"}
    assert "pip install" not in json.dumps(executors)
    accelerator = executors["train"]["resources"]["accelerator"]
    assert (accelerator["resourceType"], accelerator["resourceCount"]) == ("NVIDIA_L4", "2")
    assert [name for name in STEPS if "accelerator" in executors[name].get("resources", {})] == ["train"]
    tasks = {**compiled["root"]["dag"]["tasks"], **compiled["components"]["comp-condition-1"]["dag"]["tasks"]}
    # A text may have changed behind its name, and what was deployed may be gone: neither is taken as done.
    assert [name for name in STEPS if tasks[name].get("cachingOptions", {}).get("enableCache")] == [
        *("train", "evaluate", "gate")
    ]
    condition = next(task for task in compiled["root"]["dag"]["tasks"].values() if "triggerPolicy" in task)
    assert condition["triggerPolicy"]["condition"] == (
        "inputs.parameter_values['pipelinechannel--gate-Output'] == 'deploy'"
    )
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["compile", "pipeline.txt", "--image", "a"], "FILE is pipeline.txt; give a name that ends in .yaml"),
        (["compile", "p.yaml", "--image", "a", "--accelerator", "TPU"], "accelerator is 'TPU'; choose one of"),
        ([*CLOUD, "0", *IMAGE], "threshold is 0.0; give nats per character, above 0"),
        ([*CLOUD, "nan", *IMAGE], "threshold is nan; give nats per character, above 0"),
        ([*CLOUD, "1", *IMAGE, "--name", "No"], "name is 'No'; give up to 63"),
        ([*CLOUD, "1", *IMAGE, "--accelerator-count", "3"], "accelerator_count is 3; choose 0, 1, 2, 4 or 8"),
        ([*CLOUD, "1", *IMAGE, "--bucket", "mine"], "bucket is 'mine'; give gs://"),
        ([*CLOUD, "1", *IMAGE, "--dropout", "7"], "dropout is 7.0; give a number from 0 to 0.95"),
        ([*CLOUD, "1", "--data", "sonnets"], "image is not given; name the training image in a registry"),
    ],
)
def test_wrong_argument_is_exit_2_in_words(
    emulator: Emulator, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert pipeline.main(words) == 2
    assert _refusal(capsys).startswith(message)
    assert emulator.pipeline_jobs.jobs == {}


def test_file_that_cannot_be_written_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pipeline.main(["compile", str(tmp_path / "no" / "p.yaml"), "--image", "a"]) == 1
    assert "cannot be written (No such file or directory); choose another file" in _refusal(capsys)


def test_missing_extra_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "train.vertex.components", raising=False)
    monkeypatch.setitem(sys.modules, "kfp", None)
    assert pipeline.main(["compile", str(tmp_path / "p.yaml"), "--image", "a"]) == 2
    assert "pip install -r requirements-pipeline.txt" in _refusal(capsys)


@pytest.mark.parametrize("status", [403, 429, 503])
def test_service_that_refuses_is_one_sentence(
    emulator: Emulator, capsys: pytest.CaptureFixture[str], status: int
) -> None:
    emulator.faults.answer(status, "/pipelineJobs", times=20)
    assert pipeline.main([*CLOUD, "1.5", *IMAGE, "--name", "mine", "--data", "sonnets"]) == 1
    assert "the pipeline mine-" in _refusal(capsys)


def test_pipeline_that_fails_in_the_cloud_is_one_sentence(
    emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(job: dict[str, Any]) -> None:
        raise RuntimeError("the step train ended with 1")

    emulator.pipeline_jobs.run = fail
    assert pipeline.main([*CLOUD, "1.5", *IMAGE, "--data", "sonnets"]) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "error: the pipeline failed (The pipeline failed: the step train ended with 1); see https://" in last


def test_ctrl_c_leaves_the_pipeline_which_cancel_ends(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    ended = threading.Event()

    def wait(job: dict[str, Any]) -> None:
        ended.wait(TIMEOUT_S)

    emulator.pipeline_jobs.run = wait
    try:
        command = [sys.executable, "-m", "train.vertex.pipeline", *CLOUD, "1.5", *IMAGE, "--data", "sonnets"]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            job_id = process.stdout.readline().strip().rpartition("/")[2]
            while "the pipeline:" not in process.stderr.readline():
                pass
            process.send_signal(signal.SIGINT)
            said = process.stderr.read()
            assert process.wait(60) == pipeline.DETACHED
        assert f"python -m train.vertex.pipeline cancel {job_id} --project rehearsal --location us-central1" in said
        assert "Traceback" not in said
        assert pipeline.main(["cancel", job_id]) == 0
        assert "is asked to end" in capsys.readouterr().err
        (job,) = emulator.pipeline_jobs.jobs.values()
        assert job["state"] == "PIPELINE_STATE_CANCELLED"
    finally:
        ended.set()
    assert pipeline.main(["cancel", "nobody"]) == 1
    assert "the pipeline nobody was not found" in _refusal(capsys)


def test_extra_is_the_install_list() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    required = (ROOT / "requirements-pipeline.txt").read_text(encoding="utf-8").split()
    assert settings["project"]["optional-dependencies"]["pipeline"] == required


def test_stray_argument_is_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        pipeline.main(["cancel", "a", "--max-steps", "3"])
    assert ended.value.code == 2
    assert "unrecognized arguments: --max-steps 3" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--help"], ["compile", "--help"], ["run", "--help"], ["cancel", "--help"]])
def test_help_is_there_and_does_not_wait_for_kubeflow(words: list[str]) -> None:
    code = (
        "import sys, train.vertex.pipeline as pipeline\n"
        f"try: pipeline.main({words})\n"
        "finally: print(sorted({'kfp', 'torch', 'google.cloud.aiplatform_v1'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.startswith("usage: python -m train.vertex.pipeline")
    assert result.stdout.endswith("[]\n")
