"""The READMEs as data, and how their commands are run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
READMES = ("README.md", "train/README.md", "checkpoints/README.md", "data/README.md")
TIMEOUT_S = 300  # each takes seconds, unless the machine has much else to do

# A command's words, and a clone of the repository to run it in.
Check = Callable[[list[str], Path], None]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def fenced(readme: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text(readme), re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Every shell command of every README, once, in their order."""
    lines = [line for readme in READMES for block in fenced(readme, "bash") for line in block.splitlines()]
    return list(dict.fromkeys(lines))


def execute(arguments: Sequence[str], clone: Path) -> str:
    """Run a command in the clone; its standard output."""
    # One thread, asleep while it waits: several of these may run at once beside other work.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    result = subprocess.run(arguments, cwd=clone, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert result.returncode == 0, result.stderr
    return result.stdout


def python(words: list[str]) -> list[str]:
    return [sys.executable, *words[1:]]
