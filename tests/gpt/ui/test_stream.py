"""The stream of a completion, in steps that suit a page."""

from __future__ import annotations

import itertools
import json
import math
import threading
import time
from collections.abc import Callable, Generator

import pytest

from gpt.completion import CompletionChunk, CompletionRequest
from gpt.errors import BackendClosedError, QueueFullError
from gpt.ui.stream import TimedChunk, stream_batches, write
from gpt.ui.transcript import Transcript
from tests.fake_backend import FakeBackend


def request(tokens: int = 20) -> CompletionRequest:
    return CompletionRequest(prompt="O", max_new_tokens=tokens, seed=0, logprobs=3)


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class Blocked(FakeBackend):
    """Waits for a place until it is let in."""

    def __init__(self) -> None:
        super().__init__()
        self.place = threading.Event()

    def _chunks(self, request: CompletionRequest) -> Generator[CompletionChunk, None, None]:
        self.place.wait(10)
        yield from super()._chunks(request)


def test_batches_hold_every_chunk_in_order() -> None:
    batches = list(stream_batches(FakeBackend(), request(), interval_s=0.01))
    chunks = [chunk for batch in batches for chunk, _ in batch]
    assert "".join(chunk.text for chunk in chunks) == FakeBackend().text(0, 20)
    assert chunks[-1].finish_reason == "length"


def test_the_first_batch_comes_at_once_and_then_few() -> None:
    began = time.monotonic()
    batches = stream_batches(FakeBackend(delay_s=0.005), request(100), interval_s=0.1)
    first = next(batches)
    assert len(first) < 10 and time.monotonic() - began < 0.09
    assert 3 <= sum(1 for _ in batches) <= 0.5 / 0.1 + 8


def test_closing_frees_the_place_within_a_step() -> None:
    backend = FakeBackend(delay_s=0.02)
    batches = stream_batches(backend, request(1000))
    next(batches)
    assert backend.active == 1
    batches.close()
    wait_until(lambda: backend.active == 0)


def test_closing_need_not_wait_for_a_place() -> None:
    backend = Blocked()
    batches = stream_batches(backend, request())
    assert next(batches) == []
    batches.close()
    backend.place.set()
    wait_until(lambda: backend.active == 0)


def test_errors_of_the_backend_are_raised_here() -> None:
    backend = FakeBackend()
    backend.error = QueueFullError("8 requests wait")
    with pytest.raises(QueueFullError, match="8 requests wait"):
        list(stream_batches(backend, request()))


def test_an_error_under_way_comes_after_the_text_before_it() -> None:
    backend = FakeBackend()
    backend.fail_after = 5
    transcript = Transcript()
    with pytest.raises(BackendClosedError):
        list(write(backend, request(), transcript))
    assert transcript.prompt() == backend.text(0, 5)


def test_the_rate_is_the_models_not_the_pages() -> None:
    transcript = Transcript()
    list(write(FakeBackend(delay_s=0.002), request(10), transcript))  # over before the page's second step
    assert json.loads(transcript.value.split("\n")[-3])["stats"][1] > 100


@pytest.mark.parametrize(("tokens", "seconds", "rate"), [(6, 0.0001, None), (6, 0.5, 12.0), (0, 0.5, None)])
def test_rate_is_of_tokens_that_did_not_come_in_one_piece(
    monkeypatch: pytest.MonkeyPatch, tokens: int, seconds: float, rate: float | None
) -> None:
    chunks = list(FakeBackend().stream(request(7)))
    later = [TimedChunk(chunk, 5 + seconds) for chunk in chunks[1 : 1 + tokens]]
    ended = [] if tokens else [TimedChunk(CompletionChunk("", (), (), "stop", 0, 1), 5 + seconds)]
    batch = [TimedChunk(chunks[0], 5.0), *later, *ended]
    monkeypatch.setattr("gpt.ui.stream.stream_batches", lambda *_, **__: (each for each in [batch]))
    transcript = Transcript()
    list(write(FakeBackend(), request(7), transcript))
    [stats] = [json.loads(line)["stats"] for line in transcript.value.split("\n") if line.startswith('{"stats"')]
    assert stats[1] == (None if rate is None else pytest.approx(rate))


def test_write_yields_a_growing_transcript_with_seed_stats_and_end() -> None:
    backend = FakeBackend(delay_s=0.005)
    transcript = Transcript()
    transcript.add_plain("O")
    values = list(write(backend, request(), transcript))
    for earlier, later in itertools.pairwise(values):
        assert later.startswith(earlier)
    lines = [json.loads(line) for line in values[-1].split("\n")[:-1]]
    assert lines[0] == {"plain": "O"} and lines[1] == {"seed": "0"} and lines[-1] == {"end": "length"}
    logprobs = [line[1] for line in lines if isinstance(line, list)]
    tokens, rate, perplexity = lines[-2]["stats"]
    assert tokens == 20
    assert 0 < rate <= 200.0
    assert perplexity == pytest.approx(math.exp(-sum(logprobs) / 20), abs=0.006)
