"""Endpoint: the dedicated endpoint that serves a model, with what is deployed to it and where its traffic goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gpt.errors import ConfigError, ResourceNotFoundError
from gpt.vertex.faults import translated
from gpt.vertex.machine import Machine
from gpt.vertex.operation import TIMEOUT_S, finish, settle
from gpt.vertex.registry import LABELS, Version
from gpt.vertex.session import Session

INFERENCE_TIMEOUT_S = 600  # of a request, streamed or not; the service allows an hour at most


@dataclass(frozen=True)
class Deployed:
    """A model on the endpoint.

    Attributes:
        id: its identifier on the endpoint.
        model: the model's identifier.
        version: the version's number.
        machine: what it runs on.
        traffic: percentage of the requests that it answers.
        created: when, ISO 8601.
    """

    id: str
    model: str
    version: str
    machine: Machine
    traffic: int
    created: str


@dataclass(frozen=True)
class EndpointState:
    """An endpoint as it is now.

    Attributes:
        id: the last part of its name.
        dedicated: whether it has a name of its own in the network.
        own: whether this project's command made it.
        deployed: the models, oldest first.
    """

    id: str
    dedicated: bool
    own: bool
    deployed: tuple[Deployed, ...]


class Endpoint:
    """One endpoint, which may not be there yet.

    Args:
        session: where.
        endpoint: its identifier.
        show: given a line when something takes long.

    Raises:
        VertexError: there are no credentials. Every method raises its subclasses too.
    """

    def __init__(self, session: Session, endpoint: str, show: Callable[[str], None]) -> None:
        self._client = session.client("EndpointServiceClient")
        self._session = session
        self._endpoint = endpoint
        self._name = f"{session.parent}/endpoints/{endpoint}"
        self._subject = f"endpoint {endpoint} in {session.location} of project {session.project}"
        self._show = show

    def state(self) -> EndpointState | None:
        """How it is; None if it is not there.

        Raises:
            ConfigError: it was not made by this project, or has no name of its own.
        """
        try:
            with translated(self._subject):
                state = _state(self._client.get_endpoint(request={"name": self._name}, timeout=TIMEOUT_S))
        except ResourceNotFoundError:
            return None
        if not state.own:
            raise ConfigError(f"the {self._subject} was not made by this command; choose another name with --name")
        if not state.dedicated:
            raise ConfigError(f"the {self._subject} is a shared one; choose another name with --name, or delete it")
        return state

    def create(self) -> None:
        """Make it."""
        request = {
            "parent": self._session.parent,
            "endpoint_id": self._endpoint,
            "endpoint": {
                "display_name": self._endpoint,
                "labels": LABELS,
                "dedicated_endpoint_enabled": True,
                "client_connection_config": {"inference_timeout": {"seconds": INFERENCE_TIMEOUT_S}},
            },
        }
        with translated(self._subject):
            operation = self._client.create_endpoint(request=request, timeout=TIMEOUT_S)
        finish(self._client, operation.operation.name, f"making the {self._subject}", self._show)

    def deploy(self, version: Version, machine: Machine) -> None:
        """Start machines for a version; it gets the traffic only where nothing else is deployed.

        Once the service has accepted this, the machines cost money, whether somebody waits for them or not.
        """
        state = self.state()
        request: dict[str, Any] = {
            "endpoint": self._name,
            "deployed_model": {
                "model": version.name,
                "display_name": f"{self._endpoint}-{version.number}",
                "dedicated_resources": machine.to_resources(),
            },
        }
        if state is not None and not state.deployed:
            request["traffic_split"] = {"0": 100}  # "0" stands for the one that is being deployed
        with translated(self._subject):
            operation = self._client.deploy_model(request=request, timeout=TIMEOUT_S)
        what = f"deploying version {version.number} to {machine} at the {self._subject}"
        finish(self._client, operation.operation.name, what, self._show)

    def move_traffic(self, deployed_id: str) -> None:
        """Send every request to one of the deployed models."""
        with translated(self._subject):
            self._client.update_endpoint(
                request={
                    "endpoint": {"name": self._name, "traffic_split": {deployed_id: 100}},
                    "update_mask": {"paths": ["traffic_split"]},
                },
                timeout=TIMEOUT_S,
            )

    def undeploy(self, deployed: Deployed) -> None:
        """Stop the machines of a deployed model that gets no traffic, or is the last one."""
        with translated(self._subject):
            request = {"endpoint": self._name, "deployed_model_id": deployed.id}
            operation = self._client.undeploy_model(request=request, timeout=TIMEOUT_S)
        what = f"undeploying version {deployed.version} from the {self._subject}"
        finish(self._client, operation.operation.name, what, self._show)

    def settle(self) -> None:
        """Wait for what an interrupted command began."""
        settle(self._client, self._name, f"the {self._subject}", self._show)

    def delete(self) -> None:
        """Delete it; nothing may be deployed."""
        with translated(self._subject):
            operation = self._client.delete_endpoint(request={"name": self._name}, timeout=TIMEOUT_S)
        finish(self._client, operation.operation.name, f"deleting the {self._subject}", self._show)


def list_endpoints(session: Session) -> list[EndpointState]:
    """Every endpoint of this project and location that this command made, by identifier.

    Raises:
        VertexError: they cannot be listed.
    """
    client = session.client("EndpointServiceClient")
    terms = " AND ".join(f'labels.{key}="{value}"' for key, value in LABELS.items())
    with translated(f"location {session.location} of project {session.project}"):
        request = {"parent": session.parent, "filter": terms}
        found = [_state(resource) for resource in client.list_endpoints(request=request, timeout=TIMEOUT_S)]
    return sorted(found, key=lambda state: state.id)


def _state(resource: Any) -> EndpointState:
    """What the service says of an endpoint, without the SDK's types."""
    deployed = [
        Deployed(
            one.id,
            one.model.rpartition("/")[2].partition("@")[0],
            one.model_version_id,
            Machine.from_resources(one.dedicated_resources),
            resource.traffic_split.get(one.id, 0),
            one.create_time.isoformat(timespec="seconds") if one.create_time else "",
        )
        for one in resource.deployed_models
    ]
    return EndpointState(
        resource.name.rpartition("/")[2],
        resource.dedicated_endpoint_enabled,
        all(resource.labels.get(key) == value for key, value in LABELS.items()),
        tuple(sorted(deployed, key=lambda one: one.created)),
    )
