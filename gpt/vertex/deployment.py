"""Deployment: a checkpoint on its way to an endpoint, step by step, each of which looks first whether it is done.

Nothing is remembered between two runs: what is there says how far an earlier one came. Bucket folders and versions
are named after what they hold, model and endpoint by the user, so a step that was interrupted is found again.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Any

from gpt.byte_size import byte_size
from gpt.errors import (
    GPTError,
    ModelError,
    NothingDeployedError,
    ResourceNotFoundError,
    ServiceUnavailableError,
    VertexTimeoutError,
)
from gpt.tokenizer import load_tokenizer
from gpt.vertex.artifact import Artifact
from gpt.vertex.bucket import Storage, split
from gpt.vertex.endpoint import Deployed, Endpoint, EndpointState
from gpt.vertex.faults import translated
from gpt.vertex.machine import Machine
from gpt.vertex.registry import Registry, Version
from gpt.vertex.session import Session

ANSWER_S = 60
# Before a new deployment is asked again: its name must spread in the network, the traffic be moved.
PAUSES_S = (1, 2, 4, 8, 16, 32, 32)
NOT_YET = (NothingDeployedError, ResourceNotFoundError, ServiceUnavailableError, VertexTimeoutError)


class Deployment:
    """What shall be so: this checkpoint, served by this image, on these machines, at this endpoint.

    Args:
        session: project and location.
        artifact: the checkpoint.
        bucket: gs://bucket or a folder in it.
        name: identifier of model and endpoint.
        image: address of the serving image.
        machine: what it shall run on.
        show: given a line at each step.

    Raises:
        VertexError: there are no credentials, or the location is none.
    """

    def __init__(
        self,
        session: Session,
        artifact: Artifact,
        bucket: str,
        name: str,
        image: str,
        machine: Machine,
        show: Callable[[str], None],
    ) -> None:
        session.sdk()
        self._session = session
        self._artifact = artifact
        self._bucket = bucket
        self._name = name
        self._image = image
        self._machine = machine
        self._show = show
        self._storage = Storage(session.project)
        self._registry = Registry(session, name, show)
        self._endpoint = Endpoint(session, name, show)
        content = f"{artifact.address} {image}".encode()
        self._alias = f"content-{hashlib.sha256(content).hexdigest()[:16]}"

    def plan(self, create_bucket: bool = False) -> list[str]:
        """What `execute` would do, a sentence a step. Nothing is changed.

        Raises:
            VertexError: something cannot be looked at, or the bucket is not there.
        """
        version, state = self._version(), self._endpoint.state()
        size = byte_size(self._artifact.size_bytes)
        lines = []
        if not self._has_bucket(create_bucket):
            lines += [f"make the bucket {self._bucket}", f"upload the checkpoint, {size}, to {self._artifact.address}"]
        elif missing := self._artifact.missing(self._storage):
            lines.append(f"upload {len(missing)} files of the checkpoint, {size} in all, to {self._artifact.address}")
        else:
            lines.append(f"nothing to upload: {self._artifact.address} has the checkpoint")
        if version is None:
            new = "a new version of the model" if self._registry.exists() else "the model"
            lines.append(f"register {new} {self._name}")
        else:
            lines.append(f"nothing to register: it is version {version.number} of the model {self._name}")
        if state is None:
            lines.append(f"make the dedicated endpoint {self._name}")
        deployed = self._deployed(state, version)
        if deployed is None:
            lines.append(f"deploy it to {self._machine}, which then costs money until it is undeployed")
        else:
            lines.append(f"nothing to deploy: it runs on {deployed.machine}")
        old = [one for one in state.deployed if one != deployed] if state is not None else []
        if old and (deployed is None or deployed.traffic < 100):
            lines.append("move the traffic to it")
        lines.append("send it one request")
        return [*lines, *(f"undeploy version {one.version} from {one.machine}" for one in old)]

    def execute(self, create_bucket: bool = False) -> Deployed:
        """Do what is not done yet; what then serves.

        Raises:
            CheckpointError: the checkpoint changed in the meantime.
            ModelError: the new version does not answer; it is undeployed again, and an older one serves on.
            VertexError: a step failed. The steps before it stay done.
        """
        self._show(f"looking into {self._bucket}")
        if not self._has_bucket(create_bucket):
            self._show(f"making the bucket {self._bucket}")
            self._storage.create_bucket(self._bucket, self._session.location)
        if not self._artifact.upload(self._storage, self._show):
            self._show(f"{self._artifact.address} has the checkpoint already")
        self._registry.settle()
        version = self._register()
        self._endpoint.settle()
        state = self._endpoint.state()
        if state is None:
            self._show(f"making the endpoint {self._name}")
            self._endpoint.create()
            state = self._endpoint.state()
        before = self._deployed(state, version)
        if before is None:
            self._show(f"deploying version {version.number} to {self._machine}; this takes minutes")
            self._endpoint.deploy(version, self._machine)
            state = self._endpoint.state()
        else:
            self._show(f"version {version.number} runs on {before.machine} already")
        deployed = self._deployed(state, version)
        if state is None or deployed is None:
            raise ModelError(
                f"version {version.number} was deployed to the endpoint {self._name}, but is not there; "
                "see in the console who undeployed it, and run the command again"
            )
        old = [one for one in state.deployed if one != deployed]
        self._serve(deployed, old, served_before=before is not None and before.traffic == 100)
        for one in old:
            self._show(f"undeploying version {one.version} from {one.machine}")
            self._endpoint.undeploy(one)
        return deployed

    def _has_bucket(self, may_be_missing: bool) -> bool:
        try:
            self._storage.list(self._artifact.address)
        except ResourceNotFoundError as error:
            if may_be_missing:
                return False
            bucket, _ = split(self._bucket)
            raise ResourceNotFoundError(
                f"the bucket gs://{bucket} is not there; add --create-bucket, or make it with `gcloud storage buckets "
                f"create gs://{bucket} --project={self._session.project} --location={self._session.location}`"
            ) from error
        return True

    def _version(self) -> Version | None:
        """The version that is this checkpoint and image, if it is registered."""
        return self._registry.find(self._alias) if self._registry.exists() else None

    def _register(self) -> Version:
        version = self._version()
        if version is None:
            self._show(f"registering the model {self._name}")
            info = self._artifact.info
            description = f"{info.name}, {info.parameters:,} parameters, {info.tokenizer_kind} tokenizer"
            self._registry.register(self._alias, self._artifact.address, self._image, description)
            version = self._registry.find(self._alias)
            if version is None:
                raise ModelError(
                    f"the model {self._name} was registered, but is not there; "
                    "see in the console who deleted it, and run the command again"
                )
        else:
            self._show(f"it is version {version.number} of the model {self._name} already")
        if not version.is_default:
            self._registry.make_default(version)
        return version

    def _deployed(self, state: EndpointState | None, version: Version | None) -> Deployed | None:
        """The deployed model that is as it shall be; of several the one that answers, or else the newest."""
        if state is None or version is None:
            return None
        wanted = (self._name, version.number, self._machine)
        same = [one for one in state.deployed if (one.model, one.version, one.machine) == wanted]
        return max(same, key=lambda one: (one.traffic, one.created), default=None)

    def _serve(self, deployed: Deployed, old: list[Deployed], served_before: bool) -> None:
        """Send the traffic to what is deployed, and a request; take it back if that is not answered."""
        try:
            if deployed.traffic < 100:
                self._show(f"moving the traffic to version {deployed.version}")
                self._endpoint.move_traffic(deployed.id)
            self._show("sending one request")
            self._ask(deployed)
        except GPTError as error:
            if served_before:
                raise
            if before := max(old, key=lambda one: one.traffic, default=None):
                self._endpoint.move_traffic(before.id)
            self._endpoint.undeploy(deployed)
            serves = f"version {before.version} serves on" if before else "nothing is deployed now"
            raise ModelError(
                f"version {deployed.version} did not answer its first request ({error}); it is undeployed again, "
                f"and {serves}; the log of the endpoint in the console says more"
            ) from error

    def _ask(self, deployed: Deployed) -> None:
        """Have `deployed` write a few tokens."""
        tokenizer = load_tokenizer(self._artifact.info.folder)
        for pause_s in (*PAUSES_S, None):
            try:
                answer = self._predict(_prompt(tokenizer))
                if answer.deployed_model_id == deployed.id:
                    return
                raise ServiceUnavailableError(f"version {deployed.version} of {self._name} is not asked yet; wait")
            except NOT_YET:
                if pause_s is None:
                    raise
                time.sleep(pause_s)

    def _predict(self, prompt: str) -> Any:
        with translated(f"endpoint {self._name}"):
            endpoint = self._session.sdk().Endpoint(f"{self._session.parent}/endpoints/{self._name}")
            answer = endpoint.predict(
                instances=[{"prompt": prompt}], parameters={"max_new_tokens": 4, "temperature": 0}, timeout=ANSWER_S
            )
        if not (answer.predictions and isinstance(answer.predictions[0].get("text"), str)):
            raise ModelError(f"the endpoint {self._name} answers {answer.predictions!r}, which is no text")
        return answer


def _prompt(tokenizer: Any) -> str:
    """A text that the tokenizer knows, whatever its alphabet is."""
    for token_id in range(tokenizer.vocab_dim):
        text: str = tokenizer.decode([token_id])
        if "\ufffd" not in text and text.strip():
            return text
    return "\n"
