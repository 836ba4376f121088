"""Compiling in a process of its own: the compiled path gets ready while this one answers."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

from gpt.errors import BackendError

_ROOT = Path(__file__).resolve().parent.parent
_POLL_S = 0.05
_one_at_a_time = threading.Lock()


def compile_elsewhere() -> bool:
    """Let another process put the compiled code on disk, from where it is loaded in a quarter of a second.

    Compiling here would take the interpreter from the threads that make text meanwhile. It takes about twenty seconds
    once on a machine; should this program end before, the other process finishes for the next one.

    Returns:
        whether there is time to load it: False where this program is ending.

    Raises:
        ImportError: numba is not installed.
        BackendError: it failed, with the last line of what it said.
    """
    from gpt.compiled.prepare import is_prepared

    with _one_at_a_time:
        if not is_prepared():
            _compile()
    return not _ending()


def _compile() -> None:
    """Run the compiler; at the end of the program, leave it to itself."""
    command = f"import sys; sys.path.insert(0, {str(_ROOT)!r}); from gpt.compiled.prepare import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,  # a Ctrl-C is not for it
    )
    while not _ending():
        try:
            _, said = process.communicate(timeout=_POLL_S)
        except subprocess.TimeoutExpired:
            continue
        if process.returncode:
            lines = said.strip().splitlines()
            raise BackendError(lines[-1] if lines else f"the compiler ended with exit status {process.returncode}")
        return


def _ending() -> bool:
    return not threading.main_thread().is_alive()
