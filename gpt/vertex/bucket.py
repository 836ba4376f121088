"""Bucket storage: files and folders of Cloud Storage under their addresses, gs://bucket/path.

An object is written whole or not at all; a folder is nothing but a prefix that its objects' names share.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from gpt.atomic import partial_of
from gpt.errors import ConfigError
from gpt.vertex.faults import translated

SCHEME = "gs://"
TIMEOUT_S = 120  # for a request, or for a part of a long one to go on; the library retries what may be retried
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")


def join(address: str, *names: str) -> str:
    """The address of something in a folder: its parts with one slash between them."""
    return "/".join([address.rstrip("/"), *(name.strip("/") for name in names)])


def split(address: str, parameter: str = "the address") -> tuple[str, str]:
    """The bucket's name, and the path in it without slashes around.

    Args:
        address: gs://bucket or gs://bucket/path.
        parameter: what it is called in the message.

    Raises:
        ConfigError: it is no such address.
    """
    bucket, _, path = address.removeprefix(SCHEME).partition("/")
    if not address.startswith(SCHEME) or not _BUCKET.fullmatch(bucket):
        raise ConfigError(f"{parameter} is {address!r}; give gs:// and a bucket's name, such as gs://my-bucket")
    return bucket, path.strip("/")


class Storage:
    """Cloud Storage, with the application default credentials; STORAGE_EMULATOR_HOST sends the library elsewhere.

    Args:
        project: whose quota is used; None takes the credentials' own.

    Raises:
        VertexError: there are no credentials. Every method raises its subclasses too, when the storage refuses, does
            not answer, or does not have what is asked for.
    """

    def __init__(self, project: str | None = None) -> None:
        with translated("Cloud Storage"):
            from google.cloud.storage import Client  # type: ignore[import-untyped]

            self._client: Any = Client(project=project)

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def upload(self, path: Path, address: str) -> None:
        """Copy a file to an object."""
        with translated(address):
            self._blob(address).upload_from_filename(str(path), timeout=TIMEOUT_S)

    def upload_folder(self, folder: Path, address: str) -> None:
        """Copy every file of a folder, also in folders of it, under an address."""
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            self.upload(path, join(address, path.relative_to(folder).as_posix()))

    def write(self, address: str, content: bytes) -> None:
        """Make an object of these bytes, in the place of an older one."""
        with translated(address):
            self._blob(address).upload_from_string(content, content_type="application/octet-stream", timeout=TIMEOUT_S)

    def read(self, address: str) -> bytes | None:
        """An object's bytes; None if there is no such object."""
        with translated(address):
            from google.api_core.exceptions import NotFound

            try:
                content: bytes = self._blob(address).download_as_bytes(timeout=TIMEOUT_S)
            except NotFound:
                return None
            return content

    def download(self, address: str, path: Path) -> None:
        """Copy an object to a file, which then has all of it or does not exist; its folder is made."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = partial_of(path)
        try:
            with translated(address):
                self._blob(address).download_to_filename(str(partial), timeout=TIMEOUT_S)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def download_folder(self, address: str, folder: Path) -> None:
        """Copy every object under an address to files of a folder."""
        for name in self.list(address):
            self.download(join(address, name), folder / name)

    def list(self, address: str) -> dict[str, int]:
        """The objects under an address: their names after it, and their sizes in bytes."""
        bucket, path = split(address)
        prefix = f"{path}/" if path else ""
        with translated(address):
            blobs = self._client.list_blobs(bucket, prefix=prefix, timeout=TIMEOUT_S)
            # Consoles make objects that end in a slash, to show an empty folder.
            return {blob.name.removeprefix(prefix): int(blob.size) for blob in blobs if not blob.name.endswith("/")}

    def create_bucket(self, address: str, location: str) -> None:
        """Make the bucket of an address, in a location such as us-central1."""
        with translated(address):
            self._client.create_bucket(split(address)[0], location=location, timeout=TIMEOUT_S)

    def delete(self, address: str) -> None:
        """Delete an object; one that is not there is deleted already."""
        with translated(address):
            from google.api_core.exceptions import NotFound

            try:
                self._blob(address).delete(timeout=TIMEOUT_S)
            except NotFound:
                return

    def _blob(self, address: str) -> Any:
        bucket, path = split(address)
        if not path:
            raise ConfigError(f"the address is {address!r}; give the path of something in the bucket too")
        return self._client.bucket(bucket).blob(path)
