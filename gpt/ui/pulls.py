"""Checkpoints from the Hugging Face Hub over HTTP: what the Models tab pulls by name."""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response, StreamingResponse

from gpt.errors import GPTError
from gpt.ui.catalogue import Catalogue
from gpt.ui.run import BROKEN

logger = logging.getLogger(__name__)

# Another site's page cannot send this without asking first, and is not answered.
MEDIA_TYPE = "application/json"
TOLD_EVERY_S = 0.1
LOOK_EVERY_S = 0.2


class _Stopped(Exception):
    """Whoever asked has gone."""


def add_pulls(app: FastAPI, catalogue: Catalogue) -> None:
    """Add POST /checkpoints/hub?name=NAME, which adds what a repository of the Hub holds.

    The answer is a stream of JSON lines: `received` and `total` bytes as they come, and at the end the new checkpoint's
    `name`, or an `error` in words. Whoever hangs up stops it; nothing is left then.
    """
    pulling = threading.Lock()  # one at a time: each may fill a good part of the disk

    @app.post("/checkpoints/hub")
    async def pull(request: Request, name: str = "") -> Response:
        if request.headers.get("content-type") != MEDIA_TYPE:
            return JSONResponse({"error": f"Ask with the content type {MEDIA_TYPE}"}, status_code=415)
        if not pulling.acquire(blocking=False):
            return JSONResponse({"error": "Another model is being pulled; try again when it is done"}, status_code=503)
        return StreamingResponse(_pull(catalogue, name.strip(), pulling), media_type="application/x-ndjson")


async def _pull(catalogue: Catalogue, name: str, pulling: threading.Lock) -> AsyncIterator[str]:
    """The lines of the answer."""
    lines: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    gone = threading.Event()
    told_at = 0.0

    def progress(received: int, total: int) -> None:
        nonlocal told_at
        if gone.is_set():
            raise _Stopped
        if time.monotonic() - told_at > TOLD_EVERY_S or received == total:
            told_at = time.monotonic()
            lines.put({"received": received, "total": total})

    def work() -> None:
        try:
            lines.put({"name": catalogue.bring(name, progress)})
        except _Stopped:
            pass
        except GPTError as error:
            words = str(error)
            lines.put({"error": words[:1].upper() + words[1:]})
        except Exception:
            logger.exception("%s could not be pulled", name)
            lines.put({"error": BROKEN})
        finally:
            pulling.release()

    def next_line() -> dict[str, Any] | None:
        try:
            return lines.get(timeout=LOOK_EVERY_S)
        except queue.Empty:
            return None

    threading.Thread(target=work, name="pull", daemon=True).start()
    try:
        while True:
            # Between two looks, whoever hung up is noticed.
            if (line := await run_in_threadpool(next_line)) is not None:
                yield json.dumps(line) + "\n"
                if "total" not in line:
                    return
    finally:
        gone.set()
