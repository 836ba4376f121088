"""The command python app.py: its options and the words with which it fails."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import app
from tests.fake_backend import FakeBackend
from tests.fake_page import save_random_checkpoint
from tests.gpt.vertex.serving import serving

ROOT = Path(app.__file__).parent
VERTEX = [option for option, _, _ in app.VERTEX_OPTIONS]
ENDPOINT = {"GOOGLE_CLOUD_PROJECT": "p", "GOOGLE_CLOUD_LOCATION": "us-central1", "GPT_VERTEX_ENDPOINT": "7"}


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    """app.main answers signals itself; the tests' process must not after it."""
    handlers = {stop: signal.getsignal(stop) for stop in app.STOP_SIGNALS}
    yield
    for stop, handler in handlers.items():
        signal.signal(stop, handler)


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GPT_BACKEND", "VERTEX_API_ENDPOINT", *(variable for _, variable, _ in app.VERTEX_OPTIONS)):
        monkeypatch.delenv(name, raising=False)


@contextlib.contextmanager
def started(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command until the block ends; the process and the address that it prints."""
    command = [sys.executable, str(ROOT / "app.py"), "--port", "0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout and process.stderr
            line = process.stdout.readline()
            assert line.startswith("Open http://127.0.0.1:"), line or process.stderr.read()
            yield process, line.split()[1]
        finally:
            process.kill()


def test_help_names_every_option_and_loads_nothing_heavy() -> None:
    code = (
        "import sys, app\n"
        "try: app.main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert not {'torch', 'gradio', 'uvicorn', 'gpt'} & set(sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    for option in ("--host", "--port", "--checkpoint", "--device", "--backend", *VERTEX):
        assert option in result.stdout


@pytest.mark.parametrize(
    "arguments", [["--port", "70000"], ["--port", "no"], ["--unknown"], ["--port", "-1"], ["--backend", "cloud"]]
)
def test_wrong_options_end_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        app.main(arguments)
    assert end.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_missing_checkpoint_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["--checkpoint", str(tmp_path / "none")]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert "there is no checkpoint" in output.err and "--checkpoint" in output.err
    assert output.err.count("\n") == 1


def test_a_taken_port_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert app.main(["--port", str(port), "--checkpoint", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert f"port {port} of 127.0.0.1 is taken" in error and "--port" in error


def test_a_host_that_is_not_this_machines_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["--host", "256.0.0.1", "--port", "0", "--checkpoint", str(tmp_path)]) == 1
    assert "--host 256.0.0.1 is no address" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("spoil", "options", "words"),
    [
        (lambda folder: (folder / "config.json").unlink(), [], "has no config.json"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\0" * 40), [], "model.safetensors"),
        (lambda folder: None, ["--device", "cuda:99"], "device is 'cuda:99'"),
    ],
)
def test_a_checkpoint_or_device_that_cannot_be_used_is_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil, options, words
) -> None:
    spoil(save_random_checkpoint(tmp_path / "tiny"))
    assert app.main(["--port", "0", "--checkpoint", str(tmp_path / "tiny"), *options]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert words in output.err and output.err.startswith("app.py: ") and output.err.count("\n") == 1


def test_a_device_of_no_kind_is_a_wrong_argument(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        app.parse_options(["--device", "tpu"])
    assert caught.value.code == 2
    assert "'tpu' is no device; choose auto, cpu, cuda or cuda:N" in capsys.readouterr().err


@pytest.mark.parametrize("stop", app.STOP_SIGNALS)
def test_a_signal_while_it_loads_ends_it_at_once(tmp_path: Path, stop: signal.Signals) -> None:
    folder = save_random_checkpoint(tmp_path / "tiny")
    code = (
        "import signal, sys, threading, time, app\n"
        f"threading.Timer(0.5, signal.raise_signal, [{int(stop)}]).start()\n"
        "app.load_backend = lambda *_: time.sleep(30)\n"
        f"sys.exit(app.main(['--port', '0', '--checkpoint', {str(folder)!r}]))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=25)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize("stop", app.STOP_SIGNALS)
def test_the_page_is_served_until_a_signal_ends_it(tmp_path: Path, stop: signal.Signals) -> None:
    folder = save_random_checkpoint(tmp_path / "tiny")
    with started("--checkpoint", str(folder)) as (process, address):
        with urllib.request.urlopen(f"{address}health", timeout=10) as answer:
            assert json.load(answer) == {"status": "ok", "checkpoint": "tiny"}
        for path in ("docs", "redoc"):  # FastAPI's pages about its routes ask other hosts for their scripts
            with pytest.raises(urllib.error.HTTPError), urllib.request.urlopen(f"{address}{path}", timeout=10):
                pass
        # An open page listens like this for as long as it is there.
        with urllib.request.urlopen(f"{address}gradio_api/heartbeat/visitor", timeout=10) as heartbeat:
            assert heartbeat.status == 200
            process.send_signal(stop)
            output, error = process.communicate(timeout=20)
    assert process.returncode == 0
    assert output == ""
    assert error == ""


def test_backend_elsewhere_is_named_by_options_or_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    options = app.parse_options(["--vertex-url", "http://127.0.0.1:8080", "--backend", "vertex"])
    assert app.connection(options).url == "http://127.0.0.1:8080"
    for name, value in {**ENDPOINT, "GPT_BACKEND": "vertex", "VERTEX_API_ENDPOINT": "http://127.0.0.1:1"}.items():
        monkeypatch.setenv(name, value)
    options = app.parse_options(["--vertex-location", "europe-west4"])
    found = app.connection(options)
    assert (options.backend, found.project, found.location, found.endpoint) == ("vertex", "p", "europe-west4", "7")
    assert (found.url, found.api_endpoint) == ("", "http://127.0.0.1:1")
    assert app.parse_options(["--backend", "local"]).backend == "local"


@pytest.mark.parametrize("missing", list(ENDPOINT))
def test_backend_elsewhere_that_is_not_named_is_a_wrong_argument(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in set(ENDPOINT) - {missing}:
        monkeypatch.setenv(name, ENDPOINT[name])
    with pytest.raises(SystemExit) as end:
        app.parse_options(["--backend", "vertex"])
    assert end.value.code == 2
    assert "or a predictor's address in --vertex-url" in capsys.readouterr().err
    monkeypatch.setenv("GPT_BACKEND", "cloud")
    with pytest.raises(SystemExit):
        app.parse_options([])
    assert "'cloud' is no backend; choose local or vertex" in capsys.readouterr().err


def test_address_that_is_none_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["--port", "0", "--backend", "vertex", "--vertex-url", "here"]) == 1
    error = capsys.readouterr().err
    assert error == "app.py: the predictor's address is 'here'; give one such as http://127.0.0.1:8080\n"


def test_page_is_served_over_a_predictor(tmp_path: Path) -> None:
    with serving(FakeBackend("far")) as (_, place):
        options = ("--backend", "vertex", "--vertex-url", f"http://{place}", "--checkpoint", str(tmp_path / "none"))
        with started(*options) as (process, address):
            with urllib.request.urlopen(f"{address}health", timeout=10) as answer:
                assert json.load(answer)["status"] == "ok"
            process.send_signal(signal.SIGTERM)
            _, error = process.communicate(timeout=20)
    assert (process.returncode, error) == (0, "")


def test_page_is_served_although_the_backend_elsewhere_does_not_answer(tmp_path: Path) -> None:
    folder = save_random_checkpoint(tmp_path / "tiny")
    options = ("--backend", "vertex", "--vertex-url", "http://127.0.0.1:1", "--checkpoint", str(folder))
    with started(*options) as (process, address):
        with urllib.request.urlopen(f"{address}health", timeout=10) as answer:
            assert json.load(answer)["checkpoint"] == "127.0.0.1:1"
        assert process.stderr is not None
        words = process.stderr.readline()
        assert words.startswith("app.py: the predictor at http://127.0.0.1:1 cannot be reached now")
        assert "Models tab offers the checkpoints of this machine" in words
