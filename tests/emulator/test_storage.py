"""The emulator's storage, through google-cloud-storage."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import pytest

from tests.emulator.emulator import BUCKET, Emulator


@pytest.fixture
def client(emulator: Emulator) -> Iterator[Any]:
    from google.cloud import storage

    with contextlib.closing(storage.Client(project="rehearsal")) as client:
        yield client


@pytest.mark.parametrize("size", [0, 9, 300_000, 12_000_001])  # the last is sent in chunks
def test_bytes_come_back_as_they_were(client: Any, size: int) -> None:
    data = (b"\r\n\0--\xff" + random.Random(1).randbytes(size))[:size]
    blob = client.bucket(BUCKET).blob("a folder/a name + more")
    blob.upload_from_string(data)
    assert blob.download_as_bytes() == data
    assert blob.size == size
    if size > 9:
        assert blob.download_as_bytes(start=3, end=8) == data[3:9]


def test_objects_are_listed_by_prefix_folder_and_page(client: Any, emulator: Emulator) -> None:
    for name in ("a/1", "a/2", "a/deep/3", "b/4"):
        emulator.storage.put(BUCKET, name, b"x")
    assert [blob.name for blob in client.list_blobs(BUCKET, prefix="a/")] == ["a/1", "a/2", "a/deep/3"]
    assert [blob.name for blob in client.list_blobs(BUCKET, page_size=1)] == ["a/1", "a/2", "a/deep/3", "b/4"]
    folders = client.list_blobs(BUCKET, prefix="a/", delimiter="/")
    assert ([blob.name for blob in folders], folders.prefixes) == (["a/1", "a/2"], {"a/deep/"})


def test_what_is_not_there_is_not_found(client: Any) -> None:
    from google.api_core.exceptions import Conflict, NotFound, PreconditionFailed

    with pytest.raises(NotFound):
        client.get_bucket("no-such-bucket")
    with pytest.raises(NotFound):
        client.bucket(BUCKET).blob("none").delete()
    blob = client.bucket(BUCKET).blob("one")
    blob.upload_from_string(b"1", if_generation_match=0)
    with pytest.raises(PreconditionFailed):
        blob.upload_from_string(b"2", if_generation_match=0)
    with pytest.raises(Conflict):
        client.create_bucket(BUCKET)
    blob.delete()
    assert not blob.exists()


def test_damaged_upload_is_refused(client: Any, emulator: Emulator) -> None:
    from google.api_core.exceptions import BadRequest

    blob = client.bucket(BUCKET).blob("one")
    blob.crc32c = "AAAAAA=="
    with pytest.raises(BadRequest, match="doesn't match calculated CRC32C"):
        blob.upload_from_string(b"1", checksum=None)
    assert emulator.storage.names(BUCKET) == []
