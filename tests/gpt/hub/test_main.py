"""python -m gpt.hub as a user calls it, in a process of its own, against a hub on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.gpt.hub.test_transformers_import import SHAKESPEARE, save_gpt2
from tests.hostile_zip import files_of
from tests.loopback_hub import TOKEN, LoopbackHub

ROOT = SHAKESPEARE.parent.parent


def call(*words: str, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"HF_TOKEN": token}
    command = [sys.executable, "-m", "gpt.hub", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_push_then_pull_with_the_token_of_the_environment(loopback: LoopbackHub, tmp_path: Path) -> None:
    pushed = call("push", "laptop", "someone/verse", "--private")
    assert (pushed.returncode, pushed.stderr) == (0, "")
    assert pushed.stdout.startswith(f"{loopback.endpoint}/someone/verse/commit/")
    pulled = call("--root", str(tmp_path / "here"), "pull", "someone/verse")
    assert (pulled.returncode, pulled.stdout, pulled.stderr) == (0, "verse\n", "")
    assert files_of(tmp_path / "here" / "verse") == files_of(ROOT / "checkpoints" / "laptop")
    refused = call("--root", str(tmp_path / "here"), "pull", "someone/verse", token="hf_other")
    assert refused.returncode == 1 and refused.stdout == ""
    assert refused.stderr.startswith("python -m gpt.hub: error: the model someone/verse cannot be listed: ")
    assert refused.stderr.count("\n") == 1


def test_import_and_export_by_folder(loopback: LoopbackHub, tmp_path: Path) -> None:
    save_gpt2(tmp_path / "theirs")
    (tmp_path / "theirs" / "merges.txt").write_bytes((SHAKESPEARE / "vocab.bpe").read_bytes())
    root = ["--root", str(tmp_path / "here")]
    imported = call(*root, "import", str(tmp_path / "theirs"), "--name", "mine")
    assert (imported.returncode, imported.stdout, imported.stderr) == (0, "mine\n", "")
    exported = call(*root, "export", "mine", str(tmp_path / "back"), "--format", "transformers")
    assert (exported.returncode, exported.stdout) == (0, f"{tmp_path / 'back'}\n")
    assert "GPT2LMHeadModel" in exported.stderr
    assert loopback.asked == []


def test_wrong_arguments_leave_with_two(loopback: LoopbackHub, tmp_path: Path) -> None:
    assert call("send", "laptop").returncode == 2
    assert call("pull", "someone/verse", "--name", "a/b").returncode in (1, 2)
    assert call("export", "nothing", str(tmp_path / "x")).returncode == 1
