"""The live backend is exchanged while streams run on the old one."""

import gc
import threading

import pytest

from gpt.backends.swappable import SwappableBackend
from gpt.completion import BackendInfo, CompletionChunk, CompletionRequest
from gpt.errors import BackendClosedError, QueueFullError

REQUEST = CompletionRequest(prompt="x", max_new_tokens=3)


class Backend:
    """Streams its name three times; counts how often it was closed."""

    def __init__(self, name):
        self.name = name
        self.closed = 0
        self.open = 0

    def stream(self, request):
        if self.closed:
            raise BackendClosedError("closed")
        self.open += 1
        try:
            for reason in (None, None, "length"):
                if self.closed:
                    raise BackendClosedError("closed")
                yield CompletionChunk(self.name, finish_reason=reason)
        finally:
            self.open -= 1

    def info(self):
        return BackendInfo("local", self.name)

    def close(self):
        self.closed += 1


def text_of(chunks):
    return "".join(chunk.text for chunk in chunks)


def test_requests_under_way_finish_on_the_old_one_and_new_ones_use_the_new():
    old, new = Backend("a"), Backend("b")
    live = SwappableBackend(old)
    first, second = live.stream(REQUEST), live.stream(REQUEST)
    started = next(first).text
    live.swap(new)
    assert live.info().name == "b"
    assert text_of(live.stream(REQUEST)) == "bbb"
    assert started + text_of(first) == "aaa" and old.closed == 0
    assert text_of(second) == "aaa" and old.closed == 1
    assert new.closed == 0


def test_an_unused_backend_is_closed_at_once():
    old = Backend("a")
    live = SwappableBackend(old)
    list(live.stream(REQUEST))
    live.swap(Backend("b"))
    assert old.closed == 1


@pytest.mark.parametrize("end", ["close", "close before the first chunk", "forget", "fail"])
def test_the_old_one_is_closed_also_when_its_streams_end_early(end):
    old = Backend("a")
    live = SwappableBackend(old)
    stream = live.stream(REQUEST)
    if end != "close before the first chunk":
        next(stream)
    live.swap(Backend("b"))
    assert old.closed == 0
    if end == "forget":
        del stream
        gc.collect()
    elif end == "fail":
        with pytest.raises(ValueError, match="broken"):
            stream.throw(ValueError("broken"))
    else:
        stream.close()
    assert (old.closed, old.open) == (1, 0)


def test_closing_a_stream_before_its_first_chunk_closes_the_backends_own():
    class Eager(Backend):
        def stream(self, request):
            self.given = super().stream(request)
            next(self.given)
            return self.given

    backend = Eager("a")
    SwappableBackend(backend).stream(REQUEST).close()
    assert backend.open == 0


def test_a_refused_request_does_not_count_as_open():
    class Full(Backend):
        def stream(self, request):
            raise QueueFullError("full")

    old = Full("a")
    live = SwappableBackend(old)
    with pytest.raises(QueueFullError):
        live.stream(REQUEST)
    live.swap(Backend("b"))
    assert old.closed == 1


def test_several_swaps_close_each_backend_once_its_own_streams_end():
    backends = [Backend(name) for name in "abc"]
    live = SwappableBackend(backends[0])
    streams = [live.stream(REQUEST)]
    for backend in backends[1:]:
        live.swap(backend)
        streams.append(live.stream(REQUEST))
    assert text_of(streams[1]) == "bbb" and [backend.closed for backend in backends] == [0, 1, 0]
    assert text_of(streams[0]) == "aaa" and [backend.closed for backend in backends] == [1, 1, 0]


def test_closing_closes_all_and_refuses_a_swap():
    old, new = Backend("a"), Backend("b")
    live = SwappableBackend(old)
    stream = live.stream(REQUEST)
    next(stream)
    live.swap(new)
    live.close()
    assert (old.closed, new.closed) == (1, 1)
    with pytest.raises(BackendClosedError):
        next(stream)
    assert old.closed == 1
    third = Backend("c")
    with pytest.raises(BackendClosedError, match="shutting down"):
        live.swap(third)
    assert third.closed == 0


def test_threads_may_swap_and_stream_at_once():
    backends = [Backend("a") for _ in range(50)]
    live = SwappableBackend(backends[0])
    errors = []

    def consume():
        try:
            for _ in range(200):
                assert text_of(live.stream(REQUEST)) == "aaa"
        except Exception as error:
            errors.append(error)

    consumers = [threading.Thread(target=consume) for _ in range(4)]
    for consumer in consumers:
        consumer.start()
    for backend in backends[1:]:
        live.swap(backend)
    for consumer in consumers:
        consumer.join(30)
    assert not errors
    assert [backend.closed for backend in backends] == [1] * 49 + [0]
