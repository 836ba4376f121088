"""Registry: one model of the Model Registry and its versions, each found again by an alias that says what it holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gpt.errors import ConfigError, ResourceNotFoundError
from gpt.vertex.faults import translated
from gpt.vertex.operation import TIMEOUT_S, finish, settle
from gpt.vertex.session import Session

LABELS = {"app": "gpt"}  # on everything that the command makes; it touches nothing else
DEFAULT_ALIAS = "default"
PORT, HEALTH_ROUTE, PREDICT_ROUTE = 8080, "/health", "/predict"


@dataclass(frozen=True)
class Version:
    """A registered version of the model.

    Attributes:
        name: full name of the model and "@" with the version's number, as deploying takes it.
        number: for example "2".
        is_default: whether it is the one that the model's bare name means.
        artifact_uri: the checkpoint's folder in the bucket.
        description: what it is, in words.
    """

    name: str
    number: str
    is_default: bool
    artifact_uri: str
    description: str


class Registry:
    """One model, which may not be there yet.

    Args:
        session: where.
        model: its identifier.
        show: given a line when something takes long.

    Raises:
        VertexError: there are no credentials. Every method raises its subclasses too.
    """

    def __init__(self, session: Session, model: str, show: Callable[[str], None]) -> None:
        self._client = session.client("ModelServiceClient")
        self._parent = session.parent
        self._name = f"{session.parent}/models/{model}"
        self._subject = f"model {model} in {session.location} of project {session.project}"
        self._model = model
        self._show = show

    def exists(self) -> bool:
        """Whether the model is there.

        Raises:
            ConfigError: it is, and was not made by this project.
        """
        found = self._get(self._name)
        if found is not None and any(found.labels.get(key) != value for key, value in LABELS.items()):
            raise ConfigError(f"the {self._subject} was not made by this command; choose another name with --name")
        return found is not None

    def find(self, alias: str) -> Version | None:
        """The version that has this alias, if there is one."""
        found = self._get(f"{self._name}@{alias}")
        return None if found is None else _version(found)

    def versions(self) -> list[Version]:
        """Every version, oldest first; none if the model is not there."""
        try:
            with translated(self._subject):
                request = {"name": self._name}
                found = [_version(one) for one in self._client.list_model_versions(request=request, timeout=TIMEOUT_S)]
        except ResourceNotFoundError:
            return []
        return sorted(found, key=lambda version: int(version.number))

    def register(self, alias: str, artifact_uri: str, image: str, description: str) -> None:
        """Make a version, and the model if it is the first.

        Args:
            alias: to find it again; the version becomes the default one too.
            artifact_uri: the checkpoint's folder in the bucket.
            image: address of the serving image.
            description: what it is, in words.
        """
        request: dict[str, Any] = {
            "parent": self._parent,
            "model": {
                "display_name": self._model,
                "version_aliases": [alias, DEFAULT_ALIAS],
                "version_description": description,
                "labels": LABELS,
                "artifact_uri": artifact_uri,
                "container_spec": {
                    "image_uri": image,
                    "ports": [{"container_port": PORT}],
                    "health_route": HEALTH_ROUTE,
                    "predict_route": PREDICT_ROUTE,
                },
            },
        }
        request |= {"parent_model": self._name} if self.exists() else {"model_id": self._model}
        with translated(self._subject):
            operation = self._client.upload_model(request=request, timeout=TIMEOUT_S)
        finish(self._client, operation.operation.name, f"registering the {self._subject}", self._show)

    def make_default(self, version: Version) -> None:
        """Let the model's bare name mean this version."""
        with translated(self._subject):
            request = {"name": version.name, "version_aliases": [DEFAULT_ALIAS]}
            self._client.merge_version_aliases(request=request, timeout=TIMEOUT_S)

    def settle(self) -> None:
        """Wait for what an interrupted command began."""
        settle(self._client, self._name, f"the {self._subject}", self._show)

    def delete(self) -> None:
        """Delete the model with all versions."""
        with translated(self._subject):
            operation = self._client.delete_model(request={"name": self._name}, timeout=TIMEOUT_S)
        finish(self._client, operation.operation.name, f"deleting the {self._subject}", self._show)

    def _get(self, name: str) -> Any:
        try:
            with translated(self._subject):
                return self._client.get_model(request={"name": name}, timeout=TIMEOUT_S)
        except ResourceNotFoundError:
            return None


def _version(resource: Any) -> Version:
    name = resource.name.partition("@")[0]
    return Version(
        f"{name}@{resource.version_id}",
        resource.version_id,
        DEFAULT_ALIAS in resource.version_aliases,
        resource.artifact_uri,
        resource.version_description,
    )
