"""VertexBackend: completions from an endpoint of Vertex AI, with the application default credentials."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Generator, Mapping
from typing import Any

from gpt.completion import BackendInfo
from gpt.errors import ConfigError, ModelError, NothingDeployedError
from gpt.vertex.faults import translated
from gpt.vertex.remote import RemoteBackend
from gpt.vertex.session import Session

TIMEOUT_S = 60.0
CONNECT_S = 15.0
"""For the control plane: what an endpoint is, and which ones there are."""
MAX_TIMEOUT_S = 120.0
"""Above it the SDK needs a library that does not come with it."""
_ENDPOINT = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}")
_FULL_NAME = re.compile(r"projects/([^/]+)/locations/([^/]+)/endpoints/([^/]+)")


class VertexBackend(RemoteBackend):
    """Serves completions of the model that is deployed to an endpoint; a CompletionBackend.

    A dedicated endpoint streams; a shared one cannot, and answers in one piece.

    Args:
        project: its id.
        location: such as us-central1.
        endpoint: its id, or its full name, whose project and location then count.
        timeout_s: seconds without an answer, or without another piece of it, before giving up; 120 at most.
        api_endpoint: of a rehearsal, see Session; None for the location's own.

    Raises:
        ConfigError: one of them is missing, or cannot be what it should be.
    """

    def __init__(
        self,
        project: str,
        location: str,
        endpoint: str,
        *,
        timeout_s: float = TIMEOUT_S,
        api_endpoint: str | None = None,
    ) -> None:
        if not 0 < timeout_s <= MAX_TIMEOUT_S:
            raise ConfigError(f"timeout_s is {timeout_s}; give a number of seconds above 0, to {MAX_TIMEOUT_S:g}")
        if found := _FULL_NAME.fullmatch(endpoint.strip()):
            project, location, endpoint = found.groups()
        session = _session(project, location, api_endpoint)
        if not _ENDPOINT.fullmatch(endpoint := endpoint.strip()):
            given = repr(endpoint) if endpoint else "missing"
            raise ConfigError(
                f"the endpoint is {given}; give its id, or projects/PROJECT/locations/LOCATION/endpoints/ID"
            )
        super().__init__(EndpointTransport(session, endpoint, timeout_s))


def list_endpoints(project: str, location: str, *, api_endpoint: str | None = None) -> list[tuple[str, str]]:
    """The endpoints of a project in a location: each one's id, and the name that it shows.

    Raises:
        ConfigError: the project or the location is missing.
        VertexError: they cannot be listed; the message says what to do.
    """
    session = _session(project, location, api_endpoint)
    client = session.client("EndpointServiceClient")
    with translated(f"location {location} of project {project}"):
        found = client.list_endpoints(parent=session.parent, retry=None, timeout=CONNECT_S)
        return sorted(
            ((one.name.rpartition("/")[2], one.display_name) for one in found), key=lambda pair: (pair[1], pair[0])
        )


class EndpointTransport:
    """The way to an endpoint, through the SDK."""

    def __init__(self, session: Session, endpoint: str, timeout_s: float) -> None:
        self.subject = f"endpoint {endpoint} in {session.location} of project {session.project}"
        self._session = session
        self._id = endpoint
        self._timeout_s = timeout_s
        self._endpoint: Any = None  # the SDK's
        self._known = False
        self._name = endpoint
        self._dedicated = True
        self._connecting = threading.Lock()

    def connect(self) -> None:
        """Look the endpoint up, unless it is known."""
        with self._connecting:
            if self._known:
                return
            sdk = self._session.sdk()
            with translated(self.subject):
                endpoint = sdk.Endpoint(self._id, project=self._session.project, location=self._session.location)
                # The SDK itself would ask for two minutes before it says that nothing answers.
                found = endpoint.api_client.get_endpoint(
                    name=f"{self._session.parent}/endpoints/{self._id}", retry=None, timeout=CONNECT_S
                )
                if not found.deployed_models:
                    raise NothingDeployedError(
                        f"{self.subject} has no model deployed; deploy one with `python -m gpt.vertex.deploy`"
                    )
                self._dedicated = bool(endpoint.dedicated_endpoint_enabled)
            self._name, self._endpoint, self._known = found.display_name or self._id, endpoint, True

    def forget(self) -> None:
        """Look it up again before the next request."""
        self._known = False

    def streams(self) -> bool:
        """Whether it is a dedicated one."""
        return self._dedicated

    def lines(self, body: bytes) -> Generator[bytes, None, None]:
        """The lines of the answer as they come."""
        headers = {"Content-Type": "application/json"}
        with (
            translated(self.subject),
            contextlib.closing(
                self._endpoint.stream_raw_predict(body=body, headers=headers, timeout=self._timeout_s)
            ) as lines,
        ):
            yield from lines

    def predict(self, call: Mapping[str, Any]) -> object:
        """The prediction in one piece."""
        with translated(self.subject):
            answer = self._endpoint.predict(
                instances=call["instances"], parameters=call["parameters"], timeout=self._timeout_s
            )
        if not answer.predictions:
            raise ModelError(f"{self.subject} answered without a prediction; see what runs there")
        return answer.predictions[0]

    def info(self) -> BackendInfo:
        """The endpoint's name, and where it is."""
        return BackendInfo("vertex", self._name, self._session.location + ("" if self._dedicated else ", no streaming"))


def _session(project: str, location: str, api_endpoint: str | None) -> Session:
    """The session, its project and location being there at all."""
    for name, value, example in (("project", project, "my-project-1"), ("location", location, "us-central1")):
        if not re.fullmatch(r"[a-z0-9][a-z0-9:.-]*", value.strip()):
            given = repr(value) if value.strip() else "missing"
            raise ConfigError(f"the {name} is {given}; give one such as {example}")
    return Session(project.strip(), location.strip(), api_endpoint)
