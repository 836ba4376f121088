"""Control: what others ask of a run while it trains, as empty files in its folder.

An empty file needs no room on the disk, so that a run can be asked to pause even when the disk is full; and it asks the
same of a run that was started by hand, in a container, or by the page. `touch checkpoints/my-run/pause` will do.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

# Save, and end; `--resume` goes on.
PAUSE_FILE = "pause"
# End the training here: evaluate, score the best, write its card.
FINISH_FILE = "finish"
# Leave the other cores to others; asked again and again by who needs them, and forgotten soon after the last time.
YIELD_FILE = "yield"
YIELD_S = 3.0


def ask(folder: Path, name: str) -> None:
    """Ask the run in `folder` for what the file `name` means; OSError if the file cannot be made."""
    (folder / name).touch()


def is_asked(folder: Path, name: str) -> bool:
    """Whether the run was asked to pause, or to finish."""
    return (folder / name).exists()


def is_yielding(folder: Path) -> bool:
    """Whether somebody asked within the last YIELD_S seconds that the run leaves cores free."""
    try:
        asked_at = (folder / YIELD_FILE).stat().st_mtime
    except OSError:
        return False
    return abs(time.time() - asked_at) < YIELD_S


def forget(folder: Path) -> None:
    """Take back whatever was asked."""
    for name in (PAUSE_FILE, FINISH_FILE, YIELD_FILE):
        with contextlib.suppress(OSError):
            (folder / name).unlink()
