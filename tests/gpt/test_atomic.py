"""Atomic folders: complete or absent, whenever the work breaks off."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from gpt.atomic import atomic_folder, heal, hold, is_held, write_file


def write(folder: Path, text: str) -> None:
    with atomic_folder(folder) as partial:
        (partial / "inner").mkdir()
        (partial / "inner" / "file").write_text(text)


def read(folder: Path) -> str:
    return (folder / "inner" / "file").read_text()


def test_atomic_folder_makes_parents_and_leaves_nothing_beside(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    write(folder, "one")
    write(folder, "two")
    assert read(folder) == "two"
    assert os.listdir(folder.parent) == ["b"]


@pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt()])
def test_atomic_folder_keeps_the_old_one_when_writing_fails(tmp_path: Path, error: BaseException) -> None:
    folder = tmp_path / "folder"
    write(folder, "old")
    with pytest.raises(type(error)), atomic_folder(folder) as partial:
        (partial / "half").write_text("new")
        raise error
    assert read(folder) == "old"
    assert os.listdir(tmp_path) == ["folder"]


def test_atomic_folder_flushes_every_file_before_it_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, os.replace

    def record_fsync(descriptor: int) -> None:
        events.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    def record_replace(source: Any, target: Any) -> None:
        events.append("replace")
        replace(source, target)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("/proc/self/fd, which tells the flushed files' names, is not there")
    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    write(tmp_path / "folder", "text")
    before = events[: events.index("replace")]
    assert sorted(before) == [".folder.partial", "file", "inner"]
    assert events[len(before) :] == ["replace", tmp_path.name]


def test_atomic_folder_puts_the_old_one_back_when_the_exchange_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    write(folder, "old")

    def fail(*_: Any) -> None:
        raise OSError("no exchange")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no exchange"):
        write(folder, "new")
    assert read(folder) == "old"
    assert os.listdir(tmp_path) == ["folder"]


def test_crash_between_the_two_renames_is_healed(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    write(folder, "old")
    # What a process killed between the renames leaves behind:
    os.rename(folder, tmp_path / "folder.previous")
    (tmp_path / ".folder.partial").mkdir()
    (tmp_path / ".folder.partial" / "half").write_text("new")
    heal(folder)
    assert read(folder) == "old"
    write(folder, "next")
    assert read(folder) == "next"
    assert os.listdir(tmp_path) == ["folder"]


def test_crash_after_the_exchange_keeps_the_new_one(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    write(folder, "new")
    shutil.copytree(folder, tmp_path / "folder.previous")
    (tmp_path / "folder.previous" / "inner" / "file").write_text("old")
    heal(folder)
    assert read(folder) == "new"
    write(folder, "newer")
    assert os.listdir(tmp_path) == ["folder"]


def test_exchange_wins_over_a_reader_that_heals_in_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "folder"
    write(folder, "old")
    replace = os.replace
    calls: list[Any] = []

    def heal_first(source: Any, target: Any) -> None:
        if not calls:
            heal(folder)
        calls.append(target)
        replace(source, target)

    monkeypatch.setattr(os, "replace", heal_first)
    write(folder, "new")
    assert read(folder) == "new"
    assert len(calls) == 2
    assert os.listdir(tmp_path) == ["folder"]


def test_write_file_replaces_the_old_text_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_file(path, "a longer old text\n")
    write_file(path, "néw\n")
    assert path.read_bytes() == "néw\n".encode()
    assert os.listdir(tmp_path) == ["file"]


def test_write_file_keeps_the_old_text_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_file(path, "old")

    def fail(*paths: Any) -> None:
        raise OSError("full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="full"):
        write_file(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_write_file_into_a_missing_folder_fails_plainly(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_file(tmp_path / "missing" / "file", "text")


def test_held_folder_is_nobody_elses_even_under_another_name(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    with hold(folder):
        os.rename(folder, tmp_path / "two")
        assert is_held(tmp_path / "two")
        with pytest.raises(BlockingIOError, match="another process works in the folder"), hold(tmp_path / "two"):
            pass
    assert not is_held(tmp_path / "two")
    with hold(tmp_path / "two"):
        pass
    with pytest.raises(FileNotFoundError), hold(folder):
        pass


def test_a_look_at_a_folder_does_not_keep_it_from_being_held(tmp_path: Path) -> None:
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            is_held(tmp_path)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in range(50):
            with hold(tmp_path):
                pass
    finally:
        stop.set()
        looking.join()
