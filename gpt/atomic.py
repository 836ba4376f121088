"""Folders and files that are complete or absent: written beside, flushed, renamed.

A folder cannot be renamed onto another one, so replacing takes two renames: the old folder steps aside as
`<folder>.previous`, and the new one takes its place. A crash between the two leaves no folder of that name, and
`heal` brings the old one back. One writer at a time for each folder; readers may come and go.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

PREVIOUS_SUFFIX = ".previous"
# Who only looks whether somebody works in a folder holds its lock for a moment.
LOCK_TRIES, LOCK_WAIT_S = 10, 0.05


@contextlib.contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield a new, empty folder; when the block ends well, it takes the place of `folder` with all that it holds.

    When the block or the exchange fails, `folder` is as it was, and the new folder is removed.

    Raises:
        OSError: something cannot be written or renamed.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    heal(folder)
    partial = partial_of(folder)
    if partial.exists():  # left by a process that was killed
        shutil.rmtree(partial)
    try:
        partial.mkdir()
        yield partial
        flush_folder(partial)
        _exchange(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def write_file(path: Path, text: str) -> None:
    """Write `text` in UTF-8 to `path`, which holds the old text or all of the new one at every moment.

    Raises:
        OSError: it cannot be written; the old file is then as it was.
    """
    partial = partial_of(path)
    try:
        partial.write_text(text, encoding="utf-8")
        _flush(partial)
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):  # the folder itself may not be there
            partial.unlink()
        raise


def partial_of(path: Path) -> Path:
    """Where a file or folder is written before it takes its place; a process that was killed may leave it behind."""
    return path.with_name(f".{path.name}.partial")


def heal(folder: Path) -> None:
    """Bring back the folder that a crash left as `<folder>.previous`, if there is one and `folder` is missing."""
    previous = _previous(folder)
    if previous.exists() and not folder.exists():
        with contextlib.suppress(OSError):  # a read-only disk, or another process healed it first
            os.rename(previous, folder)


def flush_folder(folder: Path) -> None:
    """Wait until all that a folder holds is on the disk; OSError if it cannot be."""
    for path in folder.rglob("*"):
        _flush(path)
    _flush(folder)


def identity(folder: Path) -> tuple[int, int]:
    """What changes when another folder takes this one's place; zeros while there is none."""
    try:
        status = folder.stat()
    except OSError:
        return 0, 0
    return status.st_ino, status.st_mtime_ns


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Lock `folder` until the block ends, as a training run locks its own; the lock goes with it when it is renamed.

    Raises:
        BlockingIOError: somebody else holds it, and for longer than a look takes.
        OSError: there is no such folder.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows opens no folders: nothing guards them there
        yield
        return
    try:
        for tries_left in reversed(range(LOCK_TRIES)):
            if _lock(descriptor, exclusive=True):
                break
            if not tries_left:
                raise BlockingIOError(errno.EWOULDBLOCK, "another process works in the folder", str(folder))
            time.sleep(LOCK_WAIT_S)
        yield
    finally:
        os.close(descriptor)


def is_held(folder: Path) -> bool:
    """Whether somebody holds the folder; OSError if there is none."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return False
    try:
        return not _lock(descriptor, exclusive=False)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, *, exclusive: bool) -> bool:
    """Lock an open folder, alone or with others who only look; whether nobody stood against it."""
    try:
        import fcntl

        fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):  # Windows, or a file system without locks
        return True
    return True


def _exchange(new: Path, folder: Path) -> None:
    previous = _previous(folder)
    for attempts_left in (2, 1, 0):
        if folder.exists():
            shutil.rmtree(previous, ignore_errors=True)
            os.rename(folder, previous)
        try:
            os.replace(new, folder)
            break
        except OSError:
            heal(folder)
            # A reader that looked between the two renames may have healed the folder already: then try again.
            if not (attempts_left and folder.exists()):
                raise
    _flush(folder.parent)
    shutil.rmtree(previous, ignore_errors=True)


def _previous(folder: Path) -> Path:
    return folder.with_name(folder.name + PREVIOUS_SUFFIX)


def _flush(path: Path) -> None:
    """Wait until a file's bytes, or a folder's entries, are on the disk."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # Windows opens no folders
        if path.is_dir():
            return
        raise
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
