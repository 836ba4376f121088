"""Session: a project and a location of Vertex AI, and the SDK that reaches them.

The SDK takes seconds and hundreds of megabytes to import, so it is imported when a session is first used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpt.errors import ConfigError
from gpt.vertex.faults import translated

PROJECT_VARIABLE = "GOOGLE_CLOUD_PROJECT"
LOCATION_VARIABLE = "GOOGLE_CLOUD_LOCATION"
ENDPOINT_VARIABLE = "VERTEX_API_ENDPOINT"


@dataclass(frozen=True)
class Session:
    """Where requests go.

    Attributes:
        project: its id.
        location: such as us-central1.
        api_endpoint: of a rehearsal, such as http://127.0.0.1:8800, which is then reached over REST; None for the
            location's own.
    """

    project: str
    location: str
    api_endpoint: str | None = None

    @classmethod
    def from_options(cls, project: str | None, location: str | None, environment: Mapping[str, str]) -> Session:
        """What the options say, and the environment where they say nothing.

        Raises:
            ConfigError: the project or the location is missing.
        """
        project = project or environment.get(PROJECT_VARIABLE)
        location = location or environment.get(LOCATION_VARIABLE)
        if not project:
            raise ConfigError(
                f"the project is not given; name a Google Cloud project with --project or {PROJECT_VARIABLE}"
            )
        if not location:
            raise ConfigError(
                f"the location is not given; name one such as us-central1 with --location or {LOCATION_VARIABLE}"
            )
        return cls(project, location, environment.get(ENDPOINT_VARIABLE) or None)

    @property
    def parent(self) -> str:
        """The name that everything of this project in this location begins with."""
        return f"projects/{self.project}/locations/{self.location}"

    def sdk(self) -> Any:
        """The module google.cloud.aiplatform, made ready for this session.

        Raises:
            VertexError: there are no credentials, or the location is none.
        """
        with translated(self._place):
            from google.cloud import aiplatform

            own = {"api_endpoint": self.api_endpoint, "api_transport": "rest"} if self.api_endpoint else {}
            aiplatform.init(project=self.project, location=self.location, **own)
            return aiplatform

    def client(self, name: str) -> Any:
        """A client of one of the SDK's services, such as "JobServiceClient".

        Raises:
            VertexError: there are no credentials.
        """
        with translated(self._place):
            from google.cloud import aiplatform_v1

            kind = getattr(aiplatform_v1, name)
            if self.api_endpoint:
                return kind(client_options={"api_endpoint": self.api_endpoint}, transport="rest")
            return kind(client_options={"api_endpoint": f"{self.location}-aiplatform.googleapis.com"})

    @property
    def _place(self) -> str:
        return f"location {self.location} of project {self.project}"
