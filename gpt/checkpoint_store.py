"""CheckpointStore: the checkpoints in one folder, to rename, delete, pack into a zip and unpack from one.

A run's best checkpoint goes by the run's name: renaming and deleting it means the whole run, packing it only the
checkpoint. What is done is done whole or not at all; other programs may read the folder meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import BinaryIO

from gpt.atomic import PREVIOUS_SUFFIX, flush_folder, hold, is_held
from gpt.checkpoint_archive import pack_folder, unpack_archive
from gpt.checkpoint_info import CheckpointInfo, list_checkpoints
from gpt.checkpoint_proof import prove_checkpoint
from gpt.errors import CheckpointError, CheckpointNameError

SHIPPED = ("laptop", "shakespeare", "verse")
BEST_FOLDER = "best"
MAX_NAME_LENGTH = 64
NAME = re.compile(rf"[A-Za-z0-9_](?:[A-Za-z0-9._ -]{{0,{MAX_NAME_LENGTH - 2}}}[A-Za-z0-9_-])?")
DELETED_SUFFIX, UNPACKING_SUFFIX = ".deleted", ".unpacking"


class CheckpointStore:
    """The checkpoints in one folder.

    Args:
        root: the folder; it need not be there yet.
        shipped: names of those that belong to the repository: they keep their names and stay.
        is_busy: whether something works in a run's folder, besides a process that holds its lock.
    """

    def __init__(
        self, root: Path, *, shipped: Collection[str] = (), is_busy: Callable[[Path], bool] = lambda _: False
    ) -> None:
        self.root = root
        self._shipped = shipped
        self._is_busy = is_busy
        self._changing = threading.Lock()

    def find(self, name: str) -> CheckpointInfo:
        """The checkpoint of this name; CheckpointError if there is none."""
        for info in list_checkpoints(self.root):
            if info.name == name:
                return info
        raise CheckpointError(f"there is no checkpoint {name!r} in {self.root}; choose one from the list")

    def is_run(self, info: CheckpointInfo) -> bool:
        """Whether the checkpoint is the best of a run, whose folder holds more."""
        return info.folder.resolve() != (self.root / info.name).resolve()

    def protection(self, name: str) -> str:
        """Why the checkpoint can be neither renamed nor deleted, as a clause; empty where it can."""
        if name in self._shipped:
            return "part of the repository"
        try:
            busy = is_held(self.root / name) or self._is_busy(self.root / name)
        except OSError:  # gone meanwhile
            busy = True
        return "a run trains in it; stop it first" if busy else ""

    def rename(self, old: str, new: str) -> None:
        """Give a checkpoint, or the run that it is the best of, another name.

        Raises:
            CheckpointNameError: the new name cannot be a checkpoint's.
            CheckpointError: there is no such checkpoint, it must keep its name, or the new one is taken.
        """
        check_name(new)
        with self._change(old, "renamed") as folder:
            if self._is_taken(new):
                raise CheckpointError(f"the name {new!r} is taken; choose another")
            os.rename(folder, self.root / new)
            self._forget_previous(old)

    def delete(self, name: str) -> None:
        """Delete a checkpoint, or the run that it is the best of, with all that the run's folder holds.

        Raises:
            CheckpointError: there is no such checkpoint, or it must stay.
        """
        with self._change(name, "deleted") as folder:
            if folder.is_symlink():
                folder.unlink()
                return
            # Gone from the list in one step, whatever becomes of the files.
            hidden = folder.with_name(f".{name}{DELETED_SUFFIX}")
            shutil.rmtree(hidden, ignore_errors=True)  # left by a process that was killed
            os.rename(folder, hidden)
            self._forget_previous(name)
            shutil.rmtree(hidden)

    def pack(self, name: str, file: BinaryIO) -> None:
        """Write the checkpoint's files, without a run's other ones, as a zip.

        Raises:
            CheckpointError: there is no such checkpoint, a file of it cannot be read, or the zip not be written.
        """
        pack_checkpoint(self.find(name).folder, name, file)

    def unpack(self, archive: BinaryIO, called: str, name: str | None = None) -> str:
        """Add the checkpoint that a zip holds, once it was loaded strictly; nothing is left of one that is refused.

        Args:
            archive: the zip.
            called: its file's name.
            name: the new checkpoint's; None takes that of the folder in the zip, or else the file's, with a number
                where it is taken.

        Returns:
            The new checkpoint's name.

        Raises:
            CheckpointNameError: the name cannot be a checkpoint's.
            CheckpointError: the zip is none, or holds anything but a checkpoint; or the name is taken.
        """
        return self.add(lambda hidden: unpack_archive(archive, called, hidden) or Path(called).stem, called, name)

    def add(self, fill: Callable[[Path], str], called: str, name: str | None = None) -> str:
        """Add a checkpoint from elsewhere, once it was loaded strictly; nothing is left of one that is refused.

        Args:
            fill: writes its files into the folder that it is given, which no list shows, and gives a name to wish for.
            called: what to call it in an error.
            name: the new checkpoint's; None takes the wished one, with a number where it is taken.

        Returns:
            The new checkpoint's name.

        Raises:
            CheckpointNameError: the name cannot be a checkpoint's.
            CheckpointError: what was written is no checkpoint; or the name is taken.
        """
        if name is not None:
            check_name(name)
            self._check_free(name)
        try:
            with self._hidden_folder() as hidden:
                wish = fill(hidden)
                try:
                    prove_checkpoint(hidden)
                except CheckpointError as error:  # in its own words, not in those of a folder that nobody saw
                    words = str(error).replace(f"{hidden}{os.sep}", "").replace(str(hidden), called)
                    raise CheckpointError(f"{called} is no checkpoint of this project: {words}") from error
                flush_folder(hidden)
                with self._changing:
                    if name is None:
                        name = self._free_name(wish)
                    else:
                        self._check_free(name)
                    os.rename(hidden, self.root / name)
        except OSError as error:
            raise CheckpointError(
                f"{called} cannot be kept in {self.root} ({error.strerror or error}); "
                "free some space, or change the folder's rights"
            ) from error
        return name

    @contextlib.contextmanager
    def _change(self, name: str, done: str) -> Iterator[Path]:
        """The checkpoint's folder, or its run's, held so that nobody trains there meanwhile."""
        with self._changing:
            folder = self.root / self.find(name).name
            if name in self._shipped:
                raise CheckpointError(f"the checkpoint {name!r} belongs to the repository and cannot be {done}")
            try:
                with hold(folder):
                    if self._is_busy(folder):
                        raise BlockingIOError
                    yield folder
            except BlockingIOError as error:
                raise CheckpointError(
                    f"a training run works in {name!r}, so it cannot be {done} now; stop the run first"
                ) from error
            except OSError as error:
                raise CheckpointError(
                    f"the checkpoint {name!r} cannot be {done} ({error.strerror or error}); change the folder's rights"
                ) from error

    @contextlib.contextmanager
    def _hidden_folder(self) -> Iterator[Path]:
        """A new folder that no list shows, removed at the end unless it was renamed."""
        self.root.mkdir(parents=True, exist_ok=True)
        for path in self.root.glob(f".*{UNPACKING_SUFFIX}"):
            # One that nobody holds was left by a process that was killed.
            with contextlib.suppress(OSError), hold(path):
                shutil.rmtree(path)
        hidden = Path(tempfile.mkdtemp(prefix=".", suffix=UNPACKING_SUFFIX, dir=self.root))
        try:
            with hold(hidden):
                shutil.copymode(self.root, hidden)
                yield hidden
        finally:
            shutil.rmtree(hidden, ignore_errors=True)

    def _is_taken(self, name: str) -> bool:
        names = (name, name + PREVIOUS_SUFFIX)
        return name in self._shipped or any(os.path.lexists(self.root / taken) for taken in names)

    def _check_free(self, name: str) -> None:
        if self._is_taken(name):
            raise CheckpointError(f"the name {name!r} is taken; choose another")

    def _free_name(self, wish: str) -> str:
        """The wished name as far as it can be one, with a number where it is taken."""
        plain = re.sub(r"[^A-Za-z0-9._ -]+", "-", wish).strip(". -")[: MAX_NAME_LENGTH - 5].strip(". ")
        stem = plain if plain and _complaint(plain) is None else "checkpoint"
        name, number = stem, 2
        while self._is_taken(name):
            name, number = f"{stem}-{number}", number + 1
        return name

    def _forget_previous(self, name: str) -> None:
        """Remove what an interrupted exchange left beside a folder; without it, reading would bring it back."""
        shutil.rmtree(self.root / (name + PREVIOUS_SUFFIX), ignore_errors=True)


def pack_checkpoint(folder: Path, name: str, file: BinaryIO) -> None:
    """Write the checkpoint in `folder` as a zip; CheckpointError if a file cannot be read or the zip not be written."""
    try:
        pack_folder(folder, name, file)
    except OSError as error:
        raise CheckpointError(
            f"the checkpoint {name!r} cannot be packed ({error.strerror or error}); free some space and try again"
        ) from error


def check_name(name: str) -> None:
    """Raise CheckpointNameError unless a checkpoint can be called so on every system."""
    if complaint := _complaint(name):
        raise CheckpointNameError(f"the name {name!r} {complaint}")


def _complaint(name: str) -> str | None:
    """What is wrong with a name, or None."""
    if not name:
        return "is empty; type one"
    if len(name) > MAX_NAME_LENGTH:
        return f"has {len(name)} characters; at most {MAX_NAME_LENGTH} are allowed"
    if name == BEST_FOLDER or name.endswith(PREVIOUS_SUFFIX):
        return f"means something else here; choose one that is not {BEST_FOLDER} and does not end in {PREVIOUS_SUFFIX}"
    if not NAME.fullmatch(name):
        return (
            "cannot be a checkpoint's; use the letters A to Z, digits, '.', '_', '-' and spaces, "
            "with a letter, a digit or '_' at the beginning and no dot or space at the end"
        )
    return None
