"""Checkpoints as zip files over HTTP: what the Models tab downloads and uploads."""

from __future__ import annotations

import contextlib
import logging
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from gpt.byte_size import byte_size
from gpt.checkpoint_archive import CHUNK_BYTES, MAX_ARCHIVE_BYTES
from gpt.errors import CheckpointError, GPTError
from gpt.ui.catalogue import Catalogue

logger = logging.getLogger(__name__)

# Another site's page cannot send this without asking first, and is not answered.
MEDIA_TYPE = "application/zip"
BROKEN = "Something went wrong here; the server's log says what"


def add_archives(app: FastAPI, catalogue: Catalogue) -> None:
    """Add GET /checkpoints/NAME.zip, a checkpoint as a zip, and POST /checkpoints, which takes one.

    A zip that is posted is the request's body; `?called=` names its file. The answer is JSON: the new checkpoint's
    `name`, or an `error` in words.
    """
    receiving = threading.Lock()  # one at a time: each may fill a good part of disk and memory

    @app.get("/checkpoints/{name:path}.zip")
    def download(name: str) -> Response:
        with contextlib.ExitStack() as open_files:
            # A file without a name from the beginning: it is gone once it was read, however that ends.
            file = cast(BinaryIO, open_files.enter_context(tempfile.TemporaryFile()))
            try:
                catalogue.pack(name, file)
            except CheckpointError as error:
                return PlainTextResponse(str(error), status_code=404)
            open_files.pop_all()
        called = quote(f"{Path(name).name}.zip")
        headers = {
            "Content-Disposition": f"attachment; filename*=UTF-8''{called}",
            "Content-Length": str(file.tell()),
            "Cache-Control": "no-store",
        }
        return StreamingResponse(_read(file), media_type=MEDIA_TYPE, headers=headers)

    @app.post("/checkpoints")
    async def upload(request: Request, called: str = "The file") -> Response:
        if request.headers.get("content-type") != MEDIA_TYPE:
            return _refusal(f"Send the zip itself, with the content type {MEDIA_TYPE}", 415)
        if not receiving.acquire(blocking=False):
            return _refusal("Another checkpoint is being uploaded; try again when it is done", 503)
        try:
            with tempfile.TemporaryFile() as temporary:
                file = cast(BinaryIO, temporary)
                if not await _receive(request, file, called):
                    return Response(status_code=400)  # nobody is there to read it
                name = await run_in_threadpool(catalogue.unpack, file, called)
            return JSONResponse({"name": name}, status_code=201)
        except GPTError as error:
            return _refusal(str(error), 400)
        except OSError as error:
            return _refusal(f"{called} cannot be taken ({error.strerror or error}); free some space first", 507)
        except Exception:
            logger.exception("an upload failed")
            return _refusal(BROKEN, 500)
        finally:
            receiving.release()


async def _receive(request: Request, file: BinaryIO, called: str) -> bool:
    """Write the request's body into the file; whether it came to its end.

    Raises:
        CheckpointError: it is too large; the rest is not read then.
    """
    received, more = 0, True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            return False
        received += len(message.get("body", b""))
        if max(received, int(request.headers.get("content-length", 0))) > MAX_ARCHIVE_BYTES:
            raise CheckpointError(f"{called} is too large; at most {byte_size(MAX_ARCHIVE_BYTES)} are allowed")
        file.write(message.get("body", b""))
        more = message.get("more_body", False)
    file.seek(0)
    return True


def _read(file: BinaryIO) -> Iterator[bytes]:
    file.seek(0)
    with contextlib.closing(file):
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def _refusal(words: str, status: int) -> JSONResponse:
    return JSONResponse({"error": words}, status_code=status)
