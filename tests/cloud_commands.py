"""How the READMEs' commands are checked that need a cloud, or an engine for images."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import urllib.request
from pathlib import Path

import train.__main__
import train.vertex.job
import train.vertex.pipeline
from gpt.vertex.instances import decode_call
from gpt.vertex.predictor import PORT, PREDICT_ROUTE
from tests.dockerfile import read_stages
from tests.readme import Check, commands, execute, python, text


def shows_the_job(words: list[str], clone: Path) -> None:
    """Run the command that prints a job; it reaches for nothing."""
    printed = json.loads(execute([*python(words), "--project", "my-project", "--location", "us-central1"], clone))
    assert printed["parent"] == "projects/my-project/locations/us-central1"


def parses_job(words: list[str], clone: Path) -> None:
    """Read the command's arguments and the trainer's; it takes a project of Google Cloud."""
    own = words[3:]
    if own[0] in train.vertex.job.COMMANDS:
        train.vertex.job.build_command_parser(own[0]).parse_args(own[1:])
        return
    given, rest = train.vertex.job.build_parser().parse_known_args(own)
    assert given.image
    train.__main__.build_parser().parse_args(rest)


def parses_pipeline(words: list[str], clone: Path) -> None:
    """Read the command's arguments and the trainer's; it takes a project of Google Cloud, or the emulator."""
    given, rest = train.vertex.pipeline.build_parser().parse_known_args(words[3:])
    assert given.command == "run"
    train.__main__.build_parser().parse_args(rest)


def serves_predictions(words: list[str], clone: Path) -> None:
    """Run the predictor on a free port until it is healthy, then stop it."""
    command = [*python(words), "--port", "0"]
    with subprocess.Popen(command, cwd=clone, text=True, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            address = re.search(r"http://[\d.:]+", process.stdout.readline())
            assert address is not None
            assert "is loaded" in process.stdout.readline()
            with urllib.request.urlopen(f"{address[0]}/health", timeout=30) as answer:
                assert answer.status == 200
        finally:
            process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 0


def asks_the_predictor(words: list[str], clone: Path) -> None:
    """Send what the predictor takes, to where a command before it serves."""
    assert words[1] == f"http://127.0.0.1:{PORT}{PREDICT_ROUTE}" and words[2] == "--data"
    assert len(decode_call(words[3].encode()).requests) == 2


def builds(words: list[str], clone: Path) -> None:
    """Name a target and arguments of the Dockerfile; there may be no engine here that could build it."""
    stages = read_stages(text("Dockerfile"))
    parser = argparse.ArgumentParser()
    for option in ("--target", "--tag", "--build-arg"):
        parser.add_argument(option)
    parser.add_argument("context")
    given = parser.parse_args(words[2:])
    assert (given.context, given.target in stages) == (".", True)
    if given.build_arg:
        name = given.build_arg.partition("=")[0]
        assert any(value.startswith(f"{name}=") for stage in stages.values() for value in stage.values("ARG"))


def names_a_built_image(words: list[str], clone: Path) -> None:
    """Use an image that a command before it builds, and what the image expects."""
    built = [command.split()[-2] for command in commands() if command.startswith("docker build ")]
    assert words[-1] in built
    serve = read_stages(text("Dockerfile"))["serve"]
    if words[1] == "run":
        folder, place, _ = words[words.index("--volume") + 1].split(":")
        assert (clone / folder / "model.safetensors").is_file()
        assert place == serve.environment["AIP_STORAGE_URI"]
        assert words[words.index("--publish") + 1].endswith(f":{serve.environment['AIP_HTTP_PORT']}")


def names_an_install_list(words: list[str], clone: Path) -> None:
    """Name a file that is there; the tests' own list has it."""
    assert f"-r {words[-1]}\n" in text("requirements-test.txt")


# As in tests/test_readme.py: the first pattern that a command matches says how it is checked.
CHECKS: tuple[tuple[str, Check], ...] = (
    ("python -m train.vertex.job * --dry-run", shows_the_job),
    ("python -m train.vertex.job *", parses_job),
    ("python -m train.vertex.pipeline *", parses_pipeline),
    ("pip install -r requirements-pipeline.txt", names_an_install_list),
    ("python -m gpt.vertex.predictor *", serves_predictions),
    ("curl *", asks_the_predictor),
    ("docker build *", builds),
    ("docker *", names_a_built_image),
)
