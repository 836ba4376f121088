"""Artifacts: the same files have the same address, and other files another."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import cast

import pytest

from gpt.errors import CheckpointError
from gpt.vertex.artifact import Artifact
from gpt.vertex.bucket import Storage
from tests.gpt.vertex.deploying import make_checkpoint

ROOT = "gs://a-bucket/folder"


def test_address_says_what_the_files_hold(checkpoint: Path, tmp_path: Path) -> None:
    artifact = Artifact(checkpoint, ROOT)
    assert artifact.address == f"{ROOT}/checkpoints/{artifact.digest}"
    assert len(artifact.digest) == 16
    shutil.copytree(checkpoint, tmp_path / "copy")
    assert Artifact(tmp_path / "copy", ROOT).digest == artifact.digest
    assert Artifact(make_checkpoint(tmp_path / "other", seed=1), ROOT).digest != artifact.digest


@pytest.mark.parametrize("name", ["model.safetensors", "record.json"])
def test_address_changes_with_every_file(checkpoint: Path, name: str) -> None:
    before = Artifact(checkpoint, ROOT).digest
    path = checkpoint / name
    content = bytearray(path.read_bytes())
    position = len(content) - 1 if name == "model.safetensors" else content.index(b"tiny")
    content[position] ^= 1
    path.write_bytes(content)
    assert Artifact(checkpoint, ROOT).digest != before


def test_upload_tells_each_file_with_its_size(checkpoint: Path) -> None:
    class Nowhere:
        def list(self, address: str) -> dict[str, int]:
            return {}

        def upload(self, path: Path, address: str) -> None:
            pass

    told: list[str] = []
    assert Artifact(checkpoint, ROOT).upload(cast("Storage", Nowhere()), told.append) == len(told)
    sizes = dict(line.removeprefix("uploading ").split(", ") for line in told)
    assert sizes["config.json"] == f"{(checkpoint / 'config.json').stat().st_size} B"
    assert sizes["model.safetensors"].endswith(" kB") and not [size for size in sizes.values() if size[:3] == "0.0"]


def test_file_that_belongs_to_no_checkpoint_is_left_out(checkpoint: Path) -> None:
    before = Artifact(checkpoint, ROOT)
    (checkpoint / "notes.txt").write_text("mine", encoding="utf-8")
    after = Artifact(checkpoint, ROOT)
    assert (after.digest, after.size_bytes) == (before.digest, before.size_bytes)


def test_folder_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        Artifact(tmp_path / "missing", ROOT)
