"""What Google's libraries and plain connections raise, and what servers answer, as the project's own exceptions.

One kind of fault comes in many shapes: from the control plane as `google.api_core.exceptions`, from a dedicated
endpoint as a bare ValueError with the status in its text, over plain HTTP as a status, from a socket as an OSError.
Whatever the shape, it becomes the same class of `gpt.errors.VertexError`, with words that say what to do.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
from collections.abc import Iterator
from typing import Any, NoReturn

from gpt.errors import (
    AccessDeniedError,
    CredentialsError,
    GPTError,
    ModelError,
    NothingDeployedError,
    QuotaError,
    RegionError,
    RejectedError,
    ResourceNotFoundError,
    ServiceUnavailableError,
    VertexError,
    VertexTimeoutError,
)

MAX_WORDS = 300
LOG_IN = (
    "run `gcloud auth application-default login`, "
    "or name a service account's key file in GOOGLE_APPLICATION_CREDENTIALS"
)
# The SDK's ValueError for what a dedicated endpoint answered.
_STATUS = re.compile(r"Status code: ?(\d{3}), response: ?(.*)", re.DOTALL)
_REQUEST_LINE = re.compile(r"(GET|POST|PUT|PATCH|DELETE) https?://\S+: ")  # what the SDK puts before an answer's words
_NOTHING_DEPLOYED = re.compile(
    r"no (model is )?deployed|nothing is deployed|not have any (deployed )?model|DNS is empty", re.IGNORECASE
)


@contextlib.contextmanager
def translated(subject: str) -> Iterator[None]:
    """Turn what is raised inside the block into the project's exceptions.

    Args:
        subject: what is being used, for the messages: "endpoint 123 in us-central1 of project p", "bucket gs://b".

    Raises:
        VertexError: in place of a fault of a library, a connection or the service.
        GPTError: what is the project's own already, unchanged. Anything else is a mistake in the program, unchanged.
    """
    try:
        yield
    except Exception as error:
        raise_translated(error, subject)


def raise_translated(error: Exception, subject: str) -> NoReturn:
    """Raise `translate`'s exception because of the error, or the error itself where there is nothing to translate."""
    found = translate(error, subject)
    if found is None or found is error:
        raise error
    raise found from error


def translate(error: Exception, subject: str) -> GPTError | None:
    """The project's exception for what a library raised; None for a mistake in the program.

    The libraries are looked at only when it is theirs, so this works where they are not installed.
    """
    if isinstance(error, GPTError):
        return error
    library = type(error).__module__.partition(".")[0]
    if library == "google":
        return _of_google(error, subject)
    if library == "requests":
        return _of_requests(error, subject)
    if isinstance(error, TimeoutError):
        return _timeout(subject)
    if isinstance(error, OSError):
        return _unavailable(subject, error.strerror or str(error))
    if isinstance(error, http.client.HTTPException):
        return _unavailable(subject, "the connection broke")
    if isinstance(error, (ValueError, RuntimeError)):  # the SDK's own checks, and its jobs and operations that failed
        return _of_words(str(error), subject)
    return None


def from_status(status: int, words: str, subject: str) -> VertexError:
    """The exception for an HTTP status that is no success.

    Args:
        status: for example 404.
        words: what the answer said, empty where it said nothing; see `words_of`.
        subject: as in `translated`.
    """
    said = f" ({words})" if (words := _one_line(words)) else ""
    if status in (400, 404, 412) and _NOTHING_DEPLOYED.search(words):
        return NothingDeployedError(
            f"{subject} has no model deployed{said}; deploy one with `python -m gpt.vertex.deploy`"
        )
    if status == 401:
        return CredentialsError(f"the credentials were not accepted for {subject}{said}; {LOG_IN}")
    if status == 403:
        if subject.startswith("gs://"):
            return AccessDeniedError(
                f"the account may not use {subject}{said}; have the role Storage Object User "
                "(roles/storage.objectUser) granted to it for the bucket, or log in as another account"
            )
        return AccessDeniedError(
            f"the account may not use {subject}{said}; have the role Vertex AI User (roles/aiplatform.user) granted to "
            "it in this project, see that the Vertex AI API is enabled, or log in as another account"
        )
    if status == 404:
        return ResourceNotFoundError(
            f"{subject} was not found{said}; check its name, the project and the location (each location has its own)"
        )
    if status == 429:
        return QuotaError(
            f"{subject} takes no more requests now{said}; try again in a moment, "
            "or raise the quota or the number of replicas"
        )
    if status in (408, 504):
        return _timeout(subject, words)
    if status in (502, 503):
        return _unavailable(subject, words)
    if status >= 500:
        return ModelError(f"{subject} failed{said}; the server's log says why")
    return RejectedError(f"{subject} refused this: {_one_line(words) or f'it answered with status {status}'}")


def words_of(body: bytes | str) -> str:
    """What an answer that is no success says: the message of Google's error JSON, or the text itself."""
    text = body.decode("utf-8", errors="replace") if isinstance(body, bytes) else body
    while isinstance(message := _error_in(text).get("message"), str):  # it may carry another error in turn
        text = message
    return _one_line(text)


def status_of(body: bytes) -> int | None:
    """The HTTP status that Google's error JSON names; None where the body is no such JSON."""
    code = _error_in(body).get("code")
    return code if isinstance(code, int) and 100 <= code <= 599 else None


def _error_in(text: bytes | str) -> dict[str, Any]:
    """The error of Google's error JSON; empty where the text is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if isinstance(found, list) and found:  # so Google's front end answers on its streaming routes
        found = found[0]
    error = found.get("error") if isinstance(found, dict) else None
    return error if isinstance(error, dict) else {}


def _of_google(error: Exception, subject: str) -> GPTError:
    """An exception of google.api_core, google.auth or google.cloud.storage."""
    from google.api_core import exceptions as api
    from google.auth import exceptions as auth

    words = words_of(_REQUEST_LINE.sub("", str(getattr(error, "message", None) or error), count=1))
    if isinstance(error, api.RetryError):
        return _timeout(subject, words)
    if isinstance(error, api.GoogleAPICallError):
        return _of_words(words, subject) if error.code is None else from_status(int(error.code), words, subject)
    if isinstance(error, auth.TimeoutError):
        return _timeout(subject, words)
    if isinstance(error, auth.TransportError):
        return _unavailable(subject, words)
    if isinstance(error, auth.DefaultCredentialsError):
        return CredentialsError(f"there are no Google Cloud credentials that can be used here ({words}); {LOG_IN}")
    if isinstance(error, auth.GoogleAuthError):
        return CredentialsError(f"the Google Cloud credentials could not be used ({words}); {LOG_IN}")
    return VertexError(f"{subject} could not be used ({words})")


def _of_requests(error: Exception, subject: str) -> VertexError:
    """An exception of requests."""
    import requests

    # Between two pieces of a stream, a timeout is raised as a broken connection.
    if isinstance(error, requests.Timeout) or "Read timed out" in str(error):
        return _timeout(subject)
    if isinstance(error, requests.exceptions.SSLError):
        return _unavailable(subject, "its certificate is not trusted here")
    response = getattr(error, "response", None)
    if response is not None:
        return from_status(response.status_code, words_of(response.content), subject)
    return _unavailable(subject, "the connection failed or broke")


def _of_words(words: str, subject: str) -> VertexError:
    """A bare ValueError or RuntimeError of the SDK: what it is stands in its text alone."""
    if found := _STATUS.search(words):
        return from_status(int(found[1]), words_of(found[2].strip().removesuffix(".")), subject)
    if "Unsupported region" in words or "provide a region" in words:
        return RegionError(
            f"the location of {subject} is none of Vertex AI's; give one such as us-central1 or europe-west4"
        )
    if "Unable to find your project" in words:
        return CredentialsError(f"no project is known for {subject}; give its id, and {LOG_IN}")
    if _NOTHING_DEPLOYED.search(words):
        return from_status(400, words, subject)
    return VertexError(f"{subject} could not be used ({_one_line(words)})")


def _timeout(subject: str, words: str = "") -> VertexTimeoutError:
    said = f" ({words})" if words else ""
    return VertexTimeoutError(
        f"{subject} did not answer in time{said}; try again, ask for less at once, or wait longer for it"
    )


def _unavailable(subject: str, words: str) -> ServiceUnavailableError:
    said = f" ({_one_line(words)})" if words else ""
    return ServiceUnavailableError(
        f"{subject} cannot be reached now{said}; see that it runs and that the network works, and try again"
    )


def _one_line(words: str) -> str:
    """The words without line breaks, cut where they are too long for a message."""
    line = " ".join(words.split()).rstrip(".")
    return line if len(line) <= MAX_WORDS else f"{line[:MAX_WORDS]}…"
