"""The application while a run trains: it serves, and the run makes room and goes on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gradio_client  # type: ignore[import-untyped]
import pytest

from tests.fake_page import save_random_checkpoint
from tests.test_app import started
from tests.train.tiny_run import write_text
from train.control import YIELD_FILE
from train.job import Jobs
from train.report import RunReport

STREAMS, TOKENS = 8, 3000  # long enough to be seen writing


@pytest.mark.timeout(180)
def test_eight_streams_finish_while_a_run_trains_and_makes_room(tmp_path: Path) -> None:
    root = tmp_path / "checkpoints"
    folder = save_random_checkpoint(root / "base", nats=4.5)
    text = write_text(tmp_path)
    jobs = Jobs(root, "cpu", os.environ)
    jobs.start("run", ["--preset", "tiny", "--max-steps", "1000000", "--data", str(text), "--threads", "2"])
    try:
        _wait(jobs, lambda report: report.state == "training")
        arguments = ("--checkpoint", str(folder), "--checkpoints", str(root), "--texts", str(tmp_path / "texts"))
        with started(*arguments) as (_, address):
            client = gradio_client.Client(address, verbose=False)
            before = jobs.report("run").step
            with ThreadPoolExecutor(STREAMS) as pool:
                texts = list(pool.map(lambda seed: _generate(client, seed), range(STREAMS)))
            assert [len(text) for text in texts] == [TOKENS] * STREAMS, "a token of this checkpoint is a character"
            assert (root / "run" / YIELD_FILE).exists(), "the page asked the run to make room"
            _wait(jobs, lambda report: report.step > before)
        assert jobs.report("run").state == "training", "the run outlives the page"
    finally:
        status = jobs.report("run").status
        if status is not None:
            os.kill(status.pid, signal.SIGKILL)
        jobs.close()


def _generate(client: gradio_client.Client, seed: int) -> str:
    text: str = client.predict("ROMEO:\n", 1.0, 0, 1.0, 0.0, 1.0, TOKENS, seed, api_name="/generate")
    return text


def _wait(jobs: Jobs, until: Callable[[RunReport], bool]) -> None:
    ends_at = time.monotonic() + 60
    while not until(report := jobs.report("run")):
        assert time.monotonic() < ends_at, report
        time.sleep(0.05)
