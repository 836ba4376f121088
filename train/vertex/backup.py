"""RunBackup: a run folder's copy in a bucket, so that a run goes on after its machine is gone.

A bucket has no folders that could be exchanged at once, so each backup gets an address of its own, and one object,
written last, says which of them counts:

    backup.json              the files of the backup that counts, and their sizes
    backups/STEP-ID/...      state/, best/, config.json, train.log and the lines of JSON, as they were at one moment
    train.log                a copy for those who watch

So the bucket's backup is complete at every moment, and a machine that is lost in the middle leaves the last one.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import uuid
from pathlib import Path

from gpt.errors import TrainingError
from gpt.vertex.bucket import Storage, join
from train.folder import BEST_FOLDER, CONFIG_FILE, LOG_FILE, METRICS_FILE, SAMPLES_FILE, STATE_FOLDER

MANIFEST = "backup.json"
BACKUPS = "backups"
ATTEMPTS = 5

Identity = tuple[int, int]


class RunBackup:
    """The copy of one run.

    Args:
        storage: where the bucket is.
        address: gs://bucket/path, the run's own.
        out: the run folder on this machine.
    """

    def __init__(self, storage: Storage, address: str, out: Path) -> None:
        self._storage = storage
        self._address = address
        self._out = out
        self._saved: tuple[Identity, Identity] = ((0, 0), (0, 0))
        self._log_bytes = 0

    def restore(self) -> bool:
        """Fetch the bucket's backup into the run folder.

        Returns:
            whether there was one.

        Raises:
            TrainingError: its manifest is damaged, or a file is not what the manifest says.
            VertexError: the bucket cannot be read.
        """
        manifest = self._read_manifest()
        if manifest is None:
            return False
        name, files = manifest
        for path, size in files.items():
            self._storage.download(join(self._address, BACKUPS, name, path), self._out / path)
            if (found := (self._out / path).stat().st_size) != size:
                raise TrainingError(
                    f"{join(self._address, BACKUPS, name, path)} has {found:,} bytes, and {size:,} were uploaded; "
                    "begin anew under another name"
                )
        self._saved = self._identities()
        return True

    def has_news(self) -> bool:
        """Whether the run saved another state since the last backup."""
        return self._identities()[0] not in ((0, 0), self._saved[0])

    def save(self) -> None:
        """Copy the run folder to the bucket, unless it is there as it stands.

        Raises:
            VertexError: the bucket cannot be written; the last backup is then as it was.
        """
        identities = self._identities()
        if identities == self._saved or identities[0] == (0, 0):
            return
        # Beside the run folder: a hard link, which costs nothing, must stay on the same disk.
        with tempfile.TemporaryDirectory(dir=self._out.parent, prefix=".backup-") as folder:
            identities = self._freeze(Path(folder))
            files = {
                path.relative_to(folder).as_posix(): path.stat().st_size
                for path in sorted(Path(folder).rglob("*"))
                if path.is_file()
            }
            step = json.loads((Path(folder) / STATE_FOLDER / "state.json").read_text(encoding="utf-8"))["step"]
            name = f"{step:08d}-{uuid.uuid4().hex[:8]}"
            self._storage.upload_folder(Path(folder), join(self._address, BACKUPS, name))
        manifest = {"backup": name, "step": step, "files": files}
        self._storage.write(join(self._address, MANIFEST), json.dumps(manifest, indent=1).encode())
        self._saved = identities
        for path in self._storage.list(join(self._address, BACKUPS)):
            if not path.startswith(f"{name}/"):
                self._storage.delete(join(self._address, BACKUPS, path))

    def publish_log(self) -> None:
        """Copy train.log to the bucket if it has grown."""
        try:
            content = (self._out / LOG_FILE).read_bytes()
        except OSError:
            return
        if len(content) != self._log_bytes:
            self._storage.write(join(self._address, LOG_FILE), content)
            self._log_bytes = len(content)

    def _read_manifest(self) -> tuple[str, dict[str, int]] | None:
        address = join(self._address, MANIFEST)
        content = self._storage.read(address)
        if content is None:
            return None
        try:
            manifest = json.loads(content)
            return str(manifest["backup"]), {str(path): int(size) for path, size in manifest["files"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise TrainingError(f"{address} is damaged ({error!r}); begin anew under another name") from error

    def _freeze(self, folder: Path) -> tuple[Identity, Identity]:
        """Link the run folder's files into `folder` as they are at one moment; what they are then.

        The trainer writes its best checkpoint before the state that counts on it, so a best one that is taken after
        the state is at least as new, as after a kill.
        """
        for attempt in range(ATTEMPTS):
            before = self._identities()
            try:
                for name in (STATE_FOLDER, BEST_FOLDER):
                    if (self._out / name).is_dir():
                        shutil.copytree(self._out / name, folder / name, copy_function=os.link)
                for name in (CONFIG_FILE, METRICS_FILE, SAMPLES_FILE, LOG_FILE):
                    shutil.copyfile(self._out / name, folder / name)
            except OSError:  # a folder that was exchanged in the middle
                if attempt == ATTEMPTS - 1:
                    raise
            else:
                if self._identities() == before and before[0] != (0, 0):
                    return before
            for name in (STATE_FOLDER, BEST_FOLDER):
                shutil.rmtree(folder / name, ignore_errors=True)
        raise TrainingError(f"{self._out} changes too fast to be copied; give a larger --save-interval")

    def _identities(self) -> tuple[Identity, Identity]:
        return _identity(self._out / STATE_FOLDER), _identity(self._out / BEST_FOLDER)


def _identity(folder: Path) -> Identity:
    """What changes when another folder takes this one's place; zeros while there is none."""
    try:
        status = folder.stat()
    except OSError:
        return 0, 0
    return status.st_ino, status.st_mtime_ns
