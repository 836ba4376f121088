"""Connection: where a predictor is, as a command or a page was told, and how long it takes to answer."""

from __future__ import annotations

import time
from dataclasses import dataclass

from gpt.completion import CompletionBackend, CompletionRequest
from gpt.vertex.address import PredictorBackend
from gpt.vertex.backend import VertexBackend
from gpt.vertex.remote import RemoteBackend

PROBE = "\n"
"""The prompt that tests a connection: a line break is in every corpus."""


@dataclass(frozen=True)
class Connection:
    """Where a predictor is.

    Attributes:
        project, location, endpoint: of Vertex AI; see VertexBackend.
        url: a predictor's address; where there is one, the others do not count.
        api_endpoint: of a rehearsal, see Session.
    """

    project: str = ""
    location: str = ""
    endpoint: str = ""
    url: str = ""
    api_endpoint: str | None = None

    def backend(self) -> RemoteBackend:
        """A backend over it; nothing is sent yet.

        Raises:
            ConfigError: something is missing, or cannot be what it should be.
        """
        if self.url:
            return PredictorBackend(self.url)
        return VertexBackend(self.project, self.location, self.endpoint, api_endpoint=self.api_endpoint)


def latency_s(backend: CompletionBackend) -> float:
    """The seconds that a request for one token takes, there and back; a first one, not counted, opens the way.

    Raises:
        GPTError: whatever the backend raised.
    """
    seconds = 0.0
    for _ in range(2):
        started_at = time.monotonic()
        for _ in backend.stream(CompletionRequest(prompt=PROBE, max_new_tokens=1, temperature=0.0)):
            pass
        seconds = time.monotonic() - started_at
    return seconds
