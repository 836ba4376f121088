"""The command line: what may be left out, what is refused before anything is asked, and --help."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gpt.vertex.deploy import main, parse_options
from tests.emulator.emulator import BUCKET
from tests.gpt.vertex.deploying import IMAGE, PROGRAM, ROOT, deploy, sentence


def test_deploy_may_be_left_out() -> None:
    words = ["checkpoints/laptop", "--bucket", "gs://b", "--image", IMAGE]
    assert parse_options(words) == parse_options(["deploy", *words])
    assert parse_options(["list"]).command == "list"


@pytest.mark.parametrize(
    "words", [["--help"], ["deploy", "--help"], ["checkpoints/laptop", "--help"], ["delete", "-h"]]
)
def test_help_tells_and_waits_for_no_library(words: list[str]) -> None:
    code = (
        "import sys\n"
        "from gpt.vertex.deploy import main\n"
        "try:\n"
        f"    main({words!r})\n"
        "finally:\n"
        "    print(sorted({'torch', 'google.auth', 'safetensors'} & set(sys.modules)))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    *shown, modules = result.stdout.splitlines()
    assert modules == "[]"
    assert shown[0].startswith(f"usage: {PROGRAM}")


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["checkpoints/laptop"],
        ["checkpoints/laptop", "--bucket", "gs://b"],
        ["list", "more"],
        ["undeploy", "--files"],
    ],
)
def test_command_that_argparse_refuses_ends_with_two(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--name", "My Model"], "the name is 'My Model'; begin with a letter"),
        (["--name", "gpt-"], "the name is 'gpt-'; begin with a letter"),
        (["--bucket", "rehearsal-models"], "bucket is 'rehearsal-models'; give gs:// and a bucket's name"),
        (
            ["--image", "serve"],
            "image is 'serve'; give an image's address, such as us-central1-docker.pkg.dev/rehearsal/",
        ),
        (["--accelerator", "NVIDIA_T4"], "accelerator is 'NVIDIA_T4'; choose one of NVIDIA_TESLA_T4"),
        (["--min-replicas", "0"], "min_replicas is 0; give a number from 1 to 100"),
    ],
)
def test_option_out_of_range_is_named(
    checkpoint: Path,
    more: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "rehearsal")
    monkeypatch.setenv("GOOGLE_CLOUD_LOCATION", "us-central1")
    assert deploy(checkpoint, *more) == 2
    assert sentence(capsys).startswith(message)


@pytest.mark.parametrize("variable", ["GOOGLE_CLOUD_PROJECT", "GOOGLE_CLOUD_LOCATION"])
def test_project_and_location_must_be_known(
    checkpoint: Path, variable: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "rehearsal")
    monkeypatch.setenv("GOOGLE_CLOUD_LOCATION", "us-central1")
    monkeypatch.delenv(variable)
    assert deploy(checkpoint) == 2
    assert variable in sentence(capsys)


def test_checkpoint_that_is_missing_is_told_before_anything_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "rehearsal")
    monkeypatch.setenv("GOOGLE_CLOUD_LOCATION", "us-central1")
    assert main([str(tmp_path / "none"), "--bucket", f"gs://{BUCKET}", "--image", IMAGE]) == 1
    assert sentence(capsys).startswith(f"there is no checkpoint {tmp_path / 'none'}")


def test_credentials_that_are_missing_are_told(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    assert deploy(checkpoint, "--project", "rehearsal", "--location", "us-central1") == 1
    assert "run `gcloud auth application-default login`" in sentence(capsys)


def test_location_that_is_none_is_told(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert deploy(checkpoint, "--project", "rehearsal", "--location", "atlantis-1") == 1
    assert "is none of Vertex AI's" in sentence(capsys)
