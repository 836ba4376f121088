"""Processes that train together: the same as one with their batches put together."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from gpt.errors import TrainingError
from tests.train.tiny_run import assert_same_run, finish, metrics, options, resume_options, train
from train.distributed import ProcessGroup

Launch = Callable[..., "subprocess.Popen[str]"]

# Without dropout and rounding, so that only the order of the sums differs.
EXACT: dict[str, Any] = {
    "dropout": 0,
    "precision": "float32",
    "muon_learning_rate": 0,
    "max_steps": 10,
    "eval_interval": 5,
    "save_interval": 5,
}


def weights(out: Path) -> torch.Tensor:
    tensors = load_file(out / "state" / "model.safetensors")
    return torch.cat([tensors[name].flatten() for name in sorted(tensors)])


def assert_close_runs(together: Path, alone: Path) -> None:
    """The weights and every loss that was written down, to what float32 sums in another order leave."""
    torch.testing.assert_close(weights(together), weights(alone), rtol=0, atol=1e-4)
    lines, expected = metrics(together), metrics(alone)
    assert [line["step"] for line in lines] == [line["step"] for line in expected]
    for line, other in zip(lines, expected, strict=True):
        for name in other.keys() - {"tokens_per_second", "seconds"}:
            assert line[name] == pytest.approx(other[name], rel=1e-4), (line, other)


def test_alone_a_process_changes_nothing() -> None:
    group = ProcessGroup({}, "gloo")
    gradient, loss = torch.ones(3), torch.tensor(2.0)
    assert group.is_main
    assert group.average([gradient], loss, (True, False)) == (loss, (True, False))
    assert torch.equal(gradient, torch.ones(3))
    assert group.broadcast(True) is True
    assert torch.equal(group.gather(gradient), gradient[None])
    group.barrier()
    group.close()


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"RANK": "one", "WORLD_SIZE": "2"}, "is not a number"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "could not find each other"),
    ],
)
def test_incomplete_environment_is_refused(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], message: str
) -> None:
    for name in ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(TrainingError, match=f"{message}.* torchrun"):
        ProcessGroup(environment, "gloo")


@pytest.mark.timeout(300)
def test_two_processes_equal_one_with_the_doubled_batch(tmp_path: Path, text: Path, launch: Launch) -> None:
    """With passes that are spelt anew and windows that become longer, which both have to walk alike."""
    together, alone = tmp_path / "together", tmp_path / "alone"
    settings = {**EXACT, "tokenizer": "bpe", "vocab_dim": 100, "bpe_dropout": 0.1, "short_sequence_dim": 8}
    code, said = finish(launch(*options(together, text, **settings, batch_size=4), processes=2))
    assert code == 0, said
    assert train(*options(alone, text, **settings, batch_size=8)) == 0
    assert_close_runs(together, alone)
    record = json.loads((together / "best" / "record.json").read_text())
    assert record["tokens"] == 10 * 8 * 32
    assert record["command"].startswith("torchrun --nproc_per_node=2 -m train --preset tiny")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_nodes_equal_one_process_with_the_doubled_batch(tmp_path: Path, text: Path, launch: Launch) -> None:
    together, alone = tmp_path / "together", tmp_path / "alone"
    port = free_port()
    nodes = [
        launch(
            *options(together, text, **EXACT, batch_size=4),
            processes=1,
            torchrun=("--nnodes=2", f"--node_rank={rank}", "--master_addr=127.0.0.1", f"--master_port={port}"),
        )
        for rank in (0, 1)
    ]
    for node in nodes:
        code, said = finish(node)
        assert code == 0, said
    assert train(*options(alone, text, **EXACT, batch_size=8)) == 0
    assert_close_runs(together, alone)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_processes_that_are_stopped_go_on_bit_for_bit(tmp_path: Path, text: Path, launch: Launch) -> None:
    """With dropout, for which each process must get its own generator back."""
    settings = {"max_steps": 300, "eval_interval": 150, "save_interval": 100}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert finish(launch(*options(whole, text, **settings), processes=2))[0] == 0
    stopped = launch(*options(parts, text, **settings), processes=2)
    while not (parts / "metrics.jsonl").is_file() or len(metrics(parts)) < 3:
        assert stopped.poll() is None, stopped.communicate()
        time.sleep(0.01)
    os.kill(stopped.pid, signal.SIGTERM)  # torchrun hands it on
    _, said = finish(stopped)
    assert "and saved; go on with: torchrun --nproc_per_node=2 -m train --resume" in said
    assert 0 < json.loads((parts / "state" / "state.json").read_text())["step"] < 300
    code, said = finish(launch(*resume_options(parts), processes=2))
    assert code == 0, said
    assert_same_run(parts, whole)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_failure_of_one_process_ends_all(tmp_path: Path, text: Path, launch: Launch) -> None:
    """The main process alone finds the folder in use; the other must not wait for it for half an hour."""
    out = tmp_path / "run"
    out.mkdir()
    (out / "something").write_text("mine")
    began = time.monotonic()
    code, said = finish(launch(*options(out, text, **EXACT), processes=2))
    assert code != 0
    assert f"python -m train: error: {out} is not empty" in said
    assert time.monotonic() - began < 120
    port = free_port()
    nodes = [
        launch(
            *options(out, text, **EXACT),
            processes=1,
            torchrun=("--nnodes=2", f"--node_rank={rank}", "--master_addr=127.0.0.1", f"--master_port={port}"),
        )
        for rank in (0, 1)
    ]
    for node in nodes:
        code, said = finish(node, timeout_s=200)
        assert code != 0
