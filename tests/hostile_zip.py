"""Zip files of checkpoints, good and hostile."""

from __future__ import annotations

import io
import json
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

from gpt.checkpoint_info import FILES

Files = dict[str, bytes]
TOP = "tiny"


def files_of(folder: Path) -> Files:
    """A checkpoint's files by name."""
    return {name: (folder / name).read_bytes() for name in FILES if (folder / name).exists()}


def zip_of(files: Files, top: str = TOP, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip with these files in the folder `top`, or at its top where that is empty."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(f"{top}/{name}" if top else name, content)
    return buffer.getvalue()


def with_entry(files: Files, path: str, content: bytes = b"{}", mode: int = stat.S_IFREG | 0o644) -> bytes:
    """The checkpoint's zip with one more entry, its path written as it stands."""
    buffer = io.BytesIO(zip_of(files))
    with zipfile.ZipFile(buffer, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name may be there twice
        entry = zipfile.ZipInfo("placeholder")
        entry.filename, entry.external_attr = path, mode << 16
        archive.writestr(entry, content)
    return buffer.getvalue()


def changed(files: Files, name: str, change: Callable[[dict], object]) -> Files:
    """The files with one JSON file changed."""
    content = json.loads(files[name])
    change(content)
    return files | {name: json.dumps(content).encode()}


def patched(data: bytes, offset_local: int, offset_central: int, value: bytes) -> bytes:
    """The zip with a field of its first entry overwritten, in its own header and in the list of entries."""
    out = bytearray(data)
    for signature, offset in ((b"PK\x03\x04", offset_local), (b"PK\x01\x02", offset_central)):
        start = data.index(signature) + offset
        out[start : start + len(value)] = value
    return bytes(out)


def encrypted(files: Files) -> bytes:
    """A zip whose first entry says that it is encrypted."""
    return patched(zip_of(files), 6, 8, struct.pack("<H", 1))


def understated(files: Files) -> bytes:
    """A zip whose first entry is longer than it says."""
    return patched(zip_of(files), 22, 24, struct.pack("<L", 10))


def overstated(files: Files) -> bytes:
    """A zip whose first entry is shorter than it says."""
    name = next(iter(files))
    return patched(zip_of(files, compression=zipfile.ZIP_STORED), 22, 24, struct.pack("<L", len(files[name]) + 9))


def with_many_entries(number: int) -> bytes:
    """A zip of many empty files."""
    return zip_of({f"{n}.json": b"" for n in range(number)})
