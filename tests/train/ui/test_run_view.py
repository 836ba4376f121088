"""The value of the run view: a run as JSON that a browser can draw, short however long the run is."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

import train.ui.run_view
from train.presets import PRESETS
from train.report import RunReport, read_report
from train.status import RunStatus
from train.ui.run_view import MAX_POINTS, MAX_SAMPLES, TEMPLATE, WORDS, run_value

CONFIG = dataclasses.replace(PRESETS["tiny"].config, max_steps=10_000)


def value(report: RunReport) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(run_value(report))
    return fields


def test_no_run_is_nothing() -> None:
    assert run_value(None) == ""


def test_finished_run_is_drawn_in_nats_per_character(whole: Path) -> None:
    drawn = value(read_report(whole))
    assert (drawn["state"], drawn["words"], drawn["step"], drawn["steps"]) == ("finished", "Finished", 24, 24)
    assert [step for step, _ in drawn["val"]] == [7, 14, 21, 24]
    assert [step for step, _ in drawn["train"]] == [1, 10, 20]
    assert [sample[0] for sample in drawn["samples"]] == [0, 7, 14, 21, 24]
    assert drawn["samples"][0][2] is None and drawn["samples"][1][2] == drawn["val"][0][1]
    assert drawn["order"] == 5 and drawn["line"] == pytest.approx(2.198, abs=0.01)
    assert set(drawn["figures"]) == {"block", "sliding"}
    assert drawn["left"] is None and drawn["rate"] is None
    assert "text.txt, 6,000 characters \u00b7 tiny, " in drawn["facts"]


def test_losses_are_scaled_from_tokens_to_characters() -> None:
    status = RunStatus(state="training", tokens_per_character=0.4, ngrams=[3.0, 2.0, 1.9, 1.8, 1.6, 1.7])
    lines = (
        {"step": 10, "tokens": 5, "train_loss": 5.0},
        {"step": 10, "seconds": 3.0, "train_loss": 5.0, "val_loss": 3.9},
    )
    drawn = value(RunReport("run", "training", config=CONFIG, status=status, metrics=lines, best_step=10))
    assert drawn["train"] == [[10, 2.0]] and drawn["val"] == [[10, 1.56]]
    assert drawn["best"] == [10, 1.56] and drawn["line"] == 1.6
    assert drawn["passed"] == [10, 3.0]


def test_long_run_stays_short() -> None:
    lines = tuple({"step": step, "tokens": step, "train_loss": 1.0 + step} for step in range(1, 20_001))
    samples = tuple({"step": step, "text": "verse"} for step in range(500))
    drawn = value(RunReport("run", "training", config=CONFIG, metrics=lines, samples=samples))
    assert len(drawn["train"]) <= MAX_POINTS and drawn["train"][-1][0] == 20_000
    assert len(drawn["samples"]) == MAX_SAMPLES
    assert (drawn["samples"][0][0], drawn["samples"][-1][0]) == (0, 499)
    total = sum(loss for _, loss in drawn["train"]) / len(drawn["train"])
    assert total == pytest.approx(1.0 + 20_001 / 2, rel=0.01), "neighbours are averaged, none is dropped"


def test_run_that_ended_before_its_last_step_says_so() -> None:
    early = RunReport("run", "finished", config=CONFIG, saved_step=50)
    assert value(early)["words"] == "Stopped early"


@pytest.mark.parametrize("state", sorted(WORDS))
def test_every_state_has_words_and_needs_no_metrics(state: str) -> None:
    assert value(RunReport("run", state))["words"]


def test_text_of_a_model_is_no_tag_and_infinity_no_number() -> None:
    status = RunStatus(state="training")
    lines = ({"step": 1, "tokens": 1, "train_loss": float("inf")},)
    report = RunReport(
        "<b>", "failed", "<img src=x>", CONFIG, status, lines, ({"step": 1, "text": "</script><script>"},)
    )
    text = run_value(report)
    assert "<" not in text
    assert json.loads(text)["train"] == [[1, None]] or json.loads(text)["train"] == []
    assert json.loads(text)["samples"][0][1] == "</script><script>"


def test_script_finds_every_part_in_the_template() -> None:
    script = Path(train.ui.run_view.__file__).with_suffix(".js").read_text(encoding="utf-8")
    for name in set(re.findall(r'find\("([a-z-]+)"\)', script)):
        assert f"rv-{name}" in TEMPLATE, name
