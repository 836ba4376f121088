"""The Train tab's answers: what a page that looks at a run is told."""

from __future__ import annotations

import os
from pathlib import Path

import gradio as gr
import pytest

from tests.fake_page import in_event_loop
from train.job import Jobs
from train.ui.tab import TrainTab

ROOT = Path(__file__).parents[3]


@pytest.fixture
def tab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainTab:
    """A tab over two runs of which nothing is known."""
    jobs = Jobs(tmp_path / "runs", "cpu", os.environ)
    monkeypatch.setattr(jobs, "names", lambda: ["new", "old"])
    monkeypatch.setattr(jobs, "active", lambda: ["new"])
    monkeypatch.setattr(jobs, "report", lambda name: None)

    def make() -> TrainTab:
        with gr.Blocks():
            return TrainTab(ROOT, jobs, tmp_path / "texts", os.environ)

    return in_event_loop(make)


def test_answer_to_a_poll_leaves_the_choice_of_a_run_alone(tab: TrainTab) -> None:
    """It was asked for before a run was begun or chosen, perhaps, and comes after that."""
    listed, *rest = tab._poll("old", "")
    assert listed["choices"] == ["new", "old"] and "value" not in listed
    assert all(answer == gr.skip() for answer in tab._poll("old", rest[-2]))


@pytest.mark.parametrize("name", [None, "deleted"])
def test_page_without_a_run_is_shown_the_one_under_way(tab: TrainTab, name: str | None) -> None:
    assert tab._poll(name, "")[0]["value"] == "new"


def test_run_that_has_begun_is_the_one_shown(tab: TrainTab) -> None:
    assert tab._updates("old", begun=True)[0]["value"] == "old"
