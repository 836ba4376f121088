"""The Model Registry: models with versions and aliases."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

from starlette.routing import Route

from tests.emulator.call import Call, Resource, now, route
from tests.emulator.google_error import GoogleError, not_found
from tests.emulator.listing import listing
from tests.emulator.operations import Operations

Versions = dict[str, Resource]


class Models:
    """The models of every location: full name -> version id -> resource."""

    def __init__(self, operations: Operations) -> None:
        self.versions: dict[str, Versions] = {}
        self.is_deployed: Callable[[str, str | None], bool] = lambda model, version: False
        self._operations = operations
        self._numbers = itertools.count(1001)
        self._reserved: set[str] = set()

    def routes(self) -> list[Route]:
        return [
            route("POST", "models:upload", self._upload),
            route("GET", "models", self._list),
            route("GET", "models/{model}:listVersions", self._list_versions),
            route("POST", "models/{model}:mergeVersionAliases", self._merge_aliases),
            route("DELETE", "models/{model}:deleteVersion", self._delete_version),
            route("GET", "models/{model}", self._get),
            route("PATCH", "models/{model}", self._update),
            route("DELETE", "models/{model}", self._delete),
        ]

    def clear(self) -> None:
        """Forget every model."""
        self.versions.clear()
        self._reserved.clear()

    def find(self, name: str) -> Resource:
        """The version that projects/P/locations/L/models/M, with or without @VERSION or @ALIAS, names.

        Raises:
            GoogleError: there is none.
        """
        model, _, version = name.partition("@")
        for resource in self.versions.get(model, {}).values():
            if (version or "default") in (resource["versionId"], *resource["versionAliases"]):
                return resource
        raise not_found(name)

    def _name(self, call: Call) -> str:
        return f"{call.parent}/models/{call.ids['model']}"

    def _upload(self, call: Call) -> Resource:
        model = call.body["model"]
        if not model.get("displayName"):
            raise GoogleError(400, "Required field model.display_name is not set.")
        if "containerSpec" in model and not model["containerSpec"].get("imageUri"):
            raise GoogleError(400, "Required field model.container_spec.image_uri is not set.")
        if call.body.get("parentModel"):
            name = f"{call.parent}/models/{call.body['parentModel'].rpartition('/')[2].partition('@')[0]}"
            if name not in self.versions:
                raise not_found(name)
        else:
            identifier = call.body.get("modelId") or str(next(self._numbers))
            if call.body.get("modelId") and not re.fullmatch(r"[a-z_][a-z0-9_-]{0,62}", identifier):
                raise GoogleError(400, f"Invalid model_id: {identifier}")
            name = f"{call.parent}/models/{identifier}"
            if name in self.versions or name in self._reserved:
                raise GoogleError(409, f"Model {name} already exists.")
            self._reserved.add(name)

        def ended() -> None:
            self._reserved.discard(name)

        def register() -> Resource:
            versions = self.versions.setdefault(name, {})
            number, moment = str(len(versions) + 1), now()
            while number in versions:  # a version in between was deleted
                number = str(int(number) + 1)
            aliases = [alias for alias in model.get("versionAliases", []) if alias != "default"]
            for other in versions.values():
                other["versionAliases"] = [alias for alias in other["versionAliases"] if alias not in aliases]
            versions[number] = {
                **model,
                "name": name,
                "versionId": number,
                "versionAliases": aliases,
                "versionCreateTime": moment,
                "versionUpdateTime": moment,
                "createTime": next(iter(versions.values()))["createTime"] if versions else moment,
                "updateTime": moment,
                "supportedDeploymentResourcesTypes": ["DEDICATED_RESOURCES"],
                "etag": "1",
            }
            if len(versions) == 1 or "default" in model.get("versionAliases", []):
                _make_default(versions, number)
            return {"model": name, "modelVersionId": number}

        return self._operations.begin(name, "UploadModel", register, "UploadModelResponse", ended)

    def _get(self, call: Call) -> Resource:
        return self.find(self._name(call))

    def _list(self, call: Call) -> Resource:
        here = [name for name in self.versions if name.startswith(f"{call.parent}/")]
        return listing(call, "models", [self.find(name) for name in here])

    def _list_versions(self, call: Call) -> Resource:
        name = self._name(call).partition("@")[0]
        if name not in self.versions:
            raise not_found(name)
        return listing(call, "models", self.versions[name].values())

    def _update(self, call: Call) -> Resource:
        found = self.find(self._name(call))
        for field in call.query.get("updateMask", "").split(","):
            if field in call.body:
                found[field] = call.body[field]
        found["updateTime"] = now()
        return found

    def _merge_aliases(self, call: Call) -> Resource:
        """Add aliases; one with a minus before it is taken away."""
        found = self.find(self._name(call))
        for alias in call.body["versionAliases"]:
            if alias == "default":
                _make_default(self.versions[found["name"]], found["versionId"])
                continue
            for other in self.versions[found["name"]].values():
                aliases = other["versionAliases"]
                other["versionAliases"] = [known for known in aliases if known != alias.removeprefix("-")]
            if not alias.startswith("-"):
                found["versionAliases"].append(alias)
        return found

    def _delete_version(self, call: Call) -> Resource:
        found = self.find(self._name(call))
        name, version = found["name"], found["versionId"]
        if len(self.versions[name]) == 1:
            raise GoogleError(400, "Cannot delete the only version of a model; delete the model.")
        if "default" in found["versionAliases"]:
            raise GoogleError(400, f"Cannot delete the default version {version} of {name}.")
        self._refuse_if_deployed(name, version)

        def delete() -> Resource:
            del self.versions[name][version]
            return {}

        return self._operations.begin(name, "DeleteModelVersion", delete)

    def _delete(self, call: Call) -> Resource:
        name = self.find(self._name(call))["name"]
        self._refuse_if_deployed(name, None)

        def delete() -> Resource:
            self.versions.pop(name, None)
            return {}

        return self._operations.begin(name, "DeleteModel", delete)

    def _refuse_if_deployed(self, name: str, version: str | None) -> None:
        if self.is_deployed(name, version):
            raise GoogleError(400, f"The Model {name} is deployed on an endpoint; undeploy it first.")


def _make_default(versions: Versions, number: str) -> None:
    for version in versions.values():
        version["versionAliases"] = [alias for alias in version["versionAliases"] if alias != "default"]
    versions[number]["versionAliases"].append("default")
