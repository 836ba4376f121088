"""The checkpoints in one folder: renamed, deleted and named, a run's as a whole."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path

import pytest

from gpt.atomic import hold
from gpt.checkpoint import list_checkpoints
from gpt.checkpoint_store import MAX_NAME_LENGTH, CheckpointStore, check_name
from gpt.errors import CheckpointError, CheckpointNameError
from tests.fake_page import save_random_checkpoint
from tests.hostile_zip import files_of, zip_of


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A shipped checkpoint, one more, and a run with its best."""
    for name in ("laptop", "other", "run/best"):
        save_random_checkpoint(tmp_path / "checkpoints" / name)
    (tmp_path / "checkpoints" / "run" / "metrics.jsonl").write_text("{}\n")
    (tmp_path / "checkpoints" / "run" / "state").mkdir()
    return tmp_path / "checkpoints"


@pytest.fixture
def store(root: Path) -> CheckpointStore:
    return CheckpointStore(root, shipped=("laptop", "shakespeare"), is_busy=lambda folder: folder.name == "busy")


def names(root: Path) -> list[str]:
    return [info.name for info in list_checkpoints(root)]


def everything(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def test_checkpoint_is_renamed(store: CheckpointStore, root: Path) -> None:
    before = files_of(root / "other")
    store.rename("other", "My model 2.0")
    assert names(root) == ["My model 2.0", "laptop", "run"]
    assert files_of(root / "My model 2.0") == before


def test_run_is_renamed_and_deleted_as_a_whole(store: CheckpointStore, root: Path) -> None:
    assert store.is_run(store.find("run")) and not store.is_run(store.find("other"))
    store.rename("run", "long-run")
    assert (root / "long-run" / "metrics.jsonl").exists() and (root / "long-run" / "state").is_dir()
    assert not (root / "run").exists()
    store.delete("long-run")
    assert everything(root) == ["laptop", "other"]


def test_packing_a_run_packs_its_best_alone(store: CheckpointStore, root: Path) -> None:
    file = io.BytesIO()
    store.pack("run", file)
    assert store.unpack(file, "run.zip") == "run-2"
    assert files_of(root / "run-2") == files_of(root / "run" / "best")
    assert not store.is_run(store.find("run-2"))


@pytest.mark.parametrize("name", ["none", "", "..", "run/best", "/etc", "other/"])
def test_only_what_is_listed_can_be_touched(store: CheckpointStore, root: Path, name: str) -> None:
    before = everything(root)
    for touch in (
        lambda: store.rename(name, "new"),
        lambda: store.delete(name),
        lambda: store.pack(name, io.BytesIO()),
    ):
        with pytest.raises(CheckpointError, match="there is no checkpoint"):
            touch()
    assert everything(root) == before


def test_shipped_one_keeps_its_name_and_stays(store: CheckpointStore, root: Path) -> None:
    with pytest.raises(CheckpointError, match="'laptop' belongs to the repository and cannot be renamed"):
        store.rename("laptop", "new")
    with pytest.raises(CheckpointError, match="'laptop' belongs to the repository and cannot be deleted"):
        store.delete("laptop")
    assert store.protection("laptop") and not store.protection("other")
    assert "laptop" in names(root)


def test_run_under_way_keeps_its_name_and_stays(store: CheckpointStore, root: Path) -> None:
    with hold(root / "run"):  # as a training process does
        assert "stop it first" in store.protection("run")
        for touch in (lambda: store.rename("run", "new"), lambda: store.delete("run")):
            with pytest.raises(CheckpointError, match="a training run works in 'run'"):
                touch()
    assert store.protection("run") == ""
    store.rename("run", "busy")  # what the store was told is busy without holding the lock
    assert store.protection("busy")
    with pytest.raises(CheckpointError, match="a training run works in 'busy'"):
        store.delete("busy")
    assert "busy" in names(root)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "is empty"),
        ("x" * (MAX_NAME_LENGTH + 1), f"has {MAX_NAME_LENGTH + 1} characters"),
        ("best", "means something else"),
        ("a.previous", "means something else"),
        (".hidden", "cannot be a checkpoint's"),
        ("..", "cannot be a checkpoint's"),
        ("a/b", "cannot be a checkpoint's"),
        ("a\\b", "cannot be a checkpoint's"),
        ("a\0", "cannot be a checkpoint's"),
        ("a\n", "cannot be a checkpoint's"),
        ("-rf", "cannot be a checkpoint's"),
        (" a", "cannot be a checkpoint's"),
        ("a ", "cannot be a checkpoint's"),
        ("a.", "cannot be a checkpoint's"),
        ("<b>", "cannot be a checkpoint's"),
        ("\N{LATIN SMALL LETTER E WITH ACUTE}", "cannot be a checkpoint's"),
    ],
)
def test_name_that_cannot_be_is_refused(store: CheckpointStore, root: Path, name: str, words: str) -> None:
    with pytest.raises(CheckpointNameError, match=words):
        store.rename("other", name)
    with pytest.raises(CheckpointNameError, match=words):
        store.unpack(io.BytesIO(b""), "gift.zip", name)
    assert everything(root) == ["laptop", "other", "run"]


@pytest.mark.parametrize("name", ["a", "A-b_c.d e", "9", "_", "x" * MAX_NAME_LENGTH, "bestest"])
def test_plain_name_is_taken(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize("name", ["run", "laptop", "shakespeare", "empty", "gone", "file", "other"])
def test_taken_name_is_refused(store: CheckpointStore, root: Path, name: str) -> None:
    (root / "empty").mkdir()
    (root / "file").write_text("")
    shutil.copytree(root / "run" / "best", root / "gone.previous")  # a crash left it; reading brings it back as "gone"
    data = zip_of(files_of(root / "other"))
    with pytest.raises(CheckpointError, match=f"{name!r} is taken"):
        store.rename("other", name)
    with pytest.raises(CheckpointError, match=f"{name!r} is taken"):
        store.unpack(io.BytesIO(data), "gift.zip", name)
    assert (root / "other").is_dir() and (root / "file").read_text() == ""


def test_unpacked_one_gets_a_free_name(store: CheckpointStore, root: Path) -> None:
    files = files_of(root / "other")
    for top, called, expected in (
        ("other", "x.zip", "other-2"),
        ("other", "x.zip", "other-3"),
        ("", "laptop.zip", "laptop-2"),
        ("", "shakespeare.zip", "shakespeare-2"),
        ("", "caf\N{LATIN SMALL LETTER E WITH ACUTE} <b>.zip", "caf- -b"),
        ("best", "x.zip", "checkpoint"),
        ("x" * 100, "x.zip", "x" * (MAX_NAME_LENGTH - 5)),
    ):
        assert store.unpack(io.BytesIO(zip_of(files, top)), called) == expected
        check_name(expected)


def test_what_a_crash_left_beside_does_not_come_back(store: CheckpointStore, root: Path) -> None:
    for change in (lambda: store.rename("other", "new"), lambda: store.delete("new")):
        name = "other" if (root / "other").exists() else "new"
        shutil.copytree(root / name, root / f"{name}.previous")
        change()
        assert name not in names(root)
    assert everything(root) == ["laptop", "run"]


def test_what_killed_processes_left_is_removed(store: CheckpointStore, root: Path) -> None:
    (root / ".old.unpacking").mkdir()
    (root / ".live.unpacking").mkdir()
    (root / ".other.deleted").mkdir()
    (root / ".other.deleted" / "x").write_text("")
    with hold(root / ".live.unpacking"):
        store.unpack(io.BytesIO(zip_of(files_of(root / "other"))), "gift.zip", "gift")
    store.delete("other")
    assert everything(root) == [".live.unpacking", "gift", "laptop", "run"]


def test_deleting_a_link_leaves_what_it_leads_to(store: CheckpointStore, root: Path, tmp_path: Path) -> None:
    os.rename(root / "other", tmp_path / "elsewhere")
    (root / "link").symlink_to(tmp_path / "elsewhere")
    store.rename("link", "linked")
    store.delete("linked")
    assert everything(root) == ["laptop", "run"]
    assert files_of(tmp_path / "elsewhere")


def test_store_makes_its_folder(tmp_path: Path, root: Path) -> None:
    fresh = CheckpointStore(tmp_path / "new" / "checkpoints")
    assert fresh.unpack(io.BytesIO(zip_of(files_of(root / "other"))), "gift.zip") == "tiny"
    assert names(fresh.root) == ["tiny"]
