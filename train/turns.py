"""Turns: several processes want the same folder made; one makes it, and the others find it made."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from gpt.atomic import hold

WAIT_S = 0.5


@contextlib.contextmanager
def in_turn(folder: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold `folder`, which is made, until the block ends; wait as long as another process holds it.

    Args:
        folder: what is worked in.
        on_wait: called once, when there is somebody to wait for.

    Raises:
        OSError: the folder cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    waiting = False
    with contextlib.ExitStack() as held:
        while True:
            try:
                held.enter_context(hold(folder))
                break
            except BlockingIOError:
                if not waiting:
                    on_wait()
                waiting = True
                time.sleep(WAIT_S)
        yield
