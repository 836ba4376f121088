"""A run's copy in a bucket: complete at every moment, and the same run when it comes back."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpt.errors import ServiceUnavailableError, TrainingError
from gpt.vertex.bucket import Storage
from tests.emulator.emulator import BUCKET, Emulator
from tests.train.tiny_run import assert_same_run
from train.vertex.backup import RunBackup

ADDRESS = f"gs://{BUCKET}/runs/tiny/checkpoints/"
PREFIX = "runs/tiny/checkpoints/"


@pytest.fixture
def storage(emulator: Emulator) -> Iterator[Storage]:
    with contextlib.closing(Storage()) as storage:
        yield storage


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    """A run folder that may be changed."""
    return Path(shutil.copytree(whole, tmp_path / "machine-1" / "run"))


def _touch_state(run: Path, step: int) -> None:
    """Exchange the state, as the trainer does."""
    state = json.loads((run / "state" / "state.json").read_text(encoding="utf-8"))
    shutil.copytree(run / "state", run / ".new")
    (run / ".new" / "state.json").write_text(json.dumps({**state, "step": step}), encoding="utf-8")
    (run / "state").rename(run / "state.previous")
    (run / ".new").rename(run / "state")
    shutil.rmtree(run / "state.previous")


def test_run_comes_back_as_it_was(storage: Storage, run: Path, tmp_path: Path) -> None:
    copy = RunBackup(storage, ADDRESS, run)
    assert copy.has_news()
    copy.save()
    assert not copy.has_news()
    other = RunBackup(storage, ADDRESS, tmp_path / "machine-2" / "run")
    assert other.restore()
    assert not other.has_news()
    assert_same_run(tmp_path / "machine-2" / "run", run)
    assert sorted(path.name for path in run.parent.iterdir()) == ["run"]  # nothing is left beside it


def test_run_that_never_saved_has_no_backup(storage: Storage, tmp_path: Path, emulator: Emulator) -> None:
    copy = RunBackup(storage, ADDRESS, tmp_path / "run")
    assert not copy.has_news()
    copy.save()
    copy.publish_log()
    assert emulator.storage.names(BUCKET) == []
    assert not copy.restore()


def test_next_backup_takes_the_place_of_the_last(storage: Storage, run: Path, emulator: Emulator) -> None:
    copy = RunBackup(storage, ADDRESS, run)
    copy.save()
    first = emulator.storage.names(BUCKET)
    _touch_state(run, 30)
    assert copy.has_news()
    copy.save()
    second = emulator.storage.names(BUCKET)
    assert len(first) == len(second)
    assert set(first) & set(second) == {f"{PREFIX}backup.json"}
    assert all(name.startswith(f"{PREFIX}backups/00000030-") for name in second if "backups/" in name)


def test_run_that_has_not_changed_is_not_copied_again(storage: Storage, run: Path, emulator: Emulator) -> None:
    copy = RunBackup(storage, ADDRESS, run)
    copy.save()
    writes = emulator.storage.writes
    copy.save()
    assert emulator.storage.writes == writes


def test_upload_that_breaks_leaves_the_last_backup(
    storage: Storage, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = RunBackup(storage, ADDRESS, run)
    copy.save()
    uploaded: list[str] = []
    upload = Storage.upload

    def breaks(self: Storage, path: Path, address: str) -> None:
        if len(uploaded) == 3:
            raise ServiceUnavailableError("the bucket cannot be reached now")
        uploaded.append(address)
        upload(self, path, address)

    before = Path(shutil.copytree(run, tmp_path / "before"))
    _touch_state(run, 30)
    monkeypatch.setattr(Storage, "upload", breaks)
    with pytest.raises(ServiceUnavailableError):
        copy.save()
    monkeypatch.undo()
    assert copy.has_news()
    other = RunBackup(storage, ADDRESS, tmp_path / "machine-2" / "run")
    assert other.restore()
    assert_same_run(tmp_path / "machine-2" / "run", before)
    copy.save()
    assert other.restore()
    assert_same_run(tmp_path / "machine-2" / "run", run)


def test_state_that_is_exchanged_meanwhile_is_never_mixed(
    storage: Storage, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copytree, exchanges = shutil.copytree, iter([50])

    def exchanging(source: Path, target: Path, **options: Any) -> Any:
        result = copytree(source, target, **options)
        if source.name == "state" and (step := next(exchanges, 0)):
            monkeypatch.setattr("train.vertex.backup.shutil.copytree", copytree)
            _touch_state(run, step)
            monkeypatch.setattr("train.vertex.backup.shutil.copytree", exchanging)
        return result

    monkeypatch.setattr("train.vertex.backup.shutil.copytree", exchanging)
    copy = RunBackup(storage, ADDRESS, run)
    copy.save()
    monkeypatch.undo()
    assert not copy.has_news()
    assert RunBackup(storage, ADDRESS, tmp_path / "machine-2" / "run").restore()
    assert_same_run(tmp_path / "machine-2" / "run", run)


def test_log_is_published_while_it_grows(storage: Storage, run: Path, emulator: Emulator) -> None:
    copy = RunBackup(storage, ADDRESS, run)
    copy.publish_log()
    assert emulator.storage.read(f"{ADDRESS}train.log") == (run / "train.log").read_bytes()
    writes = emulator.storage.writes
    copy.publish_log()
    assert emulator.storage.writes == writes
    with (run / "train.log").open("a", encoding="utf-8") as log:
        log.write("one line more\n")
    copy.publish_log()
    assert emulator.storage.read(f"{ADDRESS}train.log").endswith(b"one line more\n")


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"backup": "1"}', b'{"backup": "1", "files": {"a": "many"}}'])
def test_damaged_manifest_is_one_sentence(storage: Storage, tmp_path: Path, content: bytes, emulator: Emulator) -> None:
    emulator.storage.put(BUCKET, f"{PREFIX}backup.json", content)
    with pytest.raises(TrainingError, match=r"backup\.json is damaged .*; begin anew under another name"):
        RunBackup(storage, ADDRESS, tmp_path / "run").restore()


def test_file_of_another_length_is_refused(storage: Storage, run: Path, tmp_path: Path, emulator: Emulator) -> None:
    RunBackup(storage, ADDRESS, run).save()
    name = next(name for name in emulator.storage.names(BUCKET) if name.endswith("state/optimizer.safetensors"))
    emulator.storage.put(BUCKET, name, b"short")
    with pytest.raises(TrainingError, match=r"has 5 bytes, and .* were uploaded"):
        RunBackup(storage, ADDRESS, tmp_path / "machine-2" / "run").restore()
