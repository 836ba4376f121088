"""The machine that a run is made on, in words for its record."""

from __future__ import annotations

import platform
from pathlib import Path

import torch


def machine_name(device: torch.device) -> str:
    """The GPU's name, or the processor's with the number of threads in use."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    except OSError:
        pass  # not Linux
    threads = torch.get_num_threads()
    return f"{threads} thread{'s' if threads > 1 else ''} of {name}"
