"""choose_device: the device that a command's --device names."""

from __future__ import annotations

import torch

from gpt.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """The torch device of this name; "auto" is CUDA where there is one, else the CPU.

    Raises:
        ConfigError: the name is no device, or there is none of that kind here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device is {name!r}; choose auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device is {name!r}; choose auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device is {name!r}, but torch finds {torch.cuda.device_count()} CUDA devices here; choose cpu or auto"
        )
    return device
