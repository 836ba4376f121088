"""Who may use the interface."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from gpt.api.guard import MAX_BODY_BYTES
from tests.fake_backend import FakeBackend
from tests.gpt.api.serving import ask, serving_api


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving_api(FakeBackend(), hosts=("localhost", "127.0.0.1", "::1")) as given:
        yield given


@pytest.mark.parametrize("path", ["/v1/models", "/metrics"])
@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}])
def test_a_foreign_page_is_refused(address: str, path: str, headers: dict[str, str]) -> None:
    answer = ask(address, path, headers=headers)
    assert answer.status == 403 and answer.content["error"]["type"] == "permission_error"
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_its_own_page_and_names_are_let_in(address: str) -> None:
    port = address.partition(":")[2]
    for host in (address, f"localhost:{port}", f"[::1]:{port}"):
        assert ask(address, "/v1/models", headers={"Host": host, "Origin": f"http://{host}"}).status == 200


def test_a_form_cannot_be_a_request(address: str) -> None:
    answer = ask(address, "/v1/completions", {"prompt": "a"}, headers={"Content-Type": "text/plain"})
    assert answer.status == 415 and "application/json" in answer.content["error"]["message"]


def test_a_body_that_is_too_large_is_refused(address: str) -> None:
    body = b'{"prompt": "' + b"a" * MAX_BODY_BYTES + b'"}'
    assert ask(address, "/v1/completions", body).status == 413


def test_a_key_guards_the_interface_and_its_figures() -> None:
    with serving_api(FakeBackend(), api_key="secret", hosts=("localhost",)) as address:
        for path in ("/v1/models", "/metrics", "/v1/openapi.json"):
            assert ask(address, path).status == 401
            assert ask(address, path, headers={"Authorization": "Bearer secret", "Host": "any.example"}).status == 200
        for key in ("wrong", "secret2"):
            client = openai.OpenAI(base_url=f"http://{address}/v1", api_key=key, max_retries=0)
            with client, pytest.raises(openai.AuthenticationError):
                client.models.list()
