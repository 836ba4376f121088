"""Two completions side by side: at once, each with its own end."""

from __future__ import annotations

import json
import threading
from collections.abc import Generator
from typing import Any

import pytest

from gpt.completion import CompletionChunk, CompletionRequest
from gpt.errors import QueueFullError
from gpt.ui.comparison import write_both
from gpt.ui.transcript import Transcript
from tests.fake_backend import UNKNOWN, FakeBackend


def request(tokens: int = 20, prompt: str = "O") -> CompletionRequest:
    return CompletionRequest(prompt=prompt, max_new_tokens=tokens, seed=0, logprobs=3)


def lines(value: str) -> list[Any]:
    return [json.loads(line) for line in value.split("\n")[:-1]]


class Slow(FakeBackend):
    """Comes to its first word only when it is let in."""

    def __init__(self) -> None:
        super().__init__()
        self.place = threading.Event()

    def _chunks(self, request: CompletionRequest) -> Generator[CompletionChunk, None, None]:
        assert self.place.wait(20)
        yield from super()._chunks(request)


def test_both_grow_at_once_with_the_same_request() -> None:
    backends = [FakeBackend(delay_s=0.02), FakeBackend(delay_s=0.02, words=("a ", "b "))]
    transcripts = [Transcript(), Transcript()]
    values = list(write_both(backends, [request()] * 2, transcripts))
    assert backends[0].requests == backends[1].requests == [request()]
    assert [transcript.prompt() for transcript in transcripts] == [backend.text(0, 20) for backend in backends]
    assert any(all(0 < len(value) < len(last) for value, last in zip(step, values[-1], strict=True)) for step in values)
    assert [lines(value)[-1] for value in values[-1]] == [{"end": "length"}] * 2


def test_one_that_waits_does_not_hold_up_the_other() -> None:
    slow, quick = Slow(), FakeBackend()
    transcripts = [Transcript(), Transcript()]
    both = write_both([slow, quick], [request()] * 2, transcripts)
    while not (transcripts[1].value and lines(transcripts[1].value)[-1] == {"end": "length"}):
        next(both)
    assert transcripts[0].value == ""
    slow.place.set()
    list(both)
    assert transcripts[0].prompt() == slow.text(0, 20)


def test_a_refusal_is_said_in_its_place_and_the_other_goes_on() -> None:
    knowing, strict = FakeBackend(), FakeBackend()
    knowing.knows_all = True
    transcripts = [Transcript(), Transcript()]
    values = list(write_both([strict, knowing], [request(prompt=UNKNOWN)] * 2, transcripts))
    assert lines(values[-1][0]) == [{"note": f"The prompt has {UNKNOWN!r}; this model knows no such character"}]
    assert transcripts[1].prompt() == knowing.text(0, 20)


def test_failures_of_every_kind_are_words(caplog: pytest.LogCaptureFixture) -> None:
    broken, full = FakeBackend(), FakeBackend()
    broken.words = (1,)  # type: ignore[assignment]
    full.error = QueueFullError("8 requests wait")
    transcripts = [Transcript(), Transcript()]
    list(write_both([broken, full], [request()] * 2, transcripts))
    assert [lines(transcript.value)[-1] for transcript in transcripts] == [
        {"note": "Something went wrong here; the server's log says what."},
        {"note": "8 requests wait"},
    ]
    assert "a compared text failed" in caplog.text


def test_closing_ends_both() -> None:
    backends = [FakeBackend(delay_s=0.01), FakeBackend(delay_s=0.01)]
    both = write_both(backends, [request(4000)] * 2, [Transcript(), Transcript()])
    next(both)
    next(both)
    assert all(backend.active == 1 for backend in backends)
    both.close()
    for backend in backends:
        for _ in range(1000):
            if backend.active == 0:
                break
            threading.Event().wait(0.01)
        assert backend.active == 0
