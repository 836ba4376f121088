"""The READMEs tell the truth: their commands run, their file tree is the real one, their figures are the records'."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from fnmatch import fnmatch
from pathlib import Path

import pytest

import app
import gpt.generate
import gpt.hub.__main__
import gpt.vertex.deploy
import tests.emulator.__main__
import train.__main__
import train.blind
import train.distil
import train.evaluate
import train.job
import train.memorised
from gpt.checkpoint_info import read_info
from tests import cloud_commands
from tests.page_commands import asks_as_a_harness, asks_the_page, serves
from tests.readme import READMES, ROOT, TIMEOUT_S, Check, commands, execute, fenced, python, text
from train.presets import PRESETS

SHIPPED = ("laptop", "shakespeare", "verse")
NOT_RUN = "not run"


def runs(words: list[str], clone: Path) -> None:
    """Run the command as it stands."""
    execute(python(words), clone)


def trains_two_steps(words: list[str], clone: Path) -> None:
    """Run the command on the bundled text for two steps: whole, it would take minutes or a network."""
    short = ["--max-steps", "2", "--eval-windows", "8", "--sample-tokens", "4", "--device", "cpu"]
    if "my-text.txt" not in words and "--resume" not in words:
        short += ["--data", "sonnets"]
    if "--resume" in words:
        short = ["--max-steps", "3", "--device", "cpu"]
    execute([*python(words), *short], clone)
    if "--out" in words:
        assert (clone / words[words.index("--out") + 1] / "best" / "model.safetensors").is_file()


def sweeps_two_rows(words: list[str], clone: Path) -> None:
    """Run the command on rows of two steps of the preset for tests, without the seconds: whole, it takes an hour."""
    file = clone / words[3]
    (clone / "few-lines.txt").write_text((clone / "my-text.txt").read_text(encoding="utf-8")[:6000], encoding="utf-8")
    base = '[base]\npreset = "tiny"\ndata = "few-lines.txt"\nmax_steps = 2\nsample_tokens = 0\n'
    file.write_text(f'{base}[rows.gelu]\nactivation = "gelu_tanh"\n', encoding="utf-8")
    at = words.index("--seconds")
    execute([*python(words[:at] + words[at + 2 :]), "--device", "cpu"], clone)


def distils_two_steps(words: list[str], clone: Path) -> None:
    """Run the command with one teacher of the preset for tests, two steps each: whole, it takes more than an hour."""
    short = ["--preset", "tiny", "--count", "1", "--max-steps", "2", "--eval-windows", "8", "--sample-tokens", "0"]
    execute([*python(words), *short, "--data", "my-text.txt", "--device", "cpu"], clone)


def _parser(words: list[str]) -> argparse.ArgumentParser:
    module = "app" if words[1] == "app.py" else words[words.index("-m") + 1]
    parsers = {
        "train": train.__main__,
        "train.blind": train.blind,
        "train.distil": train.distil,
        "train.evaluate": train.evaluate,
        "train.job": train.job,
        "train.memorised": train.memorised,
        "gpt.generate": gpt.generate,
        "gpt.hub": gpt.hub.__main__,
        "tests.emulator": tests.emulator.__main__,
    }
    return parsers[module].build_parser()


def parses(words: list[str], clone: Path) -> None:
    """Read the command's arguments: it takes minutes, several machines, or the network."""
    if words[1] == "app.py":
        app.parse_options(words[2:])
    else:
        _parser(words).parse_args(words[words.index("-m") + 2 :])


def starts_a_job(words: list[str], clone: Path) -> None:
    """Start the job, and wait for its end."""
    runs(words, clone)
    status = clone / "checkpoints" / words[words.index("start") + 1] / "status.json"
    ends_at = time.monotonic() + TIMEOUT_S - 30
    while not (status.exists() and '"finished"' in status.read_text(encoding="utf-8")):
        assert time.monotonic() < ends_at
        time.sleep(0.2)


def parses_deployment(words: list[str], clone: Path) -> None:
    """Read the command's arguments, "deploy" perhaps left out; it takes a project of Google Cloud."""
    gpt.vertex.deploy.parse_options(words[3:])


def parses_under_torchrun(words: list[str], clone: Path) -> None:
    """Read torchrun's arguments and the command's: it takes GPUs or machines that are not here."""
    from torch.distributed.run import get_args_parser

    options = get_args_parser().parse_args(words[1:])
    assert options.module
    _parser(words).parse_args(options.training_script_args)


def runs_under_torchrun(words: list[str], clone: Path) -> None:
    """Run two real processes."""
    script = Path(sys.executable).with_name("torchrun")
    assert script.is_file()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    with subprocess.Popen([str(script), *words[1:], "--max-steps", "4"], cwd=clone, env=environment) as process:
        try:
            assert process.wait(timeout=TIMEOUT_S - 30) == 0
        finally:
            process.terminate()  # torchrun then ends its workers too
    assert (clone / words[words.index("--out") + 1] / "best" / "model.safetensors").is_file()


def installs(words: list[str], clone: Path) -> None:
    """Name files that are there; .ci/run executes the test's line as it stands, in a clean checkout."""
    parts = " ".join(words).split(" && ")
    assert parts[:2] == ["python3 -m venv .venv", ". .venv/bin/activate"]
    assert parts[2].startswith("pip install -r ") and (ROOT / parts[2].split()[-1]).is_file()
    assert parts[3] in ("python app.py", "python -m pytest -n 2")


def is_a_check(words: list[str], clone: Path) -> None:
    """Nothing to run here: this is a check that .ci/run makes, or one that makes this test."""
    assert " ".join(words) in text(".ci/run")


def offers_help(words: list[str], clone: Path) -> None:
    """Ask the benchmark for its help; whole, it takes minutes and an idle machine."""
    execute([*python(words), "--help"], clone)


def names_requirements(words: list[str], clone: Path) -> None:
    """Name a file that is there."""
    assert (ROOT / words[-1]).is_file()


def is_the_ci_script(words: list[str], clone: Path) -> None:
    """Have the shell read the script without running it."""
    execute(["bash", "-n", words[1]], ROOT)


# The first pattern that a command matches says how it is checked.
CHECKS: tuple[tuple[str, Check], ...] = (
    ("python3 -m venv *", installs),
    ("python app.py --host 0.0.0.0 *", parses),
    ("curl http://127.0.0.1:7860/*", asks_the_page),
    ("python app.py --checkpoint checkpoints/laptop", serves),
    ("python app.py *", parses),
    ("lm_eval *", asks_as_a_harness),
    ("python -m gpt.generate *", runs),
    ("python -m gpt.checkpoints *", runs),
    ("python -m gpt.hub export *", runs),
    ("python -m gpt.hub *", parses),
    ("python -m train --preset gpt2-shakespeare *", parses),
    ("python -m train * --teachers *", parses),
    ("python -m train.distil --preset best *", distils_two_steps),
    ("python -m train.distil *", parses),
    ("python -m train * hf:*", parses),
    ("python -m gpt.vertex.deploy *", parses_deployment),
    ("python -m tests.emulator", parses),
    ("python -m train.vertex.worker --help", runs),
    ("python -m train.vertex.pipeline compile *", runs),
    *cloud_commands.CHECKS,
    ("python -m train --help", runs),
    ("python -m train --estimate *", runs),
    ("python -m train.corpus_report *", runs),
    ("python -m train.sweep train/*", sweeps_two_rows),
    ("python -m train.sweep --table *", runs),
    ("python -m train.job start *", starts_a_job),
    ("python -m train.job list", runs),
    ("python -m train.job *", parses),
    ("python -m train --preset tiny", runs),
    ("python -m train --preset shakespeare --seed *", parses),
    ("python -m train --data my-text.txt --out checkpoints/my-short-run *", parses),
    ("python -m train --data sonnets *", parses),
    ("python -m train *", trains_two_steps),
    ("python -m train.evaluate checkpoints/tiny-run/best *", runs),
    ("python -m train.evaluate *", parses),
    ("python -m train.memorised checkpoints/tiny-run/best *", runs),
    ("python -m train.memorised *", parses),
    ("python -m train.blind *", parses),
    ("torchrun --standalone --nproc_per_node=2 *--device cpu*", runs_under_torchrun),
    ("torchrun *", parses_under_torchrun),
    ("python -m tests.benchmarks * --help", runs),
    ("python -m tests.benchmarks*", offers_help),
    ("pip install -r requirements-benchmarks.txt", names_requirements),
    ("python -m pytest -m slow", is_a_check),
    ("ruff check .", is_a_check),
    ("mypy", is_a_check),
    ("bash .ci/run", is_the_ci_script),
)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the commands use, so that their runs land there: code, the bundled text, the shipped models."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("gpt", "train", "tests"):
        # with what is compiled; other tests may be writing more of it, under names that soon vanish
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.pyc.*", "*.tmp.*"))
    shutil.copy(ROOT / "app.py", folder)
    (folder / "data").mkdir()
    shutil.copy(ROOT / "data" / "sonnets.txt", folder / "data")
    shutil.copy(ROOT / "data" / "sonnets.txt", folder / "my-text.txt")
    (folder / "checkpoints").mkdir()
    for name in SHIPPED:
        (folder / "checkpoints" / name).symlink_to(ROOT / "checkpoints" / name)
    return folder


def _check(command: str) -> Check | None:
    return next((check for pattern, check in CHECKS if fnmatch(command, pattern)), None)


@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize(
    "command",
    [
        pytest.param(command, id=command, marks=[pytest.mark.slow] if _check(command) is runs_under_torchrun else [])
        for command in commands()
    ],
)
def test_command_of_a_readme_works(command: str, clone: Path) -> None:
    check = _check(command)
    assert check is not None, f"{command!r} matches no pattern of CHECKS; say there how it is checked"
    check(shlex.split(command), clone)


@pytest.mark.parametrize("readme", READMES)
def test_python_of_a_readme_runs(readme: str, clone: Path) -> None:
    for code in fenced(readme, "python"):
        execute([sys.executable, "-c", code], clone)


@pytest.mark.parametrize("readme", READMES)
def test_link_of_a_readme_leads_somewhere(readme: str) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", text(readme))
    files = [link for link in links if not link.startswith(("https://", "#"))]
    assert [link for link in files if not (ROOT / readme).parent.joinpath(link).exists()] == []


def test_pictures_are_shown_and_small() -> None:
    pictures = {path.name: path.stat().st_size for path in (ROOT / "docs").iterdir() if path.suffix == ".png"}
    assert {f"docs/{name}" for name in pictures} == set(re.findall(r"!\[[^\]]+\]\((docs/.+\.png)\)", text("README.md")))
    assert {"inspect.png", "compare.png", "phone.png"} < set(pictures)
    assert [name for name, size in pictures.items() if size > 200_000] == []


def _tree() -> list[str]:
    """The paths of README.md's file tree."""
    paths, folder = [], ""
    for line in fenced("README.md", "text")[0].splitlines():
        name, purpose = line.split(maxsplit=1)
        assert purpose
        if line.startswith("  "):
            paths.append(folder + name)
        else:
            folder = name
            paths.append(name)
    return paths


def _tracked() -> list[str]:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("this is no git checkout, so what belongs to the tree cannot be told from what was left in it")
    return execute(["git", "ls-files"], ROOT).splitlines()


def test_tree_lists_what_exists() -> None:
    listed = _tree()
    assert [path for path in listed if not (ROOT / path).exists()] == []
    assert [path for path in listed if (ROOT / path).is_dir() != path.endswith("/")] == []
    assert len(set(listed)) == len(listed)


def test_tree_lists_every_part() -> None:
    parts = set()
    for path in _tracked():
        first, slash, rest = path.partition("/")
        parts.add(first + slash)
        if first in ("gpt", "train") and not rest.endswith("__init__.py"):
            second, slash, _ = rest.partition("/")
            parts.add(f"{first}/{second}{slash}")
    assert parts - set(_tree()) == set()


@pytest.mark.parametrize("readme", ["README.md", "train/README.md"])
def test_presets_are_the_trainers(readme: str) -> None:
    table = "\n".join(
        f"| {name} | {preset.summary} | {preset.minutes} | {preset.result} |" for name, preset in PRESETS.items()
    )
    assert table in text(readme), f"write into {readme}:\n{table}"


def test_figures_of_the_cards_other_runs_are_the_records() -> None:
    card = text("checkpoints/verse/README.md")
    *four, longer = map(json.loads, text("docs/best.jsonl").splitlines())
    for run in four:
        who = "this model" if "--teachers" in run["command"] else "teacher"
        figures = run["nats_per_character"]
        assert f"| {run['seed']} | {who} | {figures['block']:.4f} | {figures['sliding']:.4f} |" in card
    block, sliding = longer["nats_per_character"].values()
    assert f"block {block:.4f}, sliding {sliding:.4f}: one run, afterwards" in card


@pytest.mark.parametrize("name", SHIPPED)
def test_figures_are_the_records(name: str) -> None:
    row = f"| {name} |" + f" {NOT_RUN} |" * 5
    if (ROOT / "checkpoints" / name).is_dir():
        info = read_info(ROOT / "checkpoints" / name)
        figures = info.record.nats_per_character
        row = (
            f"| [{name}](checkpoints/{name}/README.md) | {info.parameters:,} | {info.tokenizer_kind} "
            f"| {figures['block']:.3f} | {figures['sliding']:.3f} | {info.size_bytes / 1e6:.1f} |"
        )
    assert row in text("README.md"), f"write into README.md:\n{row}"
