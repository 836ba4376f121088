"""The predictor's routes over real connections: predictions, events, limits, and what ends the work."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpt.backends.local import LocalBackend
from gpt.completion import CompletionRequest
from gpt.errors import BackendClosedError, BackendError, QueueFullError, UnknownCharacterError
from gpt.generation import Generation
from gpt.vertex import service as service_module
from gpt.vertex.events import decode_chunk, join_chunks
from gpt.vertex.instances import encode_call
from gpt.vertex.service import MAX_BODY_BYTES
from tests.fake_backend import UNKNOWN, FakeBackend
from tests.fake_page import save_random_checkpoint
from tests.gpt.vertex.serving import PROMPT, ask, eventually, serving, streaming


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBackend]:
    backend = LocalBackend.from_checkpoint(save_random_checkpoint(tmp_path_factory.mktemp("tiny"), nats=4.5))
    while backend._engine.path.endswith("getting ready"):  # the last digits tell the two paths apart
        list(backend.stream(CompletionRequest(prompt="a", max_new_tokens=1)))
    yield backend
    backend.close()


@pytest.fixture(scope="module")
def local_address(local: LocalBackend) -> Iterator[str]:
    with serving(local) as (_, address):
        yield address


@pytest.fixture
def fake() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
def address(fake: FakeBackend) -> Iterator[str]:
    with serving(fake) as (_, address):
        yield address


REQUESTS = (
    CompletionRequest(prompt="ROMEO:\n", seed=1, max_new_tokens=30),
    CompletionRequest(prompt="ROMEO:\n", seed=2, max_new_tokens=30, logprobs=3, top_p=0.9, stop=("e",)),
    CompletionRequest(prompt="x" * 300, seed=3, max_new_tokens=80, repetition_penalty=1.3, logprobs=0),
    CompletionRequest(prompt="JULIET:\n", temperature=0.0, max_new_tokens=20, seed=4),
)


@pytest.mark.parametrize("request_", REQUESTS, ids=range(len(REQUESTS)))
def test_text_is_the_one_that_this_machine_makes(
    local: LocalBackend, local_address: str, request_: CompletionRequest
) -> None:
    chunks = list(local.stream(request_))
    whole = ask(local_address, encode_call(request_, stream=False))
    assert whole.status == 200
    assert decode_chunk(whole.content["predictions"][0]) == join_chunks(chunks)
    assert whole.content["predictions"][0]["completion_tokens"] == len(join_chunks(chunks).token_ids)
    with contextlib.closing(http.client.HTTPConnection(local_address, timeout=30)) as connection:
        connection.request("POST", "/predict", json.dumps(encode_call(request_, stream=True)))
        lines = connection.getresponse().read().split(b"\n\n")
    assert [decode_chunk(json.loads(line.removeprefix(b"data: "))) for line in lines[:-1]] == chunks


def test_predictions_stand_in_the_order_of_the_instances_and_are_those_of_each_alone(local_address: str) -> None:
    prompts = ["ROMEO:\n", "JULIET:\n", "O", "ROMEO:\n"]
    parameters = {"max_new_tokens": 25, "seed": 5, "temperature": 0.0}
    together = ask(local_address, {"instances": [{"prompt": p} for p in prompts], "parameters": parameters})
    alone = [ask(local_address, {"instances": [{"prompt": p}], "parameters": parameters}) for p in prompts]
    assert [one["text"] for one in together.content["predictions"]] == [
        one.content["predictions"][0]["text"] for one in alone
    ]
    assert [one["prompt_tokens"] for one in together.content["predictions"]] == [7, 8, 1, 7]


def test_events_come_as_the_text_is_made(fake: FakeBackend, address: str) -> None:
    release = threading.Event()
    chunks = fake._chunks

    def held(request: CompletionRequest):
        made = chunks(request)
        yield next(made)
        assert release.wait(20)
        yield from made

    fake._chunks = held  # type: ignore[method-assign]
    with streaming(address, seed=0, max_new_tokens=3) as events:
        assert next(events)["text"] == "What"
        release.set()
        rest = list(events)
    assert [event["text"] for event in rest] == [" light", " through"]
    assert [event.get("finish_reason") for event in rest] == [None, "length"]
    assert rest[0]["logprobs"][0]["alternatives"] and rest[0]["seed"] == 0


def test_comments_show_that_a_text_is_still_to_come(
    fake: FakeBackend, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "HEARTBEAT_S", 0.05)
    fake.delay_s = 0.3
    body = {"instances": [PROMPT], "parameters": {"max_new_tokens": 1, "stream": True}}
    with contextlib.closing(http.client.HTTPConnection(address, timeout=30)) as connection:
        connection.request("POST", "/predict", json.dumps(body))
        lines = connection.getresponse().read().split(b"\n\n")
    assert lines[0].startswith(b": ") and lines[-2].startswith(b"data: ")


@pytest.fixture
def generations(local: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> list[Generation]:
    """What the engine is asked for from now on."""
    submit, made = local._engine.submit, list[Generation]()

    def recording(*arguments: Any) -> Generation:
        made.append(submit(*arguments))
        return made[-1]

    monkeypatch.setattr(local._engine, "submit", recording)
    return made


def test_dropped_stream_stops_the_engine(
    local: LocalBackend, local_address: str, generations: list[Generation]
) -> None:
    with streaming(local_address, max_new_tokens=4096, seed=1) as events:
        next(events)
        assert local._engine.active == 1
    eventually(lambda: local._engine.active == 0)
    assert not generations[0]._finished, "the text was written to its end"


def test_instances_run_together_and_a_dropped_batch_stops_the_engine(
    local: LocalBackend, local_address: str, generations: list[Generation]
) -> None:
    body = json.dumps({"instances": [PROMPT] * 8, "parameters": {"max_new_tokens": 4096}}).encode()
    host, port = local_address.split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        eventually(lambda: local._engine.active == 8)
    eventually(lambda: local._engine.active == 0)
    assert len(generations) == 8
    assert not any(generation._finished for generation in generations), "the texts were written to their end"


def test_body_that_breaks_off_leaves_nothing_behind(fake: FakeBackend, caplog: pytest.LogCaptureFixture) -> None:
    with serving(fake) as (service, address):
        host, port = address.split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
            eventually(lambda: service.active == 1)
        eventually(lambda: service.active == 0)
        assert ask(address, {"instances": [PROMPT]}).status == 200
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize(
    ("raised", "status", "name"),
    [
        (UnknownCharacterError("the prompt has '☃'"), 400, "INVALID_ARGUMENT"),
        (QueueFullError("16 are running"), 429, "RESOURCE_EXHAUSTED"),
        (BackendClosedError("this model was closed"), 503, "UNAVAILABLE"),
        (BackendError("the logits are not finite"), 500, "INTERNAL"),
    ],
)
def test_backends_error_is_its_status_and_its_words(
    fake: FakeBackend, address: str, raised: BackendError, status: int, name: str
) -> None:
    fake.error = raised
    answer = ask(address, {"instances": [PROMPT]})
    assert (answer.status, answer.message, answer.content["error"]["status"]) == (status, str(raised), name)
    assert ("retry-after" in answer.headers) == (status in (429, 503))
    fake.error = None
    assert ask(address, {"instances": [PROMPT]}).status == 200


def test_error_after_the_first_event_is_the_last_event(fake: FakeBackend, address: str) -> None:
    fake.fail_after = 2
    with streaming(address, max_new_tokens=5) as events:
        found = list(events)
    assert len(found) == 3
    assert found[-1]["error"] == {
        "code": 503,
        "message": "the backend was closed; choose another checkpoint",
        "status": "UNAVAILABLE",
    }


def test_mistake_of_the_program_is_the_logs_and_not_the_clients(
    fake: FakeBackend, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    fake.error = ZeroDivisionError("a secret")  # type: ignore[assignment]
    answer = ask(address, {"instances": [PROMPT]})
    assert answer.status == 500 and answer.message == "the model's server failed; its log says why"
    assert any(record.exc_info and "a secret" in str(record.exc_info[1]) for record in caplog.records)


def test_one_instance_that_is_refused_refuses_all_and_is_named(fake: FakeBackend, address: str) -> None:
    stream = fake.stream

    def eager(request: CompletionRequest):
        if UNKNOWN in request.prompt:
            raise UnknownCharacterError("no such character")
        return stream(request)

    fake.stream = eager  # type: ignore[method-assign]
    answer = ask(address, {"instances": [PROMPT, PROMPT, {"prompt": UNKNOWN}]})
    assert answer.status == 400 and answer.message == "instance 2: no such character"
    assert fake.active == 0


def test_full_queue_takes_nothing_of_a_batch(tmp_path: Path) -> None:
    backend = LocalBackend.from_checkpoint(save_random_checkpoint(tmp_path / "tiny"), max_streams=1, max_queue=1)
    try:
        with serving(backend) as (_, address):
            answer = ask(address, {"instances": [PROMPT] * 3, "parameters": {"max_new_tokens": 4096}})
            assert answer.status == 429 and answer.headers["retry-after"] == "1"
            assert "max_streams 1, max_queue 1" in answer.message
            eventually(lambda: backend._engine.active + backend._engine.waiting == 0)
            assert ask(address, {"instances": [PROMPT]}).status == 200
    finally:
        backend.close()


@pytest.mark.parametrize("size", [MAX_BODY_BYTES + 1, 2_000_000, 20_000_000])
def test_body_that_is_too_large_is_refused(address: str, size: int) -> None:
    with contextlib.closing(http.client.HTTPConnection(address, timeout=30)) as connection:
        connection.putrequest("POST", "/predict")
        connection.putheader("Content-Length", str(size))
        connection.endheaders()
        if size < 20_000_000:  # the largest is refused before it is sent
            connection.send(b"x" * size)
        answer = connection.getresponse()
        content = json.loads(answer.read())
    assert answer.status == 413 and "larger than 1,500,000 bytes" in content["error"]["message"]
    assert ask(address, {"instances": [PROMPT]}).status == 200


def test_body_of_unknown_length_is_measured_as_it_comes(address: str) -> None:
    with contextlib.closing(http.client.HTTPConnection(address, timeout=30)) as connection:
        connection.request("POST", "/predict", iter([b"x" * 100_000] * 16), encode_chunked=True)
        assert connection.getresponse().status == 413


def test_largest_body_passes(local_address: str) -> None:
    rest = len(json.dumps({"instances": [{"prompt": ""}], "parameters": {"max_new_tokens": 1}}))
    prompt = "x" * (MAX_BODY_BYTES - rest)
    answer = ask(local_address, {"instances": [{"prompt": prompt}], "parameters": {"max_new_tokens": 1}})
    assert answer.status == 200 and answer.content["predictions"][0]["prompt_tokens"] == len(prompt)


def test_body_that_does_not_come_is_not_waited_for(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "BODY_S", 0.1)
    with contextlib.closing(http.client.HTTPConnection(address, timeout=30)) as connection:
        connection.putrequest("POST", "/predict")
        connection.putheader("Content-Length", "10")
        connection.endheaders()
        assert connection.getresponse().status == 408


def test_refusals_of_the_body_are_400_with_words(address: str) -> None:
    answer = ask(address, {"instances": [PROMPT], "parameters": {"temperature": 11}})
    assert (answer.status, answer.message) == (400, "temperature is 11; give a number from 0 to 10")
    assert len(ask(address, {"instances": [PROMPT], "parameters": {"temperature": "x" * 9999}}).message) < 600


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/predict", 405), ("POST", "/other", 404), ("POST", "/health", 405), ("GET", "/docs", 404)],
)
def test_other_routes_say_which_there_are(address: str, method: str, path: str, status: int) -> None:
    answer = ask(address, b"", method=method, path=path)
    assert answer.status == status
    assert "GET /health and POST /predict" in answer.message


def test_health_is_503_until_the_model_is_there_and_while_it_stops(fake: FakeBackend) -> None:
    with serving(None) as (service, address):
        assert ask(address, b"", method="GET", path="/health")[:2] == (503, {"status": "loading"})
        refused = ask(address, {"instances": [PROMPT]})
        assert refused.status == 503 and "still loading" in refused.message
        service.backend = fake
        healthy = ask(address, b"", method="GET", path="/health")
        assert healthy.status == 200 and healthy.content["status"] == "ok" and healthy.content["name"] == "fake"
        assert healthy.content["nats_per_character"] == {"block": pytest.approx(1.462), "sliding": 1.447}
        assert ask(address, {"instances": [PROMPT]}).status == 200
        fake.delay_s = 0.01
        with streaming(address, max_new_tokens=20) as events:
            next(events)
            service.active += 1  # so that it does not end before the questions below are asked
            service.stopping = True
            assert ask(address, b"", method="GET", path="/health")[:2] == (503, {"status": "stopping"})
            refused = ask(address, {"instances": [PROMPT]})
            assert refused.status == 503 and "is stopping" in refused.message
            assert len(list(events)) == 19
        service.active -= 1


def test_each_prediction_has_a_line_in_the_log_without_its_text(
    fake: FakeBackend, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger=service_module.__name__):
        ask(address, {"instances": [PROMPT, PROMPT], "parameters": {"max_new_tokens": 3}})
        ask(address, {"instances": [PROMPT], "parameters": {"top_n": 3}})
        with streaming(address, max_new_tokens=2) as events:
            list(events)
        fake.delay_s = 0.01
        with streaming(address, max_new_tokens=4000) as events:
            next(events)
        eventually(lambda: len(caplog.records) == 4)
    fields = [record.fields for record in caplog.records]  # type: ignore[attr-defined]
    assert [(one["outcome"], one["httpRequest"]["status"]) for one in fields] == [
        ("complete", 200),
        ("refused", 400),
        ("complete", 200),
        ("disconnected", 200),
    ]
    assert (fields[0]["instances"], fields[0]["stream"], fields[0]["completion_tokens"]) == (2, False, 6)
    assert (fields[2]["instances"], fields[2]["stream"], fields[2]["completion_tokens"]) == (1, True, 2)
    assert "ROMEO" not in caplog.text and "ROMEO" not in str(fields)
