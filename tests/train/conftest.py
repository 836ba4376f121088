"""What all tests of the trainer share."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from gpt.errors import TrainingError
from tests.train import tiny_run


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Small tensors gain nothing from a second thread, and the bits of a sum may depend on how many there are."""
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    with _one_thread():
        yield


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus short enough that a run ends soon."""
    return tiny_run.write_text(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, text: Path) -> Path:
    """The folder of a run of tiny_run.SHORT that nothing interrupted; to be looked at only."""
    out = tmp_path_factory.mktemp("whole") / "run"
    with _one_thread():
        assert tiny_run.train(*tiny_run.options(out, text, **tiny_run.SHORT)) == 0
    return out


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> list[list[str]]:
    """The command lines of a sweep's runs, which are made in this process: a new one takes seconds to begin."""
    made: list[list[str]] = []

    def train(options: Sequence[str], *, is_stopping: Callable[[], bool], on_tick: Callable[[], None]) -> str:
        made.append(list(options))
        capfd.readouterr()
        code = tiny_run.train(*options)
        captured = capfd.readouterr()
        if code:
            raise TrainingError(captured.err.strip().splitlines()[-1])
        on_tick()
        return captured.out

    monkeypatch.setattr("train.sweep.sweep.train", train)
    return made


@pytest.fixture
def launch() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts training processes, and ends those that a failed test leaves running."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **keywords: Any) -> subprocess.Popen[str]:
        started.append(tiny_run.start(*arguments, **keywords))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()  # torchrun ends its processes then; killed, it would leave them
            process.communicate(timeout=60)
