"""What cannot be trained or written is one sentence, and leaves nothing half-written."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.train.tiny_run import SHORT, assert_same_run, at_step, essence, one_sentence, options, resume_options
from tests.train.tiny_run import train as train_here
from train.trainer import Trainer


def corpora(folder: Path) -> dict[str, tuple[Path, str]]:
    contents: dict[str, tuple[bytes, str]] = {
        "empty": (b"", "is empty; give a text file"),
        "blank": (b" \n\n " * 100, "is empty; give a text file"),
        "short": (b"To be, or not to be.\n", "too short: it has 21 characters"),
        "shorter than a window": (b"To be, or not to be, that is.\n" * 5, "sequence_dim = 32"),
        "latin": ("naïve".encode("latin-1") * 100, "is not UTF-8: the byte 0xef at position 2"),
        "binary": (b"abc\0" * 100, "is not a text: it has a null byte at position 3"),
    }
    for name, (content, _) in contents.items():
        (folder / name).write_bytes(content)
    found = {name: (folder / name, message) for name, (_, message) in contents.items()}
    found["missing"] = (folder / "missing", "is not there; give the path of a UTF-8 text file")
    found["folder"] = (folder, "is a folder; give the path of one UTF-8 text file")
    return found


@pytest.mark.parametrize(
    "name", ["empty", "blank", "short", "shorter than a window", "latin", "binary", "missing", "folder"]
)
def test_corpus_that_will_not_do_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    path, message = corpora(tmp_path)[name]
    assert train_here(*options(tmp_path / "out" / "run", path)) == 1
    assert message in one_sentence(capsys)
    assert not (tmp_path / "out").exists()


def test_folder_that_will_not_do_is_one_sentence(
    tmp_path: Path, text: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    before = essence(whole)
    for out, message in (
        (file, f"the run folder {file} cannot be used (Not a directory); choose another with --out"),
        (file / "run", "cannot be used (Not a directory)"),
        (tmp_path / ("x" * 300), "cannot be used (File name too long)"),
        (whole, f"{whole} is not empty; go on with --resume, or choose another folder with --out"),
        (Path("/proc/run"), "the run folder /proc/run cannot be written (No such file or directory)"),
    ):
        assert train_here(*options(out, text, **SHORT)) == 1
        assert message in one_sentence(capsys)
    assert file.read_text() == "mine"
    assert essence(whole) == before


def test_empty_folder_will_do(tmp_path: Path, text: Path) -> None:
    (tmp_path / ".config.json.partial").write_text("{")  # left by a run that was killed before its first word
    assert train_here(*options(tmp_path, text, max_steps=1)) == 0


@contextmanager
def no_file_over(size_bytes: int) -> Iterator[None]:
    """Let the system refuse to write beyond this size in any file, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("step", "size_bytes", "message"),
    [
        (8, 125_000, "the state of the run cannot be written"),  # only the optimizer's file is larger
        (8, 2_000, "the state of the run cannot be written"),
        (11, 2_000, r"the checkpoint .*best cannot be written"),
        (9, 150, r"metrics.jsonl cannot be written"),
    ],
)
def test_full_disk_ends_in_words_keeps_the_last_state_and_can_go_on(
    whole: Path,
    text: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    step: int,
    size_bytes: int,
    message: str,
) -> None:
    out = tmp_path / "run"
    with no_file_over(2**40):
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        at_step(monkeypatch, step, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard)))
        code = train_here(*options(out, text, **SHORT))
    assert code == 1
    said = one_sentence(capsys)
    assert re.search(message, said)
    assert "File too large" in said or "os error 27" in said
    assert "free some space" in said
    assert not [path for path in out.rglob("*") if "partial" in path.name or "previous" in path.name]
    assert json.loads((out / "state" / "state.json").read_text())["step"] == (step - 1) // 5 * 5
    monkeypatch.undo()
    assert train_here(*resume_options(out)) == 0
    assert_same_run(out, whole)


def test_disk_that_is_full_from_the_start_leaves_nothing(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with no_file_over(100):
        code = train_here(*options(tmp_path / "run", text, **SHORT))
    assert code == 1
    assert "the run folder" in (said := one_sentence(capsys))
    assert "cannot be written (File too large)" in said
    assert list((tmp_path / "run").iterdir()) == []
    assert train_here(*options(tmp_path / "run", text, max_steps=1)) == 0


def test_log_on_a_full_disk_is_one_sentence(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    open_path = Path.open

    def fail(self: Path, mode: str = "r", *arguments: Any, **keywords: Any) -> Any:
        if self.name == "train.log":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))
        return open_path(self, mode, *arguments, **keywords)

    monkeypatch.setattr(Path, "open", fail)
    assert train_here(*options(tmp_path / "run", text, **SHORT)) == 1
    assert "train.log cannot be written (No space left on device); free some space" in one_sentence(capsys)


def test_failing_disk_that_nothing_foresaw_is_one_sentence(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(self: Trainer, asked: Callable[[], tuple[bool, bool]]) -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO), "some/file")

    monkeypatch.setattr(Trainer, "step", fail)
    assert train_here(*options(tmp_path / "run", text)) == 1
    assert one_sentence(capsys) == "some/file cannot be read or written (Input/output error)"


def test_lack_of_memory_says_what_to_lower(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(self: Trainer, asked: Callable[[], tuple[bool, bool]]) -> Any:
        torch.empty(2**55)

    monkeypatch.setattr(Trainer, "step", fail)
    assert train_here(*options(tmp_path / "run", text)) == 1
    assert "memory of cpu does not suffice: halve --batch-size (8 now) and double --accumulation-steps" in one_sentence(
        capsys
    )


def test_diverged_run_is_one_sentence(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {
        "max_steps": 100,
        "learning_rate": 1e6,
        "precision": "float32",
        "save_interval": 1,
        "eval_interval": 200,
    }
    assert train_here(*options(tmp_path / "run", text, **settings)) == 1
    assert "the run diverged; what was saved before is kept; begin anew" in one_sentence(capsys)
    state = load_file(tmp_path / "run" / "state" / "model.safetensors")
    assert all(tensor.isfinite().all() for tensor in state.values())
