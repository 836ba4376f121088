"""Endpoints: what serves models, with traffic split between the deployed ones, each a Container."""

from __future__ import annotations

import asyncio
import itertools
import random
import re
from collections.abc import Callable
from typing import Any

from starlette.routing import Route

from tests.emulator.call import PROJECT, PROJECT_NUMBER, Call, Resource, now, route
from tests.emulator.container import Container
from tests.emulator.google_error import GoogleError, not_found
from tests.emulator.listing import listing
from tests.emulator.models import Models
from tests.emulator.operations import Operations


class Endpoints:
    """The endpoints of every location, by full name.

    Args:
        models: where the deployed models come from.
        operations: where what takes long is kept.
        start: starts the container of a model, given the model and the variables of its environment.
        health_timeout_s: how long a container may take to become healthy.
    """

    def __init__(
        self,
        models: Models,
        operations: Operations,
        start: Callable[[Resource, dict[str, str], str], Container],
        health_timeout_s: float,
    ) -> None:
        self.endpoints: dict[str, Resource] = {}
        self.containers: dict[str, Container] = {}  # by the deployed model's id
        self.late_requests = 0  # so many still go where they went before the traffic was moved
        self.dedicated_dns = ""  # set once the server with TLS has its port
        self._models = models
        models.is_deployed = self._is_deployed
        self._operations = operations
        self._start = start
        self._health_timeout_s = health_timeout_s
        self._numbers = itertools.count(5001)
        self._reserved: set[str] = set()
        self._earlier: dict[str, dict[str, Any]] = {}  # the traffic before it was moved last, by the endpoint's name

    def routes(self) -> list[Route]:
        return [
            route("POST", "endpoints", self._create),
            route("GET", "endpoints", self._list),
            route("POST", "endpoints/{endpoint}:deployModel", self._deploy),
            route("POST", "endpoints/{endpoint}:undeployModel", self._undeploy),
            route("GET", "endpoints/{endpoint}", lambda call: self.find(self._name(call))),
            route("PATCH", "endpoints/{endpoint}", self._update),
            route("DELETE", "endpoints/{endpoint}", self._delete),
        ]

    def find(self, name: str) -> Resource:
        """The endpoint of this full name; GoogleError if there is none."""
        if name not in self.endpoints:
            raise not_found(name)
        return self.endpoints[name]

    def choose(self, endpoint: Resource) -> Resource:
        """The deployed model that answers the next request, by the traffic split."""
        split = endpoint["trafficSplit"]
        if self.late_requests and endpoint["name"] in self._earlier:
            self.late_requests -= 1
            split = self._earlier[endpoint["name"]]
        if not split:
            raise GoogleError(400, f"No model is deployed to endpoint {endpoint['name']}.", "FAILED_PRECONDITION")
        chosen = random.choices(list(split), [int(share) for share in split.values()])[0]
        found: Resource = next(deployed for deployed in endpoint["deployedModels"] if deployed["id"] == chosen)
        return found

    def kill(self, endpoint: str = "") -> None:
        """Kill the predictors of an endpoint, named by its id, or of all, as machines that fail."""
        for name, resource in self.endpoints.items():
            if not endpoint or name.endswith(f"/{endpoint}"):
                for deployed in resource["deployedModels"]:
                    self.containers[deployed["id"]].kill()

    def clear(self) -> None:
        """Forget every endpoint, and stop every container, also those that are not healthy yet."""
        for container in self.containers.values():
            container.stop()
        self.containers.clear()
        self.endpoints.clear()
        self.late_requests = 0
        self._earlier.clear()
        self._reserved.clear()

    def _name(self, call: Call) -> str:
        return f"{call.parent}/endpoints/{call.ids['endpoint']}"

    def _is_deployed(self, model: str, version: str | None) -> bool:
        return any(
            deployed["model"] == model and version in (None, deployed["modelVersionId"])
            for endpoint in self.endpoints.values()
            for deployed in endpoint["deployedModels"]
        )

    def _create(self, call: Call) -> Resource:
        if not call.body.get("displayName"):
            raise GoogleError(400, "Required field endpoint.display_name is not set.")
        identifier = call.query.get("endpointId") or str(next(self._numbers))
        if not re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?|[1-9][0-9]{0,8}|0", identifier):
            raise GoogleError(400, f"Invalid endpoint_id: {identifier}")
        name = f"{call.parent}/endpoints/{identifier}"
        if name in self.endpoints or name in self._reserved:
            raise GoogleError(409, f"Endpoint {name} already exists.")
        self._reserved.add(name)

        def ended() -> None:
            self._reserved.discard(name)

        def create() -> Resource:
            moment = now()
            endpoint = {"deployedModels": [], "trafficSplit": {}, **call.body}
            endpoint |= {"name": name, "createTime": moment, "updateTime": moment, "etag": "1"}
            if endpoint.get("dedicatedEndpointEnabled"):
                endpoint["dedicatedEndpointDns"] = self.dedicated_dns
            self.endpoints[name] = endpoint
            return endpoint

        return self._operations.begin(name, "CreateEndpoint", create, "Endpoint", ended)

    def _list(self, call: Call) -> Resource:
        here = [endpoint for name, endpoint in self.endpoints.items() if name.startswith(f"{call.parent}/")]
        return listing(call, "endpoints", here)

    def _update(self, call: Call) -> Resource:
        endpoint = self.find(self._name(call))
        for field in call.query.get("updateMask", "").split(","):
            camel = re.sub(r"_(\w)", lambda letter: letter[1].upper(), field)
            if camel == "trafficSplit":
                self._earlier[endpoint["name"]] = endpoint["trafficSplit"]
                _check_split(call.body.get(camel, {}), {deployed["id"] for deployed in endpoint["deployedModels"]})
            endpoint[camel] = call.body.get(camel, {} if camel in ("labels", "trafficSplit") else "")
        endpoint["updateTime"] = now()
        return endpoint

    def _delete(self, call: Call) -> Resource:
        endpoint = self.find(self._name(call))
        if endpoint["deployedModels"]:
            raise GoogleError(
                400, f"Endpoint {endpoint['name']} has deployed or being-deployed models.", "FAILED_PRECONDITION"
            )

        def delete() -> Resource:
            del self.endpoints[endpoint["name"]]
            return {}

        return self._operations.begin(endpoint["name"], "DeleteEndpoint", delete)

    def _deploy(self, call: Call) -> Resource:
        endpoint = self.find(self._name(call))
        deployed = dict(call.body["deployedModel"])
        model = self._models.find(_with_number(deployed["model"]))
        resources = deployed.get("dedicatedResources")
        if not resources or not resources.get("machineSpec", {}).get("machineType"):
            raise GoogleError(400, "dedicated_resources.machine_spec.machine_type is required.")
        identifier = str(next(self._numbers))
        split = {identifier if key == "0" else key: share for key, share in call.body.get("trafficSplit", {}).items()}
        _check_split(split, {identifier, *(other["id"] for other in endpoint["deployedModels"])})

        async def deploy() -> Resource:
            environment = {
                "AIP_ENDPOINT_ID": endpoint["name"].rpartition("/")[2],
                "AIP_DEPLOYED_MODEL_ID": identifier,
                "AIP_PROJECT_NUMBER": PROJECT_NUMBER,
                "AIP_MACHINE_TYPE": resources["machineSpec"]["machineType"],
            }
            default_route = f"/v1/endpoints/{environment['AIP_ENDPOINT_ID']}/deployedModels/{identifier}"
            container = self.containers[identifier] = self._start(model, environment, default_route)
            try:
                await container.healthy(self._health_timeout_s)
            except GoogleError:
                await asyncio.to_thread(container.stop)
                del self.containers[identifier]
                raise
            entry = {
                **deployed,
                "id": identifier,
                "model": model["name"],
                "modelVersionId": model["versionId"],
                "displayName": deployed.get("displayName") or model["displayName"],
                "createTime": now(),
            }
            endpoint["deployedModels"].append(entry)
            if split:
                endpoint["trafficSplit"] = split
            return {"deployedModel": entry}

        return self._operations.begin(endpoint["name"], "DeployModel", deploy, "DeployModelResponse")

    def _undeploy(self, call: Call) -> Resource:
        endpoint = self.find(self._name(call))
        identifier = call.body["deployedModelId"]
        others = {deployed["id"] for deployed in endpoint["deployedModels"]} - {identifier}
        if identifier not in (deployed["id"] for deployed in endpoint["deployedModels"]):
            raise not_found(f"{endpoint['name']}/deployedModels/{identifier}")
        given: dict[str, Any] | None = call.body.get("trafficSplit")
        split = endpoint["trafficSplit"] if given is None else given
        if int(split.get(identifier, 0)) and others:
            raise GoogleError(400, f"Traffic split of deployed model {identifier} must be 0 before it is undeployed.")
        remaining = {key: share for key, share in split.items() if key in others and int(share)}
        _check_split(remaining, others)

        async def undeploy() -> Resource:
            endpoint["trafficSplit"] = remaining
            endpoint["deployedModels"] = [one for one in endpoint["deployedModels"] if one["id"] != identifier]
            container = self.containers.pop(identifier, None)
            if container is not None:
                await asyncio.to_thread(container.stop)
            return {}

        return self._operations.begin(endpoint["name"], "UndeployModel", undeploy, "UndeployModelResponse")


def _with_number(name: str) -> str:
    return name.replace(f"projects/{PROJECT}/", f"projects/{PROJECT_NUMBER}/", 1)


def _check_split(split: dict[str, Any], known: set[str]) -> None:
    if split and (sum(int(share) for share in split.values()) != 100 or not set(split) <= known):
        raise GoogleError(400, f"Traffic split {split} must sum to 100 over the deployed models.")
