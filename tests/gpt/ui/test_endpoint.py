"""The page's public endpoint, over HTTP."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator

import gradio_client  # type: ignore[import-untyped]
import pytest

from gpt.errors import QueueFullError
from tests.fake_backend import UNKNOWN, FakeBackend
from tests.fake_page import make_catalogue, served


@pytest.fixture(scope="module")
def fakes() -> dict[str, FakeBackend]:
    return {"laptop": FakeBackend("laptop")}


@pytest.fixture(scope="module")
def address(fakes: dict[str, FakeBackend], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    catalogue = make_catalogue(tmp_path_factory.mktemp("checkpoints"), fakes)
    with served(catalogue) as served_at:
        yield served_at


@pytest.fixture
def backend(fakes: dict[str, FakeBackend]) -> Iterator[FakeBackend]:
    backend = fakes["laptop"]
    backend.delay_s, backend.error = 0.005, None
    backend.requests.clear()
    yield backend
    wait_until(lambda: backend.active == 0)


@pytest.fixture
def client(address: str) -> gradio_client.Client:
    return gradio_client.Client(address, verbose=False)


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_generate_is_the_only_endpoint(client: gradio_client.Client) -> None:
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert list(endpoints) == ["/generate"]
    names = [parameter["parameter_name"] for parameter in endpoints["/generate"]["parameters"]]
    assert names == [
        "prompt",
        "temperature",
        "top_k",
        "top_p",
        "min_p",
        "repetition_penalty",
        "max_new_tokens",
        "seed",
    ]


def test_generate_streams_the_text_so_far(client: gradio_client.Client, backend: FakeBackend) -> None:
    backend.delay_s = 0.02
    job = client.submit("ROMEO:", 0.5, 10, 0.9, 0.1, 1.2, 50, 7, api_name="/generate")
    texts = list(job)
    assert len(texts) > 3
    for earlier, later in itertools.pairwise(texts):
        assert later.startswith(earlier)
    assert texts[-1] == backend.text(7, 50)
    request = backend.requests[0]
    assert (request.prompt, request.temperature, request.top_k, request.top_p) == ("ROMEO:", 0.5, 10, 0.9)
    assert (request.min_p, request.repetition_penalty, request.max_new_tokens, request.seed) == (0.1, 1.2, 50, 7)


def test_generate_has_the_requests_defaults(client: gradio_client.Client, backend: FakeBackend) -> None:
    client.predict("ROMEO:", api_name="/generate")
    request = backend.requests[0]
    assert (request.temperature, request.top_k, request.max_new_tokens, request.seed) == (0.8, 50, 200, None)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"prompt": ""}, "prompt is empty"),
        ({"prompt": "a", "temperature": -1}, "temperature is -1"),
        ({"prompt": "a", "max_new_tokens": 10**6}, "max_new_tokens is 1000000"),
        ({"prompt": UNKNOWN}, "knows no such character"),
    ],
)
def test_generate_refuses_in_words(
    client: gradio_client.Client,
    backend: FakeBackend,
    arguments: dict[str, object],
    words: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(Exception, match=words):
        client.predict(**arguments, api_name="/generate")
    assert "Traceback" not in "".join(capfd.readouterr()), "a visitor's mistake is nothing for the server's log"


def test_a_full_queue_is_said(client: gradio_client.Client, backend: FakeBackend) -> None:
    backend.error = QueueFullError("16 requests are served and 64 wait; try again in a moment")
    with pytest.raises(Exception, match="try again in a moment"):
        client.predict("a", api_name="/generate")


def test_eight_stream_side_by_side_and_a_cancelled_one_frees_its_place(address: str, backend: FakeBackend) -> None:
    backend.delay_s = 0.1
    clients = [gradio_client.Client(address, verbose=False) for _ in range(8)]
    jobs = [
        client.submit("a", 0.8, 50, 1.0, 0.0, 1.0, 120, seed, api_name="/generate")
        for seed, client in enumerate(clients)
    ]
    wait_until(lambda: backend.active == 8)
    wait_until(lambda: all(job.outputs() for job in jobs))
    jobs[3].cancel()
    wait_until(lambda: backend.active == 7)
    backend.delay_s = 0
    for seed, job in enumerate(jobs):
        if seed != 3:
            assert job.result(timeout=30) == backend.text(seed, 120)
