"""Files and folders of a bucket, through Google's library."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpt.errors import AccessDeniedError, ConfigError, ResourceNotFoundError
from gpt.vertex.bucket import Storage, join, split
from tests.emulator.emulator import BUCKET, Emulator


@pytest.fixture
def storage(emulator: Emulator) -> Iterator[Storage]:
    with contextlib.closing(Storage()) as storage:
        yield storage


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("gs://my-bucket", ("my-bucket", "")),
        ("gs://my-bucket/", ("my-bucket", "")),
        ("gs://my.bucket_1/a/b/", ("my.bucket_1", "a/b")),
    ],
)
def test_address_has_a_bucket_and_a_path(address: str, parts: tuple[str, str]) -> None:
    assert split(address) == parts


@pytest.mark.parametrize("address", ["", "my-bucket", "gs://", "gs:///a", "gs://Upper/a", "s3://my-bucket", "gs://ab"])
def test_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match=r"bucket is .*; give gs:// and a bucket's name, such as gs://my-bucket"):
        split(address, "bucket")


def test_parts_are_joined_with_one_slash() -> None:
    assert join("gs://b/a/", "/c/", "d") == "gs://b/a/c/d"


def test_folder_comes_back_as_it_was(storage: Storage, tmp_path: Path, emulator: Emulator) -> None:
    (tmp_path / "here" / "deeper").mkdir(parents=True)
    (tmp_path / "here" / "one.txt").write_bytes(b"one")
    (tmp_path / "here" / "deeper" / "two bytes.bin").write_bytes(b"\0\xff")
    address = f"gs://{BUCKET}/some/folder"
    storage.upload_folder(tmp_path / "here", address)
    emulator.storage.put(BUCKET, "some/folder-of-another-name", b"")
    emulator.storage.put(BUCKET, "some/folder/", b"")  # how a console shows a folder
    assert storage.list(address) == {"one.txt": 3, "deeper/two bytes.bin": 2}
    storage.download_folder(address, tmp_path / "there")
    found = {str(path.relative_to(tmp_path / "there")): path.read_bytes() for path in (tmp_path / "there").rglob("*.*")}
    assert found == {"one.txt": b"one", "deeper/two bytes.bin": b"\0\xff"}


def test_object_is_written_read_and_deleted(storage: Storage) -> None:
    address = f"gs://{BUCKET}/a/b.json"
    assert storage.read(address) is None
    storage.write(address, b"first")
    storage.write(address, b"second")
    assert storage.read(address) == b"second"
    storage.delete(address)
    storage.delete(address)
    assert storage.read(address) is None


def test_failed_download_leaves_no_file(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(ResourceNotFoundError, match=f"gs://{BUCKET}/nothing was not found"):
        storage.download(f"gs://{BUCKET}/nothing", tmp_path / "folder" / "file")
    assert list((tmp_path / "folder").iterdir()) == []


def test_bucket_itself_is_no_object(storage: Storage) -> None:
    with pytest.raises(ConfigError, match="give the path of something in the bucket too"):
        storage.read(f"gs://{BUCKET}")


def test_refusal_is_the_projects_own_error(storage: Storage, emulator: Emulator) -> None:
    with pytest.raises(ResourceNotFoundError):
        storage.list("gs://no-such-bucket/a")
    emulator.faults.answer(403, f"/b/{BUCKET}/o")  # not what the library asks of the bucket meanwhile
    with pytest.raises(AccessDeniedError, match=r"roles/storage\.objectUser"):
        storage.list(f"gs://{BUCKET}/a")
    assert storage.list(f"gs://{BUCKET}/a") == {}
