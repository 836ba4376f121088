"""Timing: measured once a shape, cancelled by the next, and refused in the command's words."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from pathlib import Path

import pytest

from gpt.errors import TrainingError
from train.presets import PRESETS
from train.ui.timing import Timing

TINY = PRESETS["tiny"].config


def test_shape_is_measured_once_and_its_time_follows_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    timing = Timing("cpu", os.environ)
    first = timing.measure(TINY, 1)
    assert first is not None and first["threads"] == 1 and first["steps"] == 100
    monkeypatch.setattr(timing, "_run", lambda options: pytest.fail("it is known already"))
    longer = timing.measure(dataclasses.replace(TINY, max_steps=1000, seed=5), 1)
    assert longer is not None and longer["steps"] == 1000
    assert longer["seconds"] > 5 * first["seconds"]


def test_run_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"none\.txt is not there"):
        Timing("cpu", os.environ).measure(dataclasses.replace(TINY, data=str(tmp_path / "none.txt")))


def test_cancelled_measurement_is_none() -> None:
    timing = Timing("cpu", os.environ)
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(timing.measure(TINY)))
    thread.start()
    while timing._process is None:
        time.sleep(0.01)
    timing.cancel()
    thread.join()
    assert found == [None]
