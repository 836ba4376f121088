"""The stream of a completion, in steps that suit a page."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Generator
from typing import NamedTuple

from gpt.completion import CompletionBackend, CompletionChunk, CompletionRequest
from gpt.ui.transcript import Transcript

INTERVAL_S = 0.07
IDLE_S = 0.25
MIN_RATED_S = 0.001  # tokens that came in one piece tell no rate


class TimedChunk(NamedTuple):
    """A chunk, and when the backend gave it (time.monotonic)."""

    chunk: CompletionChunk
    at_s: float


def stream_batches(
    backend: CompletionBackend, request: CompletionRequest, interval_s: float = INTERVAL_S, idle_s: float = IDLE_S
) -> Generator[list[TimedChunk], None, None]:
    """Yield the chunks of the request in batches: the first at once, then one batch every `interval_s` at most.

    While nothing comes, an empty batch is yielded every `idle_s`: a generator can only be closed where it yields, so
    this bounds how long Stop takes while the request waits for its place. Closing this generator closes
    the backend's stream within one of its steps.

    Raises:
        GPTError: whatever the backend raised.
    """
    arrived: queue.SimpleQueue[TimedChunk | BaseException | None] = queue.SimpleQueue()
    closing = threading.Event()

    def read() -> None:
        try:
            with contextlib.closing(backend.stream(request)) as stream:
                for chunk in stream:
                    arrived.put(TimedChunk(chunk, time.monotonic()))
                    if closing.is_set():
                        return
            arrived.put(None)
        except BaseException as error:  # handed to the reader, who raises it where somebody hears it
            arrived.put(error)

    threading.Thread(target=read, name="completion", daemon=True).start()
    try:
        sent_at = -interval_s
        while True:
            try:
                item = arrived.get(timeout=idle_s)
            except queue.Empty:
                yield []
                continue
            if isinstance(item, TimedChunk):
                time.sleep(max(0.0, sent_at + interval_s - time.monotonic()))
            batch: list[TimedChunk] = []
            while isinstance(item, TimedChunk):
                batch.append(item)
                try:
                    item = arrived.get_nowait()
                except queue.Empty:
                    break
            if batch:
                yield batch
                sent_at = time.monotonic()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
    finally:
        closing.set()


def write(
    backend: CompletionBackend, request: CompletionRequest, transcript: Transcript, idle_s: float = IDLE_S
) -> Generator[str, None, None]:
    """Yield the transcript's value as the completion makes it grow, and every `idle_s` while it does not.

    The rate that it shows counts from the first chunk on, so that it tells the model's speed, not the wait before.

    Raises:
        GPTError: whatever the backend raised.
    """
    started_at: float | None = None
    tokens = 0  # after the first chunk
    with contextlib.closing(stream_batches(backend, request, idle_s=idle_s)) as batches:
        for batch in batches:
            if not batch:
                yield transcript.value
                continue
            for chunk, at_s in batch:
                if started_at is None:
                    started_at = at_s
                    transcript.add_seed(chunk.seed)
                else:
                    tokens += len(chunk.token_ids)
                transcript.add_chunk(chunk)
            assert started_at is not None
            seconds = batch[-1].at_s - started_at
            transcript.add_stats(tokens / seconds if tokens and seconds >= MIN_RATED_S else None)
            if reason := batch[-1].chunk.finish_reason:
                transcript.add_end(reason)
            yield transcript.value
