"""Removal: what is taken down when an endpoint shall no longer serve, or shall no longer be."""

from __future__ import annotations

from collections.abc import Callable

from gpt.errors import ResourceNotFoundError
from gpt.vertex.bucket import Storage, join
from gpt.vertex.endpoint import Deployed, Endpoint, EndpointState
from gpt.vertex.registry import Registry, Version
from gpt.vertex.session import Session


class Removal:
    """What is there of one name, and its end.

    Args:
        session: project and location.
        name: identifier of model and endpoint.
        show: given a line at each step.

    Raises:
        VertexError: there are no credentials, or something cannot be looked at.
        ConfigError: model or endpoint were not made by this project.
        ResourceNotFoundError: there is neither.
    """

    def __init__(self, session: Session, name: str, show: Callable[[str], None]) -> None:
        session.sdk()
        self._session = session
        self._name = name
        self._show = show
        self._endpoint = Endpoint(session, name, show)
        self._registry = Registry(session, name, show)
        self._endpoint.settle()  # what is being deployed could not be undeployed
        self._state: EndpointState | None = self._endpoint.state()
        self.versions: list[Version] = self._registry.versions() if self._registry.exists() else []
        if self._state is None and not self.versions:
            raise ResourceNotFoundError(
                f"there is no endpoint and no model {name} in {session.location} of project {session.project}; "
                "`python -m gpt.vertex.deploy list` shows what there is"
            )

    @property
    def deployed(self) -> tuple[Deployed, ...]:
        """What runs, and costs money."""
        return self._state.deployed if self._state is not None else ()

    @property
    def has_endpoint(self) -> bool:
        """Whether there is an endpoint."""
        return self._state is not None

    def undeploy(self) -> None:
        """Stop all machines. The endpoint stays, with its name, and costs nothing."""
        order = sorted(self.deployed, key=lambda one: one.traffic)
        # One that is asked cannot be undeployed while others are there.
        if len(order) > 1 and order[-1].traffic < 100:
            self._endpoint.move_traffic(order[-1].id)
        for one in order:
            self._show(f"undeploying version {one.version} from {one.machine}")
            self._endpoint.undeploy(one)

    def delete(self, files: bool) -> None:
        """Undeploy, and delete the endpoint, the model, and the files of its versions in the bucket if `files` says so.

        What is deleted already is no error, so that an interrupted deletion can be run again.
        """
        self.undeploy()
        if self.has_endpoint:
            self._show(f"deleting the endpoint {self._name}")
            self._endpoint.delete()
        if files:
            storage = Storage(self._session.project)
            for address in sorted({version.artifact_uri for version in self.versions if version.artifact_uri}):
                self._show(f"deleting {address}")
                for path in storage.list(address):
                    storage.delete(join(address, path))
        if self.versions:  # last, because it knows where the files are
            self._show(f"deleting the model {self._name}")
            self._registry.delete()
