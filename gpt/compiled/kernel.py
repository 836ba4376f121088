"""The ways in which the step's functions are compiled."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit
from numba.extending import intrinsic as _intrinsic

intrinsic: Any = _intrinsic
"""A function given to LLVM as its instructions."""

kernel = njit(error_model="numpy", fastmath=False)
"""As written: no operation in another order, and no look for a division by zero, which would keep a loop from being
made with vectors. Said outright, since numba hands a caller's leave to reorder down to what it calls."""

summing = njit(error_model="numpy", fastmath={"reassoc", "nsz", "contract"})
"""With leave to add in another order, which is then the same for every row."""

within = njit(inline="always", error_model="numpy", fastmath=False)
"""As written, and put into its caller."""

SOURCES = zlib.crc32(b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))))
"""Of the whole package. numba keeps what it compiled by the file that a function stands in, not by those that it
calls; an entry that has this number in it is compiled again when any of them changed."""


def entry(function: Callable[..., Any]) -> Any:
    """Called from Python: lets other threads run meanwhile, and is kept on disk where there is a place to keep it."""
    options: Any = {"nogil": True, "error_model": "numpy", "fastmath": False}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor the user's own cache can be written to
        return njit(**options)(function)
