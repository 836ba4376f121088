"""The Vertex AI backend: the real SDK against the emulator, whose container is the real predictor."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpt.backends.local import LocalBackend
from gpt.completion import CompletionChunk, CompletionRequest, TokenLogprob
from gpt.errors import (
    AccessDeniedError,
    BrokenStreamError,
    ConfigError,
    CredentialsError,
    GPTError,
    ModelError,
    NothingDeployedError,
    QuotaError,
    RegionError,
    RequestError,
    ResourceNotFoundError,
    ServiceUnavailableError,
    VertexTimeoutError,
)
from gpt.vertex import remote
from gpt.vertex.backend import VertexBackend, list_endpoints
from gpt.vertex.connection import latency_s
from tests.emulator.call import PROJECT
from tests.emulator.emulator import LOCATION, Emulator
from tests.fake_page import save_random_checkpoint
from tests.gpt.vertex.cloud import create_endpoint, deploy

ROOT = Path(__file__).resolve().parents[3]
REQUEST = CompletionRequest(prompt="ROMEO:\n", max_new_tokens=20, seed=5)
REQUESTS = (
    REQUEST,
    CompletionRequest(prompt="O Romeo", max_new_tokens=40, seed=1, logprobs=5, top_p=0.9, top_k=0, stop=("e", "\n\n")),
    CompletionRequest(prompt="x" * 200, max_new_tokens=70, temperature=0.0, seed=2, repetition_penalty=1.5, logprobs=0),
)


class Cloud:
    """The emulator and what is deployed there."""

    def __init__(self, emulator: Emulator, checkpoint: Path, endpoints: dict[str, Any]) -> None:
        self.emulator, self.checkpoint, self.endpoints = emulator, checkpoint, endpoints

    def backend(self, endpoint: str = "dedicated", **options: Any) -> VertexBackend:
        return VertexBackend(
            PROJECT, LOCATION, self.endpoints[endpoint].name, api_endpoint=self.emulator.url, **options
        )


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """One dedicated endpoint and one shared, with the same model, and one with none."""
    checkpoint = save_random_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny")
    with Emulator() as emulator, pytest.MonkeyPatch.context() as patch:
        for name, value in emulator.environment().items():
            patch.setenv(name, value)
        endpoints = {
            name: create_endpoint(emulator, f"the {name} one", dedicated=name != "shared")
            for name in ("dedicated", "shared", "empty")
        }
        deploy(emulator, checkpoint, endpoints["dedicated"], endpoints["shared"])
        yield Cloud(emulator, checkpoint, endpoints)


@pytest.fixture
def cloud(running: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    monkeypatch.setattr(remote, "BACKOFF_S", 0.001)
    for name, value in running.emulator.environment().items():
        monkeypatch.setenv(name, value)
    yield running
    running.emulator.faults.clear()


@pytest.mark.parametrize("request_", REQUESTS, ids=range(len(REQUESTS)))
@pytest.mark.parametrize("endpoint", ["dedicated", "shared"])
def test_text_is_the_one_that_this_machine_makes(cloud: Cloud, endpoint: str, request_: CompletionRequest) -> None:
    local = LocalBackend.from_checkpoint(cloud.checkpoint)
    try:
        expected = list(local.stream(request_))
    finally:
        local.close()
    found = list(cloud.backend(endpoint).stream(request_))
    if endpoint == "shared":
        assert len(found) == 1
    else:
        assert [replace(chunk, logprobs=()) for chunk in found] == [replace(chunk, logprobs=()) for chunk in expected]
    assert "".join(chunk.text for chunk in found) == "".join(chunk.text for chunk in expected)
    assert [one for chunk in found for one in chunk.token_ids] == [one for chunk in expected for one in chunk.token_ids]
    # Either may have been made on the engine's compiled path, and the last digits tell which.
    for mine, other in zip(_logprobs(found), _logprobs(expected), strict=True):
        assert replace(mine, logprob=0, alternatives=()) == replace(other, logprob=0, alternatives=())
        assert mine.logprob == pytest.approx(other.logprob, abs=1e-4)
        assert dict(_pairs(mine)) == pytest.approx(dict(_pairs(other)), abs=1e-4)
    assert (found[-1].finish_reason, found[-1].seed) == (expected[-1].finish_reason, expected[-1].seed)


def _logprobs(chunks: list[CompletionChunk]) -> list[TokenLogprob]:
    return [one for chunk in chunks for one in chunk.logprobs]


def _pairs(one: TokenLogprob) -> list[tuple[int, float]]:
    return [(alternative.token_id, alternative.logprob) for alternative in one.alternatives]


def test_info_says_what_it_is_and_whether_it_streams(cloud: Cloud) -> None:
    dedicated, shared = cloud.backend(), cloud.backend("shared")
    assert dedicated.info().name == cloud.endpoints["dedicated"].name  # nothing was asked yet
    assert latency_s(dedicated) > 0 and latency_s(shared) > 0
    assert (dedicated.info().kind, dedicated.info().name, dedicated.info().device) == (
        "vertex",
        "the dedicated one",
        "us-central1",
    )
    assert (shared.info().name, shared.info().device) == ("the shared one", "us-central1, no streaming")


def test_full_name_says_all(cloud: Cloud) -> None:
    name = f"projects/{PROJECT}/locations/{LOCATION}/endpoints/{cloud.endpoints['dedicated'].name}"
    backend = VertexBackend("", "", name, api_endpoint=cloud.emulator.url)
    assert list(backend.stream(REQUEST))[-1].finish_reason == "length"


def test_endpoints_are_listed_by_name(cloud: Cloud) -> None:
    assert list_endpoints(PROJECT, LOCATION, api_endpoint=cloud.emulator.url) == [
        (cloud.endpoints[name].name, f"the {name} one") for name in ("dedicated", "empty", "shared")
    ]
    assert list_endpoints(PROJECT, "europe-west4", api_endpoint=cloud.emulator.url) == []
    cloud.emulator.faults.answer(403, "endpoints")
    with pytest.raises(AccessDeniedError, match="us-central1"):
        list_endpoints(PROJECT, LOCATION, api_endpoint=cloud.emulator.url)


@pytest.mark.parametrize("endpoint", ["dedicated", "shared"])
@pytest.mark.parametrize(
    ("status", "expected", "times"),
    [
        (401, CredentialsError, 9),
        (403, AccessDeniedError, 1),
        (404, ResourceNotFoundError, 1),
        (429, QuotaError, 3),
        (500, ModelError, 1),
        (503, ServiceUnavailableError, 3),
        (504, VertexTimeoutError, 1),
    ],
)
def test_refusal_is_one_typed_sentence_and_the_next_request_works(
    cloud: Cloud, endpoint: str, status: int, expected: type[GPTError], times: int
) -> None:
    backend = cloud.backend(endpoint)
    cloud.emulator.faults.answer(status, "redict", times)
    with pytest.raises(GPTError) as caught:
        list(backend.stream(REQUEST))
    assert type(caught.value) is expected
    assert f"endpoint {cloud.endpoints[endpoint].name} in us-central1" in str(caught.value)
    assert "http://" not in str(caught.value) and "\n" not in str(caught.value)
    cloud.emulator.faults.clear()
    assert list(backend.stream(REQUEST))[-1].finish_reason == "length"


@pytest.mark.parametrize("endpoint", ["dedicated", "shared"])
def test_refusal_that_passes_is_not_seen(cloud: Cloud, endpoint: str) -> None:
    cloud.emulator.faults.answer(429, "redict", 1)
    cloud.emulator.faults.answer(503, "redict", 1)
    assert list(cloud.backend(endpoint).stream(REQUEST))[-1].finish_reason == "length"


@pytest.mark.parametrize("kind", ["truncate", "end"])
def test_stream_that_breaks_off_is_noticed(cloud: Cloud, kind: str) -> None:
    getattr(cloud.emulator.faults, kind)(3, "streamRawPredict", 1)
    backend = cloud.backend()
    stream = backend.stream(REQUEST)
    with pytest.raises(BrokenStreamError, match="before the text was complete"):
        list(stream)
    assert len(list(backend.stream(REQUEST))) == 20


@pytest.mark.parametrize("endpoint", ["dedicated", "shared"])
def test_endpoint_that_hangs_is_not_waited_for(cloud: Cloud, endpoint: str) -> None:
    backend = cloud.backend(endpoint, timeout_s=1)
    backend.stream(REQUEST).close()
    cloud.emulator.faults.hang("redict", 1)
    with pytest.raises(VertexTimeoutError, match="did not answer in time"):
        backend.stream(REQUEST)
    cloud.emulator.faults.clear()
    assert latency_s(backend) > 0


@pytest.mark.parametrize("endpoint", ["dedicated", "shared"])
def test_what_the_predictor_refuses_is_the_requests_fault(cloud: Cloud, endpoint: str) -> None:
    backend = cloud.backend(endpoint)
    with pytest.raises(RequestError, match="character"):
        backend.stream(CompletionRequest(prompt="\N{SNOWMAN}"))
    with pytest.raises(RequestError, match=r"1,500,000 bytes|payload size exceeds the limit"):
        backend.stream(CompletionRequest(prompt="x" * 2_000_000))
    assert latency_s(backend) > 0


def test_endpoint_without_a_model_is_named_with_what_to_do(cloud: Cloud) -> None:
    backend = cloud.backend("empty")
    with pytest.raises(NothingDeployedError, match=r"python -m gpt\.vertex\.deploy"):
        backend.stream(REQUEST)


def test_model_that_was_undeployed_meanwhile_is_noticed(cloud: Cloud) -> None:
    endpoint = create_endpoint(cloud.emulator, "one that goes")
    deploy(cloud.emulator, cloud.checkpoint, endpoint)
    backend = VertexBackend(PROJECT, LOCATION, endpoint.name, api_endpoint=cloud.emulator.url)
    assert latency_s(backend) > 0
    endpoint.undeploy_all()
    with pytest.raises(NothingDeployedError):
        backend.stream(REQUEST)
    endpoint.delete()
    with pytest.raises(ResourceNotFoundError):
        backend.stream(REQUEST)


def test_predictor_that_is_killed_in_the_midst_is_noticed(cloud: Cloud) -> None:
    endpoint = create_endpoint(cloud.emulator, "one that dies")
    deploy(cloud.emulator, cloud.checkpoint, endpoint)
    backend = VertexBackend(PROJECT, LOCATION, endpoint.name, api_endpoint=cloud.emulator.url)
    stream = backend.stream(CompletionRequest(prompt="ROMEO:\n", max_new_tokens=4096))
    next(stream)
    cloud.emulator.endpoints.kill(endpoint.name)
    with pytest.raises(BrokenStreamError):
        list(stream)
    with pytest.raises(ServiceUnavailableError, match="see that it runs"):
        backend.stream(REQUEST)
    endpoint.undeploy_all()
    endpoint.delete()


def test_streams_at_once_each_begin_at_once(cloud: Cloud) -> None:
    backend = cloud.backend()
    streams = [backend.stream(CompletionRequest(prompt="ROMEO:\n", max_new_tokens=2000, seed=n)) for n in range(4)]
    for stream in streams:
        assert next(stream).finish_reason is None
    for stream in streams:
        stream.close()


def test_threads_may_share_it(cloud: Cloud) -> None:
    backend = cloud.backend()
    texts: dict[int, str] = {}

    def read(number: int) -> None:
        texts[number] = "".join(chunk.text for chunk in backend.stream(REQUEST))

    threads = [threading.Thread(target=read, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(texts) == 6 and len(set(texts.values())) == 1


def test_wrong_place_says_which_part_is_wrong(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    url = cloud.emulator.url
    with pytest.raises(RegionError, match="us-central1 or europe-west4"):
        VertexBackend(PROJECT, "atlantis", "5001", api_endpoint=url).stream(REQUEST)
    with pytest.raises(ResourceNotFoundError, match="each location has its own"):
        VertexBackend(PROJECT, "europe-west4", cloud.endpoints["dedicated"].name, api_endpoint=url).stream(REQUEST)
    with pytest.raises(ResourceNotFoundError):
        VertexBackend(PROJECT, LOCATION, "999", api_endpoint=url).stream(REQUEST)
    with pytest.raises(AccessDeniedError):
        VertexBackend("another", LOCATION, "5001", api_endpoint=url).stream(REQUEST)
    with pytest.raises(ServiceUnavailableError):
        VertexBackend(PROJECT, LOCATION, "5001", api_endpoint="http://127.0.0.1:1").stream(REQUEST)


def test_missing_credentials_are_named_with_what_to_do(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "from gpt.vertex.backend import VertexBackend\n"
        "from gpt.completion import CompletionChunk, CompletionRequest, TokenLogprob\n"
        "from gpt.errors import CredentialsError\n"
        f"backend = VertexBackend({PROJECT!r}, {LOCATION!r}, '5001', api_endpoint={cloud.emulator.url!r})\n"
        "try: backend.stream(CompletionRequest(prompt='a'))\n"
        "except CredentialsError as error: print(error)"
    )
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    monkeypatch.setenv("CLOUDSDK_CONFIG", "/nowhere")
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "gcloud auth application-default login" in result.stdout, result.stderr
    assert result.stdout.count("\n") == 1


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (("", "us-central1", "1"), "the project is missing; give one such as my-project-1"),
        (("a b", "us-central1", "1"), "the project is 'a b'"),
        (("p", "", "1"), "the location is missing; give one such as us-central1"),
        (("p", "us central", "1"), "the location is 'us central'"),
        (("p", "us-central1", ""), "the endpoint is missing"),
        (("p", "us-central1", "../x"), "the endpoint is '../x'"),
        (("p", "us-central1", "projects/p/endpoints/1"), "the endpoint is 'projects/p/endpoints/1'"),
        (("p", "us-central1", "1?x=y"), "the endpoint is"),
    ],
)
def test_what_cannot_be_a_place_is_refused_before_anything_is_asked(place: tuple[str, str, str], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        VertexBackend(*place)
    assert words in str(caught.value)


@pytest.mark.parametrize("timeout_s", [0, -1, 121, float("nan")])
def test_timeout_has_a_range(timeout_s: float) -> None:
    with pytest.raises(ConfigError, match="above 0, to 120"):
        VertexBackend("p", "us-central1", "1", timeout_s=timeout_s)


def test_sdk_is_imported_with_the_first_request_only() -> None:
    code = (
        "import sys\n"
        "from gpt.vertex.connection import Connection\n"
        "Connection('p', 'us-central1', '1').backend().info()\n"
        "assert 'google.cloud.aiplatform' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
