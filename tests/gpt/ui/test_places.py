"""Visitors of the page over the real backend: as many as there are places, and a place freed for the next."""

from __future__ import annotations

import time
from pathlib import Path

import gradio_client  # type: ignore[import-untyped]
import pytest

from gpt.backends.local import LocalBackend
from gpt.backends.swappable import SwappableBackend
from gpt.ui.catalogue import Catalogue
from tests.fake_page import save_random_checkpoint, served

PLACES = 8


def test_eight_visitors_stream_and_one_who_leaves_frees_a_place(tmp_path: Path) -> None:
    folder = save_random_checkpoint(tmp_path / "slow", embed_dim=512)  # a long text takes seconds
    backend = SwappableBackend(LocalBackend.from_checkpoint(folder, max_streams=PLACES, max_queue=0, num_threads=1))
    with served(Catalogue(backend, tmp_path, folder, LocalBackend.from_checkpoint)) as address:
        visitors = [gradio_client.Client(address, verbose=False) for _ in range(PLACES + 1)]
        late = visitors.pop()
        jobs = [
            visitor.submit("ROMEO:", max_new_tokens=4096, seed=seed, api_name="/generate")
            for seed, visitor in enumerate(visitors)
        ]
        deadline = time.monotonic() + 60
        while not all(job.outputs() for job in jobs):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert not any(job.done() for job in jobs), "they did not stream side by side"
        with pytest.raises(Exception, match="wait"):
            late.predict("ROMEO:", max_new_tokens=5, api_name="/generate")

        jobs[3].cancel()
        while True:
            try:
                text = late.predict("ROMEO:", max_new_tokens=5, api_name="/generate")
                break
            except Exception:
                assert time.monotonic() < deadline
        assert len(text) == 5
        assert not all(job.done() for job in jobs), "the place was free because all had ended"
        for job in jobs:
            job.cancel()
    backend.close()
