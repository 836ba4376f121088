"""python -m gpt.compiled.prepare: compile what the compiled path needs and keep it on disk, where it is found again."""

from __future__ import annotations

import os
import sys
import zlib
from pathlib import Path
from typing import TextIO

import numba
import numpy as np
from llvmlite import binding
from numba import int64, typeof

from gpt.compiled.kernel import SOURCES
from gpt.compiled.state import RECORD
from gpt.compiled.step import advance
from gpt.compiled.team import help_out


def compile_entries() -> None:
    """Compile the functions that Python calls, or load them from the disk; once a process."""
    state = typeof(np.zeros(1, RECORD))
    advance.compile((state, int64, int64, int64))
    help_out.compile((state,))


def is_prepared() -> bool:
    """Whether everything is on disk: for these sources, this numba and this processor."""
    return advance.stats.cache_path is not None and _stamp().exists()


def _stamp() -> Path:
    """A file that says so."""
    machine = f"{binding.get_host_cpu_name()} {binding.get_host_cpu_features().flatten()}"
    name = f"prepared-{SOURCES:08x}-{numba.__version__}-{zlib.crc32(machine.encode()):08x}"
    return Path(advance.stats.cache_path) / name


def main() -> int:
    """Compile, at a priority that leaves the cores to whoever needs them; the exit status."""
    if hasattr(os, "nice"):
        os.nice(10)
    if advance.stats.cache_path is None or help_out.stats.cache_path is None:
        print("there is no folder to keep compiled code in; set NUMBA_CACHE_DIR to one", file=sys.stderr)
        return 1
    with (_stamp().parent / "prepared.lock").open("w") as lock:
        _wait_for(lock)
        if not is_prepared():
            compile_entries()
            _stamp().touch()
    return 0


def _wait_for(lock: TextIO) -> None:
    """Hold the file until it is closed, so that several programs that start at once compile once."""
    try:
        import fcntl
    except ImportError:  # not on this system: each compiles for itself
        return
    fcntl.flock(lock, fcntl.LOCK_EX)


if __name__ == "__main__":
    sys.exit(main())
