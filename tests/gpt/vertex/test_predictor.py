"""python -m gpt.vertex.predictor as a container runs it: a process, its environment, its signals."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gpt.vertex.predictor import build_parser, main
from tests.fake_page import save_random_checkpoint
from tests.gpt.vertex.serving import PROMPT, ask, eventually, streaming

if TYPE_CHECKING:
    from tests.emulator.emulator import Emulator

ROOT = Path(__file__).resolve().parents[3]
COMMAND = [sys.executable, "-m", "gpt.vertex.predictor"]
VARIABLES = ("AIP_HTTP_PORT", "AIP_HEALTH_ROUTE", "AIP_PREDICT_ROUTE", "AIP_STORAGE_URI")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny")


@pytest.fixture(scope="module")
def slow_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of twelve million parameters: a long text takes seconds."""
    return save_random_checkpoint(tmp_path_factory.mktemp("checkpoints") / "slow", embed_dim=1024)


@pytest.fixture(autouse=True)
def outside_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@contextlib.contextmanager
def started(
    *arguments: str, healthy: str | None = "/health", **environment: str
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command until the block ends; the process and host:port, once it is healthy at that route."""
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    with subprocess.Popen(
        [*COMMAND, *arguments], cwd=ROOT, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout and process.stderr
            line = process.stdout.readline()
            found = re.search(r"http://[\d.]+:(\d+)", line)
            assert found, line + process.stderr.read()
            address = f"127.0.0.1:{found[1]}"
            if healthy is not None:
                eventually(lambda: ask(address, b"", method="GET", path=healthy).status == 200)
            yield process, address
        finally:
            process.kill()


def rest(process: subprocess.Popen[str]) -> tuple[int, list[dict], str]:
    """The exit status, the lines of the log, and standard error."""
    output, error = process.communicate(timeout=60)
    return process.returncode, [json.loads(line) for line in output.splitlines()], error


def test_container_contract_is_honoured(checkpoint: Path) -> None:
    routes = {
        "AIP_HEALTH_ROUTE": "/v1/endpoints/7/deployedModels/8",
        "AIP_PREDICT_ROUTE": "/v1/endpoints/7/deployedModels/8:predict",
    }
    with started(
        healthy=routes["AIP_HEALTH_ROUTE"], AIP_HTTP_PORT="0", AIP_STORAGE_URI=f"file://{checkpoint}", **routes
    ) as (process, address):
        body = {"instances": [PROMPT], "parameters": {"max_new_tokens": 3.0}}
        answer = ask(address, body, path=routes["AIP_PREDICT_ROUTE"])
        assert answer.status == 200 and len(answer.content["predictions"][0]["text"]) == 3
        assert ask(address, body).status == 404
        process.send_signal(signal.SIGTERM)
        status, log, error = rest(process)
    assert (status, error) == (0, "")
    assert {line["severity"] for line in log} == {"INFO"}
    assert [line["message"] for line in log] == ["the checkpoint tiny is loaded", "prediction complete", "stopped"]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+\+00:00", line["time"]) for line in log)


def test_it_listens_on_all_addresses_in_a_container_and_on_this_machine_by_hand(checkpoint: Path) -> None:
    for host, environment, arguments in (
        ("0.0.0.0", {"AIP_HTTP_PORT": "0"}, []),
        ("127.0.0.1", {}, ["--port", "0"]),
        ("127.0.0.1", {"AIP_HTTP_PORT": "1"}, ["--port", "0", "--host", "127.0.0.1"]),
    ):
        variables = {**os.environ, "AIP_STORAGE_URI": str(checkpoint), **environment}
        with subprocess.Popen(
            [*COMMAND, *arguments], cwd=ROOT, env=variables, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout
            assert f"listening on http://{host}:" in process.stdout.readline()
            process.send_signal(signal.SIGTERM)  # while the model is loading
            process.communicate(timeout=60)
            assert process.returncode == 0


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_signal_lets_texts_end_and_refuses_new_ones(slow_checkpoint: Path, stop: signal.Signals) -> None:
    with started("--checkpoint", str(slow_checkpoint), "--port", "0") as (process, address):
        with streaming(address, max_new_tokens=1500, seed=1) as events:
            next(events)
            process.send_signal(stop)
            eventually(lambda: ask(address, b"", method="GET", path="/health").status == 503)
            refused = ask(address, {"instances": [PROMPT]})
            assert refused.status == 503 and "is stopping" in refused.message
            assert refused.headers["retry-after"] == "1"
            last = [*events][-1]
        assert last["finish_reason"] == "length"
        status, log, error = rest(process)
    assert (status, error) == (0, "")
    assert log[-1]["message"] == "stopped"


def test_time_to_end_is_limited(slow_checkpoint: Path) -> None:
    with started("--checkpoint", str(slow_checkpoint), "--port", "0", "--drain-s", "0") as (process, address):
        with streaming(address, max_new_tokens=4096, seed=1) as events:
            next(events)
            process.send_signal(signal.SIGTERM)
            assert all("finish_reason" not in event for event in _until_broken(events))
        status, _, error = rest(process)
    assert (status, error) == (0, "")


def _until_broken(events: Iterator[dict]) -> Iterator[dict]:
    with contextlib.suppress(OSError):
        yield from events


def test_second_signal_ends_it_at_once(slow_checkpoint: Path) -> None:
    with started("--checkpoint", str(slow_checkpoint), "--port", "0") as (process, address):
        with streaming(address, max_new_tokens=4096, seed=1) as events:
            next(events)
            process.send_signal(signal.SIGTERM)
            eventually(lambda: ask(address, b"", method="GET", path="/health").status == 503)
            process.send_signal(signal.SIGTERM)
            assert all("finish_reason" not in event for event in _until_broken(events))
        status, _, _ = rest(process)
    assert status == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--checkpoint", "/nowhere"], "there is no checkpoint"),
        (["--checkpoint", ".", "--device", "cuda:99"], "cuda:99"),
    ],
)
def test_model_that_cannot_be_loaded_is_one_sentence_and_status_1(
    checkpoint: Path, arguments: list[str], words: str
) -> None:
    arguments = [str(checkpoint) if argument == "." else argument for argument in arguments]
    with started(*arguments, "--port", "0", healthy=None) as (process, _):
        status, log, error = rest(process)
    assert status == 1
    assert words in error and error.startswith("python -m gpt.vertex.predictor: ") and error.count("\n") == 1
    assert log[0]["severity"] == "CRITICAL" and log[0]["message"] in error


def test_checkpoint_is_fetched_from_a_bucket(emulator: Emulator, checkpoint: Path) -> None:
    from gpt.vertex.bucket import Storage

    Storage().upload_folder(checkpoint, "gs://rehearsal-models/runs/mine")
    with started("--port", "0", AIP_STORAGE_URI="gs://rehearsal-models/runs/mine") as (process, address):
        assert ask(address, b"", method="GET", path="/health").content["name"] == "mine"
        assert ask(address, {"instances": [PROMPT]}).status == 200
    with started("--port", "0", healthy=None, AIP_STORAGE_URI="gs://rehearsal-models/runs/other") as (process, _):
        status, _, error = rest(process)
    assert status == 1 and "there is nothing at gs://rehearsal-models/runs/other" in error


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        ([], {}, "no checkpoint is named; give its folder with --checkpoint, or in AIP_STORAGE_URI"),
        ([], {"AIP_STORAGE_URI": ""}, "no checkpoint is named"),
        (["--checkpoint", "gs://"], {}, "give gs:// and a bucket's name"),
        (["--port", "70000"], {}, "'70000' is no port"),
        (["--checkpoint", "x"], {"AIP_HTTP_PORT": "high"}, "AIP_HTTP_PORT: 'high' is no port"),
        (["--checkpoint", "x"], {"AIP_PREDICT_ROUTE": "predict"}, "the route is 'predict'"),
        (["--max-streams", "0"], {}, "'0' is no whole number of at least 1"),
        (["--max-queue", "-1"], {}, "'-1' is no whole number of at least 0"),
        (["--drain-s", "soon"], {}, "'soon' is no whole number of at least 0"),
    ],
)
def test_wrong_arguments_end_with_2(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    environment: dict[str, str],
    words: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert words in capsys.readouterr().err


def test_taken_port_is_one_sentence_and_status_1(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--checkpoint", str(checkpoint), "--port", str(port)]) == 1
    assert capsys.readouterr().err == (
        f"python -m gpt.vertex.predictor: cannot listen on port {port} of 127.0.0.1 (Address already in use)\n"
    )


def test_command_line_has_the_documented_defaults() -> None:
    options = build_parser().parse_args([])
    assert (options.device, options.max_streams, options.max_queue, options.drain_s) == ("auto", 16, 64, 25)


def test_server_needs_neither_the_page_nor_the_sdk() -> None:
    code = (
        "import sys\n"
        "from gpt.vertex import predictor, server, service, bucket\n"
        "from gpt.backends import local\n"
        "loaded = set(sys.modules)\n"
        "assert not {'gradio', 'google.cloud.aiplatform', 'google.cloud.storage', 'requests'} & loaded, loaded\n"
        "try: predictor.main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "--checkpoint" in result.stdout and "AIP_STORAGE_URI" in result.stdout


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from gpt.vertex import predictor\n"
        "try: predictor.main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'uvicorn', 'fastapi'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
