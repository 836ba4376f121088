"""The images, as far as they can be checked without an engine that builds them."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.dockerfile import ROOT, copy_into, is_ignored, read_patterns, read_stages

STAGES = read_stages((ROOT / "Dockerfile").read_text(encoding="utf-8"))
IGNORED = read_patterns((ROOT / ".dockerignore").read_text(encoding="utf-8"))
TARGETS = ("serve", "train")


def _requirements(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text(encoding="utf-8").split()
    return dict(line.split("==") for line in lines)  # every one with its exact version


def test_targets_are_there_and_the_base_has_an_exact_version() -> None:
    assert set(TARGETS) <= set(STAGES)
    bases = {stage.base for stage in STAGES.values()} - set(STAGES)
    assert [bool(re.fullmatch(r"python:\d+\.\d+\.\d+-\w+-\w+", base)) for base in bases] == [True]


@pytest.mark.parametrize("stage", STAGES)
def test_every_source_of_a_copy_is_there_and_not_ignored(stage: str) -> None:
    for origin, source, _ in STAGES[stage].copies:
        if origin:
            assert origin in STAGES
        else:
            assert (ROOT / source).exists(), source
            assert (ROOT / source).is_dir() == source.endswith("/"), source
            assert not is_ignored(source.rstrip("/"), IGNORED), source


@pytest.mark.parametrize(
    ("path", "stays_out"),
    [
        ("gpt/model.py", False),
        ("train/vertex/worker.py", False),
        ("data/sonnets.txt", False),
        ("checkpoints/shakespeare/vocab.bpe", False),
        ("checkpoints/shakespeare/model.safetensors", True),
        ("checkpoints/my-run/best/model.safetensors", True),
        ("gpt/ui/page.py", True),
        ("gpt/__pycache__/model.cpython-311.pyc", True),
        ("train/README.md", True),
        (".git/config", True),
        (".venv/bin/python", True),
        ("tests/test_dockerfile.py", True),
        ("app.py", True),
    ],
)
def test_context_has_what_an_image_needs_and_no_more(path: str, stays_out: bool) -> None:
    assert is_ignored(path, IGNORED) == stays_out


@pytest.mark.parametrize("target", TARGETS)
def test_user_is_not_root(target: str) -> None:
    user = STAGES[target].values("USER")[-1]
    assert user not in ("root", "0")
    assert any(f"useradd --create-home --uid 1000 {user}" in line for line in STAGES[target].values("RUN"))
    # What a stage copies belongs to root, so the user cannot change the program.
    order = [keyword for keyword, _ in STAGES[target].instructions]
    assert max(place for place, name in enumerate(order) if name in ("COPY", "RUN")) < order.index("USER")


@pytest.mark.parametrize("target", TARGETS)
def test_image_has_no_build_files_and_the_code_in_its_last_layers(target: str) -> None:
    stage = STAGES[target]
    assert ("train-packages" if target == "train" else "serve-packages", "/opt/venv", "/opt/venv") in stage.copies
    assert "pip install" not in stage.run_lines
    sources = [source for _, source, _ in stage.copies]
    assert sources.index("/opt/venv") < sources.index("gpt/")


@pytest.mark.parametrize("target", TARGETS)
def test_install_list_is_part_of_the_requirements(target: str) -> None:
    everything = _requirements("requirements.txt") | _requirements("requirements-pipeline.txt")
    chosen = _requirements(f"requirements-{target}.txt")
    assert chosen.items() <= everything.items()
    assert f"pip install -r requirements-{target}.txt" in STAGES[f"{target}-packages"].run_lines
    assert chosen["torch"] == _requirements("requirements-serve.txt")["torch"]  # the line that the Dockerfile reads


def test_serving_needs_neither_page_nor_sdk() -> None:
    assert not {"gradio", "google-cloud-aiplatform", "kfp", "tqdm"} & set(_requirements("requirements-serve.txt"))
    assert "gradio" not in _requirements("requirements-train.txt")


@pytest.mark.parametrize(("accelerator", "index"), [("cpu", True), ("cuda", False)])
def test_accelerator_chooses_the_build_of_torch(accelerator: str, index: bool, tmp_path: Path) -> None:
    line = next(line for line in STAGES["installer"].values("RUN") if "ACCELERATOR" in line)
    said = _shell(line, accelerator, tmp_path)
    assert ("--index-url https://download.pytorch.org/whl/cpu" in said.stdout) == index
    assert said.stdout.endswith(f"torch=={_requirements('requirements-serve.txt')['torch']}\n")
    assert "ARG" in [keyword for keyword, _ in STAGES["installer"].instructions]


def test_accelerator_of_no_kind_ends_the_build(tmp_path: Path) -> None:
    line = next(line for line in STAGES["installer"].values("RUN") if "ACCELERATOR" in line)
    said = _shell(line, "tpu", tmp_path)
    assert said.returncode == 1
    assert "ACCELERATOR is 'tpu'; give cpu or cuda" in said.stderr


def _shell(line: str, accelerator: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a RUN line with a pip that only says what it was asked for."""
    pip = folder / "pip"
    pip.write_text('#!/bin/sh\necho "$@"\n', encoding="utf-8")
    pip.chmod(0o755)
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "ACCELERATOR": accelerator}
    return subprocess.run(["sh", "-c", line], cwd=ROOT, env=environment, capture_output=True, text=True)


def test_entry_points_are_modules_of_their_image(tmp_path: Path) -> None:
    for target in TARGETS:
        copy_into(STAGES[target], tmp_path / target, IGNORED)
        words = STAGES[target].entry_point
        assert words[:2] == ["python", "-m"]
        assert (tmp_path / target / f"{words[2].replace('.', '/')}.py").is_file()
        assert not (tmp_path / target / "gpt" / "ui").exists()
    assert (tmp_path / "train" / "data" / "sonnets.txt").is_file()
    assert not (tmp_path / "serve" / "train").exists()


def test_train_image_has_the_modules_and_libraries_of_its_steps(tmp_path: Path) -> None:
    copy_into(STAGES["train"], tmp_path, IGNORED)
    code = (
        "import sys, gpt.vertex.deployment, train.run;"
        "import train.vertex.components, train.vertex.steps, train.vertex.worker;"
        "print(train.run.__file__); print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    place, modules = result.stdout.splitlines()
    assert place == str(tmp_path / "train" / "run.py")
    assert {"kfp", "torch"} <= set(modules.split())
    assert not {"fastapi", "gradio", "transformers", "uvicorn"} & set(modules.split())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_serve_image_keeps_the_contract_in_an_environment_of_its_own(tmp_path: Path) -> None:
    stage = STAGES["serve"]
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    _quiet(python, "-m", "pip", "install", "--quiet", "-r", ROOT / "requirements-serve.txt", timeout_s=800)
    installed = {item["name"].lower() for item in json.loads(_quiet(python, "-m", "pip", "list", "--format", "json"))}
    assert {"torch", "fastapi", "google-cloud-storage"} <= installed
    assert not {"gradio", "google-cloud-aiplatform", "kfp", "transformers"} & installed
    copy_into(stage, tmp_path / "app", IGNORED)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **stage.environment,
        "PATH": f"{python.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(tmp_path / "app"),
        "AIP_HTTP_PORT": str(port),  # the image's own may be taken on this machine
        "AIP_STORAGE_URI": str(ROOT / "checkpoints" / "laptop"),  # where the image has a mounted folder
        "OMP_NUM_THREADS": "1",
    }
    with subprocess.Popen(stage.entry_point, cwd=tmp_path / "app", env=environment) as server:
        try:
            _wait_until_healthy(f"http://127.0.0.1:{port}{environment['AIP_HEALTH_ROUTE']}", server)
            subprocess.run(stage.health_check, env=environment, check=True, timeout=60)
            route = f"http://127.0.0.1:{port}{environment['AIP_PREDICT_ROUTE']}"
            _check_answers(route)
        finally:
            server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=60) == 0
    # A server that is not there is not healthy.
    assert subprocess.run(stage.health_check, env=environment, capture_output=True, timeout=60).returncode != 0


def _check_answers(route: str) -> None:
    """One prediction and one stream, which say the same."""
    parameters: dict[str, Any] = {"max_new_tokens": 8, "seed": 1}
    body = {"instances": [{"prompt": "ROMEO:"}], "parameters": parameters}
    with _post(route, body) as answer:
        predictions = json.load(answer)["predictions"]
    assert len(predictions) == 1
    assert predictions[0]["text"]
    with _post(route, {**body, "parameters": {**parameters, "stream": True}}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.read().decode().splitlines()
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    assert len(events) > 1
    assert "".join(event["text"] for event in events) == predictions[0]["text"]


def _post(url: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    return urllib.request.urlopen(request, timeout=60)


def _wait_until_healthy(url: str, server: subprocess.Popen[bytes]) -> None:
    while True:
        assert server.poll() is None, "the server ended"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                assert answer.status == 200
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)


def _quiet(*words: Any, timeout_s: float = 60) -> str:
    result = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=timeout_s)
    assert result.returncode == 0, result.stderr
    return result.stdout
