"""`python -m train` as a process that is waited for: watched, asked to stop, and heard when it fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import IO

from gpt.errors import TrainingError

TICK_S = 0.5
ERROR = "error: "
INTERRUPTED = 130


def train(options: Sequence[str], *, is_stopping: Callable[[], bool], on_tick: Callable[[], None]) -> str:
    """Run `python -m train`, exactly as by hand; what it wrote to standard output.

    Args:
        options: its command line.
        is_stopping: asked every TICK_S; the process is then asked once to save and end.
        on_tick: called as often.

    Raises:
        KeyboardInterrupt: it was asked to end, and did.
        TrainingError: it failed, or was asked by others to pause; the message has its last words.
    """
    with tempfile.TemporaryFile("w+b") as output, tempfile.TemporaryFile("w+b") as errors:
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "train", *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                start_new_session=True,  # Ctrl-C reaches it once, through here
            )
        except OSError as error:
            raise TrainingError(f"python -m train cannot be started ({error.strerror})") from error
        asked = False
        while True:
            try:
                code = process.wait(TICK_S)
                break
            except subprocess.TimeoutExpired:
                if is_stopping() and not asked:
                    asked = True
                    process.send_signal(signal.SIGINT)
                on_tick()
            except BaseException:  # a second Ctrl-C: at once
                process.kill()
                process.wait()
                raise
        if asked:
            raise KeyboardInterrupt
        if code == INTERRUPTED:
            raise TrainingError("it was asked from outside to pause, and did; the same command goes on with it")
        if code:
            raise TrainingError(_last_words(errors, code))
        output.seek(0)
        return output.read().decode()


def _last_words(errors: IO[bytes], code: int) -> str:
    """The last line that it wrote on standard error."""
    if code < 0:
        return f"its process was killed by {signal.Signals(-code).name}"
    size = errors.seek(0, os.SEEK_END)
    errors.seek(max(0, size - 4000))
    last = errors.read().decode("utf-8", "replace").strip().splitlines()[-1:] or ["it ended without a word"]
    return last[0].partition(ERROR)[2] or last[0]
