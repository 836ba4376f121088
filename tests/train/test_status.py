"""The status that a run writes: whole, or as if it were not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from train.status import STATUS_FILE, RunStatus, read_status


def test_status_comes_back_as_it_was_written(tmp_path: Path) -> None:
    status = RunStatus(state="paused", message="\u00e9", pid=7, ngrams=[3.0, 2.0], nats_per_character={"block": 1.5})
    (tmp_path / STATUS_FILE).write_text(status.to_json(), encoding="utf-8")
    assert read_status(tmp_path) == status


@pytest.mark.parametrize("text", ["", "{", "[]", '{"state": "dancing"}', '{"state": "paused", "other": 1}', "{}"])
def test_what_is_no_status_is_none(tmp_path: Path, text: str) -> None:
    assert read_status(tmp_path) is None
    (tmp_path / STATUS_FILE).write_text(text, encoding="utf-8")
    assert read_status(tmp_path) is None
