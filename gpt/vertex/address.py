"""PredictorBackend: completions from a predictor at an address, with nothing of Google's between."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Generator, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from gpt.completion import BackendInfo
from gpt.errors import ConfigError, ModelError
from gpt.vertex.faults import from_status, translated, words_of
from gpt.vertex.remote import MAX_ANSWER_BYTES, RemoteBackend

HEALTH_ROUTE = "/health"
PREDICT_ROUTE = "/predict"
TIMEOUT_S = 60.0


class PredictorBackend(RemoteBackend):
    """Serves completions of `python -m gpt.vertex.predictor`, wherever it runs; a CompletionBackend.

    Args:
        url: its address, such as http://127.0.0.1:8080; its routes are /health and /predict.
        timeout_s: seconds without an answer, or without another piece of it, before giving up.

    Raises:
        ConfigError: the address is none.
    """

    def __init__(self, url: str, timeout_s: float = TIMEOUT_S) -> None:
        super().__init__(AddressTransport(url, timeout_s))


class AddressTransport:
    """The way to a predictor over plain HTTP."""

    def __init__(self, url: str, timeout_s: float) -> None:
        try:
            parts = urlsplit(url.strip())
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise _no_address(url) from error
        if parts.scheme not in ("http", "https") or not host or parts.path not in ("", "/") or parts.query:
            raise _no_address(url)
        self.subject = f"the predictor at {parts.scheme}://{parts.netloc}"
        self._connection = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._host, self._port = host, port
        self._timeout_s = timeout_s
        self._place = parts.netloc
        self._info: BackendInfo | None = None

    def connect(self) -> None:
        """Ask how it is, unless it is known."""
        if self._info is None:
            with self._answer("GET", HEALTH_ROUTE) as answer:
                self._info = self._read_info(answer.read(MAX_ANSWER_BYTES))

    def forget(self) -> None:
        """Ask again before the next request."""
        self._info = None

    def streams(self) -> bool:
        """It always does."""
        return True

    def lines(self, body: bytes) -> Generator[bytes, None, None]:
        """The lines of the answer as they come."""
        with self._answer("POST", PREDICT_ROUTE, body) as answer:
            while line := answer.readline():
                yield line.rstrip(b"\r\n")

    def predict(self, call: Mapping[str, Any]) -> object:
        """Never needed, since it streams."""
        raise AssertionError("a predictor at an address always streams")

    def info(self) -> BackendInfo:
        """What it says about itself; only where it is, while that is not known."""
        return self._info or BackendInfo("predictor", self._place)

    @contextlib.contextmanager
    def _answer(self, method: str, route: str, body: bytes | None = None) -> Iterator[http.client.HTTPResponse]:
        with (
            translated(self.subject),
            contextlib.closing(self._connection(self._host, self._port, timeout=self._timeout_s)) as connection,
        ):
            connection.request(method, route, body, {"Content-Type": "application/json"} if body else {})
            answer = connection.getresponse()
            with contextlib.closing(answer):
                if answer.status != 200:
                    raise from_status(answer.status, words_of(answer.read(MAX_ANSWER_BYTES)), self.subject)
                yield answer

    def _read_info(self, body: bytes) -> BackendInfo:
        try:
            found = json.loads(body)
            figures = found["nats_per_character"].items()
            return BackendInfo(
                kind="predictor",
                name=str(found["name"]),
                device=self._place,
                parameters=int(found["parameters"]),
                sequence_dim=int(found["sequence_dim"]),
                nats_per_character=tuple((str(protocol), float(figure)) for protocol, figure in figures),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{self.subject} answers, but not as a predictor does; see what runs there") from error


def _no_address(url: str) -> ConfigError:
    given = repr(url) if url.strip() else "missing"
    return ConfigError(f"the predictor's address is {given}; give one such as http://127.0.0.1:8080")
