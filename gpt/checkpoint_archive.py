"""A checkpoint as a zip file: packed from its folder, and unpacked from a file for which nobody vouches.

A zip holds a checkpoint's files at its top or in one folder, and nothing else. All that it says about itself is
checked before a byte is unpacked, and what comes out is counted against what it said.
"""

from __future__ import annotations

import contextlib
import shutil
import stat
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO, cast

from gpt.atomic import identity
from gpt.checkpoint_info import CARD_FILE, CONFIG_FILE, FILES, RECORD_FILE, WEIGHTS_FILE, check_complete
from gpt.errors import CheckpointError
from gpt.tokenizer import FILES as TOKENIZER_FILES

MAX_WEIGHTS_BYTES = 1_000_000_000
MAX_TEXT_BYTES = 4_000_000
MAX_ARCHIVE_BYTES = MAX_WEIGHTS_BYTES + len(FILES) * MAX_TEXT_BYTES
MAX_ENTRIES = 32
# The list of entries is read whole before it can be counted.
MAX_DIRECTORY_BYTES = 1 << 20
# No file of a checkpoint shrinks like this; a bomb does.
MAX_RATIO, RATIO_FROM_BYTES = 100, 1_000_000
CHUNK_BYTES = 1 << 20
ENCRYPTED_FLAG = 0x1
PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt")
OURS = f"a checkpoint is {WEIGHTS_FILE}, {CONFIG_FILE}, {TOKENIZER_FILES[0]}, {RECORD_FILE} and {CARD_FILE}"


def pack_folder(folder: Path, name: str, file: BinaryIO) -> None:
    """Write the files of the checkpoint in `folder`, and no others, into a zip with one folder called `name`.

    Raises:
        CheckpointError: the folder or a file of it is missing.
        OSError: a file cannot be read, or the zip not be written.
    """
    with contextlib.ExitStack() as stack:
        for attempts_left in (2, 1, 0):
            found = identity(folder)
            check_complete(folder)
            sources = [stack.enter_context((folder / n).open("rb")) for n in FILES if (folder / n).is_file()]
            if identity(folder) == found or not attempts_left:
                break  # not replaced by a better one in between: the open files belong together
        with zipfile.ZipFile(file, "w", strict_timestamps=False) as archive:
            for source in sources:
                path = Path(source.name)
                entry = zipfile.ZipInfo.from_file(path, f"{name}/{path.name}", strict_timestamps=False)
                # Weights do not shrink.
                entry.compress_type = zipfile.ZIP_STORED if path.name == WEIGHTS_FILE else zipfile.ZIP_DEFLATED
                with archive.open(entry, "w") as target:
                    shutil.copyfileobj(source, target, CHUNK_BYTES)


def unpack_archive(archive: BinaryIO, called: str, folder: Path) -> str:
    """Unpack a checkpoint's files into `folder`, which is empty and stays unseen until they are proved.

    Args:
        archive: the zip.
        called: what to call it in an error.
        folder: where its files go, without the folder that it may have them in.

    Returns:
        That folder's name; empty when the files stand at the top.

    Raises:
        CheckpointError: it is no zip, damaged, or holds anything but a checkpoint; some files may be unpacked then.
        OSError: a file cannot be written.
    """
    start = archive.read(4)
    try:
        with zipfile.ZipFile(cast(BinaryIO, _Bounded(archive, called))) as opened:
            entries = [entry for entry in opened.infolist() if not _is_of_a_desktop(entry.filename)]
            top = _check_entries(entries, called)
            for entry in entries:
                if not entry.is_dir():
                    _inflate(opened, entry, folder / entry.filename.removeprefix(f"{top}/"))
    except zipfile.BadZipFile as error:
        if start[:2] != b"PK":
            raise CheckpointError(
                f"{called} is no zip file; choose one that Download or python -m gpt.checkpoints pack made"
            ) from error
        raise CheckpointError(f"{called} is damaged or was cut short ({error}); copy it again") from error
    except (zlib.error, EOFError, NotImplementedError, ValueError) as error:
        raise CheckpointError(f"{called} is damaged ({error}); copy it again") from error
    return top


class _Bounded:
    """A file of which no single read is larger than a list of entries may be."""

    def __init__(self, file: BinaryIO, called: str) -> None:
        self._file, self._called = file, called
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        """As a file's; CheckpointError where the list of entries is too long."""
        if size > MAX_DIRECTORY_BYTES:
            raise CheckpointError(f"{self._called} has more than {MAX_ENTRIES} entries; {OURS}")
        return self._file.read(size)


def _check_entries(entries: list[zipfile.ZipInfo], called: str) -> str:
    """The one folder that has the files, or nothing; CheckpointError unless they are a checkpoint's."""
    if len(entries) > MAX_ENTRIES:
        raise CheckpointError(f"{called} has {len(entries):,} entries; {OURS}")
    for entry in entries:
        _check_path(entry, called)
        _check_kind(entry, called)
    files = [entry for entry in entries if not entry.is_dir()]
    tops = {entry.filename.rpartition("/")[0] for entry in files}
    folders = {entry.filename.rstrip("/") for entry in entries if entry.is_dir()}
    if len(tops) > 1 or any("/" in top for top in tops) or folders - tops:
        some = ", ".join(repr(name) for name in sorted(tops | folders)[:4])
        raise CheckpointError(
            f"{called} has more than one folder or folders in folders ({some}); pack one checkpoint's folder alone"
        )
    names = [entry.filename.rpartition("/")[2] for entry in files]
    for entry, name in zip(files, names, strict=True):
        _check_file(entry, name, called)
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise CheckpointError(f"{called} has {twice} twice; pack the folder again")
    if missing := [name for name in (WEIGHTS_FILE, CONFIG_FILE, TOKENIZER_FILES[0]) if name not in names]:
        raise CheckpointError(f"{called} lacks {', '.join(missing)}; {OURS}")
    return next(iter(tops))


def _check_path(entry: zipfile.ZipInfo, called: str) -> None:
    """Raise CheckpointError unless the path stays inside the folder, on every system."""
    path = entry.orig_filename  # as it stands in the zip; the other one has been cleaned
    if path.startswith(("/", "\\")) or path[1:2] == ":":
        raise CheckpointError(f"{called} has the absolute path {path!r}; nothing of it was unpacked")
    if ".." in path.replace("\\", "/").split("/"):
        raise CheckpointError(f"{called} has the path {path!r}, which leaves its folder; nothing of it was unpacked")
    if "\\" in path or not path.isprintable() or path != entry.filename:
        raise CheckpointError(f"{called} has the path {path!r}, which is no plain name; nothing of it was unpacked")


def _check_kind(entry: zipfile.ZipInfo, called: str) -> None:
    """Raise CheckpointError unless the entry is a plain file or folder, no pickle, and readable without a password."""
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind == stat.S_IFLNK:
        raise CheckpointError(f"{called} has a link, {entry.filename!r}; pack the files themselves")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise CheckpointError(f"{called} has {entry.filename!r}, which is no file; pack the checkpoint's files alone")
    if entry.filename.lower().endswith(PICKLES):
        raise CheckpointError(
            f"{called} has {entry.filename!r}, a pickle, which can run any code and is never opened; "
            "save the weights with save_checkpoint"
        )
    if entry.flag_bits & ENCRYPTED_FLAG:
        raise CheckpointError(f"{called} is encrypted; pack it without a password")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise CheckpointError(f"{called} is compressed in a rare way; pack it as an ordinary zip")


def _check_file(entry: zipfile.ZipInfo, name: str, called: str) -> None:
    """Raise CheckpointError unless a checkpoint has a file of this name, and this size is possible."""
    if name not in FILES:
        raise CheckpointError(f"{called} has {name!r}, which no checkpoint has; {OURS}")
    limit = MAX_WEIGHTS_BYTES if name == WEIGHTS_FILE else MAX_TEXT_BYTES
    if entry.file_size > limit:
        raise CheckpointError(f"{name} in {called} has {entry.file_size:,} bytes; {limit:,} are allowed")
    if entry.file_size > RATIO_FROM_BYTES and entry.file_size > MAX_RATIO * entry.compress_size:
        raise CheckpointError(
            f"{name} in {called} would unpack to {entry.file_size:,} bytes, more than {MAX_RATIO} times its size; "
            "it was not unpacked"
        )


def _inflate(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> None:
    """Write one file; CheckpointError when it turns out longer or shorter than the zip says."""
    written = 0
    with opened.open(entry) as source, path.open("xb") as target:
        while chunk := source.read(CHUNK_BYTES):
            written += len(chunk)
            if written > entry.file_size:
                break
            target.write(chunk)
    if written != entry.file_size:
        raise zipfile.BadZipFile(f"{path.name} is not as long as it says")


def _is_of_a_desktop(path: str) -> bool:
    """Whether a Mac put this beside the files; it is never read."""
    return path.startswith("__MACOSX/") or path.rpartition("/")[2] == ".DS_Store"
