"""Endpoints of the emulator with a model deployed, made with the SDK alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt.vertex.bucket import Storage, join
from gpt.vertex.session import Session
from tests.emulator.call import PROJECT
from tests.emulator.emulator import BUCKET, LOCATION

if TYPE_CHECKING:
    from tests.emulator.emulator import Emulator


def sdk(emulator: Emulator) -> Any:
    """The SDK, told that the emulator is the cloud."""
    return Session(PROJECT, LOCATION, emulator.url).sdk()


def create_endpoint(emulator: Emulator, name: str, *, dedicated: bool = True) -> Any:
    """An endpoint with nothing deployed."""
    return sdk(emulator).Endpoint.create(display_name=name, dedicated_endpoint_enabled=dedicated)


def deploy(emulator: Emulator, checkpoint: Path, *endpoints: Any) -> None:
    """Deploy a checkpoint of this machine, by way of the bucket."""
    address = join(f"gs://{BUCKET}", checkpoint.name)
    Storage().upload_folder(checkpoint, address)
    model = sdk(emulator).Model.upload(
        display_name=checkpoint.name, artifact_uri=address, serving_container_image_uri="rehearsal/serve:1"
    )
    for endpoint in endpoints:
        endpoint.deploy(model, machine_type="n1-standard-2", traffic_percentage=100)
