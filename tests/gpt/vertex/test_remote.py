"""Completions over a wire: the chunks that come, and every way in which they do not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gpt.backends.local import LocalBackend
from gpt.completion import BackendInfo, CompletionChunk, CompletionRequest
from gpt.errors import (
    AccessDeniedError,
    BackendClosedError,
    BrokenStreamError,
    ConfigError,
    CredentialsError,
    GPTError,
    ModelError,
    QuotaError,
    RequestError,
    ResourceNotFoundError,
    ServiceUnavailableError,
    VertexError,
    VertexTimeoutError,
)
from gpt.vertex import remote
from gpt.vertex.address import PredictorBackend
from gpt.vertex.connection import Connection, latency_s
from gpt.vertex.events import encode_chunk, encode_event
from tests.fake_backend import FakeBackend
from tests.fake_page import save_random_checkpoint
from tests.gpt.vertex.loopback import FIRST, LAST, WHOLE, Handler, Reply, google_error, loopback, whole
from tests.gpt.vertex.serving import eventually, serving

REQUEST = CompletionRequest(prompt="a", max_new_tokens=2, seed=5)
FIRST_EVENT = encode_event(encode_chunk(FIRST))


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "BACKOFF_S", 0.001)


def cut_off(handler: Handler) -> None:
    """The connection breaks after the first event."""
    handler.begin()
    handler.piece(FIRST_EVENT)
    handler.close_connection = True


def broken_event(handler: Handler) -> None:
    """The connection breaks inside the second event."""
    handler.begin()
    handler.wfile.write(b"%x\r\n" % len(WHOLE) + WHOLE[:-10])
    handler.close_connection = True


def no_answer(handler: Handler) -> None:
    """The connection breaks before an answer."""
    handler.close_connection = True


def reads(url: str, request: CompletionRequest = REQUEST) -> list[CompletionChunk]:
    return list(PredictorBackend(url).stream(request))


def test_chunks_are_those_that_were_sent() -> None:
    with loopback(whole(WHOLE)) as (url, seen):
        assert reads(url) == [FIRST, LAST]
    assert seen == [{"instances": [{"prompt": "a"}], "parameters": {"max_new_tokens": 2, "seed": 5, "stream": True}}]


def test_text_is_the_one_that_this_machine_makes(tmp_path: Path) -> None:
    local = LocalBackend.from_checkpoint(save_random_checkpoint(tmp_path / "tiny"))
    request = CompletionRequest(
        prompt="ROMEO:\n", seed=7, max_new_tokens=60, logprobs=4, top_p=0.95, repetition_penalty=1.2, stop=("\n\n",)
    )
    try:
        with serving(local) as (_, address):
            found, expected = reads(f"http://{address}", request), list(local.stream(request))
        assert [replace(chunk, logprobs=()) for chunk in found] == [replace(chunk, logprobs=()) for chunk in expected]
        # The engine may have changed over to its compiled path in between, and the last digits tell.
        for one, other in zip(found, expected, strict=True):
            assert [each.logprob for each in one.logprobs] == pytest.approx([each.logprob for each in other.logprobs])
    finally:
        local.close()


def test_chunk_is_given_before_the_next_one_is_made() -> None:
    released = threading.Event()

    def slow(handler: Handler) -> None:
        handler.begin()
        handler.piece(FIRST_EVENT)
        assert released.wait(20)
        handler.piece(WHOLE.removeprefix(FIRST_EVENT))
        handler.piece(b"")

    with loopback(slow) as (url, _):
        stream = PredictorBackend(url).stream(REQUEST)
        assert next(stream) == FIRST
        released.set()
        assert list(stream) == [LAST]


def test_comments_empty_lines_and_other_cuts_change_nothing() -> None:
    def cut(handler: Handler) -> None:
        handler.begin()
        handler.piece(b": the text is still to come\n\n\n")
        for start in range(0, len(WHOLE), 7):
            handler.piece(WHOLE[start : start + 7])
        handler.piece(b"")

    with loopback(cut) as (url, _):
        assert reads(url) == [FIRST, LAST]
    with loopback(whole(WHOLE.replace(b"\n", b"\r\n"))) as (url, _):
        assert reads(url) == [FIRST, LAST]


@pytest.mark.parametrize(
    ("reply", "expected", "words"),
    [
        (google_error(400, "temperature is 11; give less"), RequestError, "temperature is 11"),
        (google_error(413, "the body is too large"), RequestError, "the body is too large"),
        (google_error(401, "who"), CredentialsError, "gcloud auth"),
        (google_error(403, "not you"), AccessDeniedError, "not you"),
        (google_error(404, "gone"), ResourceNotFoundError, "gone"),
        (google_error(429, "16 are running"), QuotaError, "16 are running"),
        (google_error(500, "oh"), ModelError, "log says why"),
        (google_error(503, "down"), ServiceUnavailableError, "down"),
        (whole(b"<html>Bad\n<b>Gateway</b>", 502), ServiceUnavailableError, "<html>Bad <b>Gateway</b>"),
        (whole(b""), BrokenStreamError, "before the text was complete"),
        (whole(FIRST_EVENT), BrokenStreamError, "before the text was complete"),
        (cut_off, BrokenStreamError, "before the text was complete"),
        (broken_event, BrokenStreamError, "broke off"),
        (no_answer, ServiceUnavailableError, "see that it runs"),
        (whole(b"<html>Welcome</html>"), ModelError, "something else than a text (<html>Welcome</html>)"),
        (whole(b'{"predictions": []}'), ModelError, "something else than a text"),
        (whole(b"data: {nonsense}\n\n"), ModelError, "no JSON"),
        (whole(b"data: " + b"[" * 100_000 + b"\n\n"), ModelError, "no JSON"),
        (whole(b'data: {"text": 5}\n\n'), ModelError, "cannot be read"),
        (whole(b'{"error": {"code": 503, "message": "m", "status": "X"}}'), ServiceUnavailableError, "m"),
        (whole(b'[{\n"error": {"code": 403,\n "message": "m"}}\n]'), AccessDeniedError, "m"),
        (
            whole(FIRST_EVENT + encode_event({"error": {"code": 503, "message": "the model was closed"}})),
            BrokenStreamError,
            "broke off",
        ),
        (
            whole(FIRST_EVENT + encode_event({"error": {"code": 500, "message": "not finite"}})),
            ModelError,
            "not finite",
        ),
    ],
    ids=range(23),
)
def test_fault_is_one_typed_sentence_and_the_next_request_works(
    reply: Reply, expected: type[GPTError], words: str
) -> None:
    replies = [reply] * (3 if issubclass(expected, (QuotaError, ServiceUnavailableError)) else 1)
    with loopback(*replies, whole(WHOLE)) as (url, seen):
        backend = PredictorBackend(url)
        with pytest.raises(GPTError) as caught:
            list(backend.stream(REQUEST))
        assert type(caught.value) is expected
        assert words in str(caught.value) and "\n" not in str(caught.value)
        assert len(seen) == len(replies)
        assert list(backend.stream(REQUEST)) == [FIRST, LAST]


@pytest.mark.parametrize("reply", [google_error(429, "full"), google_error(503, "down"), no_answer])
@pytest.mark.parametrize("failures", [1, 2])
def test_what_passes_is_tried_again(reply: Reply, failures: int) -> None:
    with loopback(*[reply] * failures, whole(WHOLE)) as (url, seen):
        assert reads(url) == [FIRST, LAST]
    assert len(seen) == failures + 1


@pytest.mark.parametrize("reply", [google_error(400, "no"), google_error(403, "no"), google_error(500, "no")])
def test_what_would_not_pass_is_not_tried_again(reply: Reply) -> None:
    with loopback(reply, whole(WHOLE)) as (url, seen), pytest.raises(GPTError):
        reads(url)
    assert len(seen) == 1


def test_text_that_has_begun_is_not_begun_again() -> None:
    with loopback(cut_off, whole(WHOLE)) as (url, seen):
        stream = PredictorBackend(url).stream(REQUEST)
        assert next(stream) == FIRST
        with pytest.raises(BrokenStreamError):
            next(stream)
    assert len(seen) == 1


@pytest.mark.parametrize("pieces", [0, 1])
def test_server_that_hangs_is_not_waited_for(pieces: int) -> None:
    released = threading.Event()

    def hang(handler: Handler) -> None:
        handler.begin()
        for _ in range(pieces):
            handler.piece(FIRST_EVENT)
        released.wait(20)
        handler.close_connection = True

    with loopback(hang, whole(WHOLE)) as (url, _):
        backend = PredictorBackend(url, timeout_s=0.2)
        with pytest.raises(VertexTimeoutError, match="did not answer in time"):
            list(backend.stream(REQUEST))
        released.set()
        assert list(backend.stream(REQUEST)) == [FIRST, LAST]


def test_nobody_there_is_one_sentence() -> None:
    with loopback() as (url, _):
        pass
    with pytest.raises(ServiceUnavailableError, match="Connection refused"):
        reads(url)
    with pytest.raises(VertexError):
        reads("http://no-such-host.invalid")


@pytest.mark.parametrize("how", ["close", "forget"])
def test_stream_that_is_left_ends_the_work_there(how: str) -> None:
    fake = FakeBackend(delay_s=0.02)  # to its end, the text would take longer than `eventually` waits
    with serving(fake) as (_, address):
        stream = PredictorBackend(f"http://{address}").stream(CompletionRequest(prompt="a", max_new_tokens=4000))
        next(stream)
        assert fake.active == 1
        if how == "close":
            stream.close()
        del stream
        eventually(lambda: fake.active == 0)


def test_stream_that_is_left_before_its_first_chunk_ends_the_work_too() -> None:
    fake = FakeBackend(delay_s=0.02)  # to its end, the text would take longer than `eventually` waits
    with serving(fake) as (_, address):
        PredictorBackend(f"http://{address}").stream(CompletionRequest(prompt="a", max_new_tokens=4000)).close()
        eventually(lambda: fake.active == 0 and len(fake.requests) == 1)


def test_closed_backend_refuses_and_ends_what_it_streams() -> None:
    fake = FakeBackend(delay_s=0.02)  # to its end, the text would take longer than `eventually` waits
    with serving(fake) as (_, address):
        backend = PredictorBackend(f"http://{address}")
        stream = backend.stream(CompletionRequest(prompt="a", max_new_tokens=4000))
        next(stream)
        backend.close()
        backend.close()
        with pytest.raises(BackendClosedError):
            list(stream)
        with pytest.raises(BackendClosedError):
            backend.stream(REQUEST)
        eventually(lambda: fake.active == 0)


def test_many_stream_at_once() -> None:
    fake = FakeBackend(delay_s=0.002)
    with serving(fake) as (_, address):
        backend = PredictorBackend(f"http://{address}")
        streams = [backend.stream(CompletionRequest(prompt="a", max_new_tokens=20, seed=seed)) for seed in range(8)]
        texts = ["".join(chunk.text for chunk in stream) for stream in streams]
    assert texts == [fake.text(seed, 20) for seed in range(8)]


def test_info_is_the_predictors_once_it_is_known() -> None:
    with loopback(whole(WHOLE)) as (url, _):
        backend = PredictorBackend(url)
        place = url.removeprefix("http://")
        assert backend.info() == BackendInfo("predictor", place)
        list(backend.stream(REQUEST))
        assert backend.info() == BackendInfo("predictor", "tiny", place, 1000, 64, (("block", 1.5),))


@pytest.mark.parametrize("health", [whole(b"hello"), whole(b"{}"), whole(b'{"name": 1, "nats_per_character": 5}')])
def test_what_is_no_predictor_is_named_before_anything_is_asked_of_it(health: Reply) -> None:
    with (
        loopback(whole(WHOLE), health=health) as (url, seen),
        pytest.raises(ModelError, match="not as a predictor does"),
    ):
        reads(url)
    assert seen == []


@pytest.mark.parametrize(
    "url",
    ["", " ", "127.0.0.1:8080", "ftp://x", "http://", "http://x:99999", "http://x/predict", "http://x?y", "http://[x"],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="give one such as http://127"):
        PredictorBackend(url)


def test_latency_is_that_of_one_token_on_an_open_way() -> None:
    fake = FakeBackend()
    with serving(fake) as (_, address):
        backend = Connection(url=f"http://{address}/").backend()
        assert 0 < latency_s(backend) < 20
    assert [(request.max_new_tokens, request.prompt) for request in fake.requests] == [(1, "\n")] * 2


@pytest.fixture
def addressed() -> Iterator[str]:
    with loopback(google_error(503, "down")) as (url, _):
        yield url


def test_closing_ends_the_wait_before_another_attempt(addressed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "BACKOFF_S", 600)
    backend = PredictorBackend(addressed)
    threading.Timer(0.1, backend.close).start()
    with pytest.raises(BackendClosedError):
        backend.stream(REQUEST)
