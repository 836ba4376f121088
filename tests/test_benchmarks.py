"""The benchmarks run; what they find is for people to read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def benchmark(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_the_gpus_runs_on_a_cpu_and_refuses_a_gpu_that_is_not_there() -> None:
    done = benchmark("gpu", "--device", "cpu", "--model", "tiny", "--streams", "2", "--rounds", "1")
    assert done.returncode == 0, done.stderr
    assert "engine, kernel by kernel" in done.stdout and "prefill of 32 tokens" in done.stdout
    refused = benchmark("gpu", "--device", "cuda:99")
    assert refused.returncode == 1 and "device is 'cuda:99', but torch finds" in refused.stderr
