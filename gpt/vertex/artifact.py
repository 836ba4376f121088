"""Artifact: a checkpoint's files as they lie in a bucket, in a folder that is named after what they hold.

The same files always lie in the same place, so what is there already is not sent again, and a folder that an
interruption left incomplete is completed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from gpt.byte_size import byte_size
from gpt.checkpoint_info import FILES, read_info
from gpt.errors import CheckpointError
from gpt.vertex.bucket import Storage, join

FOLDER = "checkpoints"
DIGEST_LENGTH = 16


class Artifact:
    """The files of a checkpoint, and where they belong.

    Args:
        folder: the checkpoint, on this machine.
        root: gs://bucket or a folder in it.

    Raises:
        CheckpointError: it is missing, incomplete or cannot be read.

    Attributes:
        info: what the checkpoint is.
        digest: the beginning of the SHA-256 of all files, in hexadecimal digits.
        address: the folder in the bucket.
    """

    def __init__(self, folder: Path, root: str) -> None:
        self.info = read_info(folder)
        self._paths = [folder / name for name in FILES if (folder / name).is_file()]
        self._seen = self._stamps()
        self.digest = self._hash()
        self.address = join(root, FOLDER, self.digest)

    @property
    def size_bytes(self) -> int:
        """Bytes of all files together."""
        return sum(size for size, _ in self._seen.values())

    def missing(self, storage: Storage) -> list[Path]:
        """The files that are not in the bucket yet.

        Raises:
            VertexError: the bucket is not there, or cannot be read.
        """
        present = storage.list(self.address)
        return [path for path in self._paths if present.get(path.name) != self._seen[path][0]]

    def upload(self, storage: Storage, show: Callable[[str], None]) -> int:
        """Send the files that are missing; their number.

        Raises:
            CheckpointError: the folder changed in the meantime.
            VertexError: the bucket is not there, or cannot be written.
        """
        missing = self.missing(storage)
        for path in missing:
            show(f"uploading {path.name}, {byte_size(self._seen[path][0])}")
            storage.upload(path, join(self.address, path.name))
            if self._stamps() != self._seen:
                storage.delete(join(self.address, path.name))  # it would lie under a name that is not its own
                raise CheckpointError(
                    f"the checkpoint {self.info.folder} changed while it was uploaded; "
                    "run the command again when nothing writes to it"
                )
        return len(missing)

    def _stamps(self) -> dict[Path, tuple[int, int]]:
        """Size in bytes, and time of the last change in nanoseconds, of every file."""
        try:
            found = {path: path.stat() for path in self._paths}
        except OSError as error:
            raise _unreadable(self.info.folder, error) from error
        return {path: (stat.st_size, stat.st_mtime_ns) for path, stat in found.items()}

    def _hash(self) -> str:
        whole = hashlib.sha256()
        try:
            for path in self._paths:
                with path.open("rb") as file:
                    whole.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
        except OSError as error:
            raise _unreadable(self.info.folder, error) from error
        return whole.hexdigest()[:DIGEST_LENGTH]


def _unreadable(folder: Path, error: OSError) -> CheckpointError:
    return CheckpointError(f"the checkpoint {folder} cannot be read ({error.strerror or error})")
