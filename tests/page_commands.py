"""How the READMEs' commands that serve the page, or ask it, are run."""

from __future__ import annotations

import argparse
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import app
from gpt.api.schema import MAX_CHOICES
from tests.readme import commands, execute, python


def serves(words: list[str], clone: Path) -> None:
    """Serve the page on a free port until it answers, then interrupt it."""
    command = [*python(words), "--port", "0"]
    with subprocess.Popen(command, cwd=clone, text=True, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            address = re.search(r"http://\S+/", process.stdout.readline())
            assert address is not None
            with urllib.request.urlopen(f"{address[0]}health", timeout=10) as answer:
                assert answer.status == 200
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0


def asks_the_page(words: list[str], clone: Path) -> None:
    """Ask a page of the clone, on a free port."""
    command = [sys.executable, "app.py", "--port", "0", "--device", "cpu"]
    with subprocess.Popen(command, cwd=clone, text=True, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            address = re.search(r"http://\S+/", process.stdout.readline())
            assert address is not None
            execute([word.replace("http://127.0.0.1:7860/", address[0]) for word in [*words, "--fail"]], clone)
        finally:
            process.send_signal(signal.SIGINT)


def asks_as_a_harness(words: list[str], clone: Path) -> None:
    """Read the arguments, all of lm-evaluation-harness 0.4.13's, and what they lead to; it is not installed here."""
    parser = argparse.ArgumentParser()
    for name in ("--model", "--model_args", "--include_path", "--tasks"):
        parser.add_argument(name, required=True)
    parser.add_argument("--batch_size", type=int)
    options = parser.parse_args(words[1:])
    asked = dict(pair.split("=", 1) for pair in options.model_args.split(","))
    assert options.model == "local-completions" and options.batch_size <= MAX_CHOICES
    page = app.parse_options([])
    assert asked.pop("base_url") == f"http://127.0.0.1:{page.port}/v1/completions"
    name, folder = asked.pop("model"), asked.pop("tokenizer")
    assert name == page.checkpoint.name
    assert f"python -m gpt.hub export {name} {folder} --format transformers" in commands() and not asked
