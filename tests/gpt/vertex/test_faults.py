"""What libraries raise and servers answer, as the project's own exceptions."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from google.api_core import exceptions as api
from google.auth import exceptions as auth

from gpt.errors import (
    AccessDeniedError,
    BackendError,
    ConfigError,
    CredentialsError,
    ModelError,
    NothingDeployedError,
    QueueFullError,
    QuotaError,
    RegionError,
    RejectedError,
    ResourceNotFoundError,
    ServiceUnavailableError,
    VertexError,
    VertexTimeoutError,
)
from gpt.vertex.faults import MAX_WORDS, from_status, status_of, translate, translated, words_of

ROOT = Path(__file__).resolve().parents[3]
SUBJECT = "endpoint 7 in us-central1 of project p"


def google_error(code: int, message: str) -> str:
    return json.dumps({"error": {"code": code, "message": message, "status": "X"}})


@pytest.mark.parametrize(
    ("raised", "expected", "advice"),
    [
        (api.Unauthorized("no"), CredentialsError, "gcloud auth application-default login"),
        (api.Unauthenticated("no"), CredentialsError, "GOOGLE_APPLICATION_CREDENTIALS"),
        (api.PermissionDenied("no"), AccessDeniedError, "roles/aiplatform.user"),
        (api.NotFound("no"), ResourceNotFoundError, "check its name, the project and the location"),
        (api.FailedPrecondition("No model is deployed to it"), NothingDeployedError, "python -m gpt.vertex.deploy"),
        (api.FailedPrecondition("something else"), RejectedError, "something else"),
        (api.InvalidArgument("temperature is 11"), RejectedError, "temperature is 11"),
        (api.AlreadyExists("again"), RejectedError, "again"),
        (api.ResourceExhausted("quota"), QuotaError, "try again in a moment"),
        (api.TooManyRequests("quota"), QuotaError, "raise the quota"),
        (api.DeadlineExceeded("late"), VertexTimeoutError, "wait longer"),
        (api.RetryError("late", None), VertexTimeoutError, "wait longer"),
        (api.ServiceUnavailable("down"), ServiceUnavailableError, "the network works"),
        (api.BadGateway("down"), ServiceUnavailableError, "down"),
        (api.InternalServerError("oh"), ModelError, "log says why"),
        (api.GoogleAPICallError("odd"), VertexError, "odd"),
        (auth.DefaultCredentialsError("none found"), CredentialsError, "there are no Google Cloud credentials"),
        (auth.InvalidOperation("anonymous"), CredentialsError, "gcloud auth"),
        (auth.RefreshError("expired"), CredentialsError, "expired"),
        (auth.TransportError("no route"), ServiceUnavailableError, "no route"),
        (auth.TimeoutError("late"), VertexTimeoutError, "late"),
        (requests.ReadTimeout(), VertexTimeoutError, "wait longer"),
        (requests.ConnectTimeout(), VertexTimeoutError, "wait longer"),
        (requests.ConnectionError("Read timed out."), VertexTimeoutError, "wait longer"),
        (requests.ConnectionError("refused"), ServiceUnavailableError, "see that it runs"),
        (requests.exceptions.ChunkedEncodingError("cut"), ServiceUnavailableError, "broke"),
        (requests.exceptions.SSLError("self-signed"), ServiceUnavailableError, "certificate"),
        (TimeoutError("timed out"), VertexTimeoutError, "wait longer"),
        (ConnectionRefusedError(111, "Connection refused"), ServiceUnavailableError, "Connection refused"),
        (http.client.IncompleteRead(b""), ServiceUnavailableError, "broke"),
        (ValueError("Unsupported region for Vertex AI, select from ..."), RegionError, "us-central1"),
        (ValueError("Dedicated endpoint DNS is empty. Please make sure"), NothingDeployedError, "deploy"),
        (RuntimeError("Job failed with: code 3"), VertexError, "Job failed with: code 3"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_fault_becomes_one_of_ours_that_says_what_to_do(
    raised: Exception, expected: type[VertexError], advice: str
) -> None:
    found = translate(raised, SUBJECT)
    assert type(found) is expected
    assert advice in str(found)
    assert "\n" not in str(found)
    assert isinstance(found, BackendError)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, RejectedError),
        (401, CredentialsError),
        (403, AccessDeniedError),
        (404, ResourceNotFoundError),
        (408, VertexTimeoutError),
        (413, RejectedError),
        (429, QuotaError),
        (500, ModelError),
        (502, ServiceUnavailableError),
        (503, ServiceUnavailableError),
        (504, VertexTimeoutError),
    ],
)
def test_dedicated_endpoints_bare_error_is_read_like_the_status_that_it_names(
    status: int, expected: type[VertexError]
) -> None:
    body = google_error(status, "these words")
    raised = ValueError(f"Failed to make prediction request. Status code:{status}, response: {body}.")
    assert type(translate(raised, SUBJECT)) is type(from_status(status, "these words", SUBJECT)) is expected
    assert str(translate(raised, SUBJECT)) == str(from_status(status, "these words", SUBJECT))
    assert "these words" in str(translate(raised, SUBJECT)) and SUBJECT in str(translate(raised, SUBJECT))


def test_quota_counts_as_a_full_queue() -> None:
    assert isinstance(from_status(429, "", SUBJECT), QueueFullError)


def test_words_of_the_sdk_leave_out_the_request_that_they_begin_with() -> None:
    found = translate(api.NotFound("POST http://127.0.0.1:8/v1/x:predict?%24alt=json: The endpoint is gone"), SUBJECT)
    assert found is not None
    assert "The endpoint is gone" in str(found) and "http:" not in str(found)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (google_error(400, "too long"), "too long"),
        (google_error(400, google_error(413, "the body is too large")), "the body is too large"),
        (f"[{google_error(403, 'not yours')}]", "not yours"),
        ("<html>\n <b>502</b> Bad Gateway.", "<html> <b>502</b> Bad Gateway"),
        (b"\xff\xfe", "��"),
        ("", ""),
        ("[]", "[]"),
        ('{"error": 5}', '{"error": 5}'),
        ("[" * 100_000, "[" * MAX_WORDS + "…"),
    ],
)
def test_words_of_an_answer_are_its_message(body: str | bytes, words: str) -> None:
    assert words_of(body) == words


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (google_error(429, ""), 429),
        (f"[{google_error(403, '')}]", 403),
        ("{}", None),
        ("x", None),
        ('{"error": {"code": true}}', None),
    ],
)
def test_status_of_an_answer_is_its_codes(body: str, status: int | None) -> None:
    assert status_of(body.encode()) == status


def test_long_words_are_cut() -> None:
    assert len(str(from_status(400, "x" * 10_000, SUBJECT))) < MAX_WORDS + 100


def test_mistakes_of_the_program_and_our_own_errors_pass() -> None:
    assert translate(TypeError("a mistake"), SUBJECT) is None
    own = ConfigError("ours")
    assert translate(own, SUBJECT) is own
    with pytest.raises(TypeError, match="a mistake"), translated(SUBJECT):
        raise TypeError("a mistake")
    with pytest.raises(ConfigError, match="ours"), translated(SUBJECT):
        raise own


def test_translated_keeps_the_cause() -> None:
    with pytest.raises(ResourceNotFoundError) as caught, translated(SUBJECT):
        raise api.NotFound("gone")
    assert isinstance(caught.value.__cause__, api.NotFound)


def test_plain_faults_need_no_library_of_googles() -> None:
    code = (
        "import sys\n"
        "from gpt.vertex.faults import translate\n"
        "assert translate(ConnectionRefusedError(111, 'refused'), 'it') and translate(TimeoutError(), 'it')\n"
        "assert not {'google.api_core', 'google.auth', 'requests'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
