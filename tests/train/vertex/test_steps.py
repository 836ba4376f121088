"""What the steps of the pipeline do with their files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from gpt.checkpoint_info import read_record
from gpt.errors import CorpusError, ResourceNotFoundError, TrainingError
from tests.emulator.emulator import BUCKET, LOCATION, Emulator
from train.vertex import steps

PLACE: dict[str, Any] = {
    "project": "rehearsal",
    "location": LOCATION,
    "bucket": f"gs://{BUCKET}",
    "name": "gpt",
    "image": "registry/my/gpt-serve:1",
    "machine_type": "e2-standard-2",
}


@pytest.fixture(autouse=True)
def modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the image and the pipeline's command have it."""
    monkeypatch.setenv("PYTHONPATH", str(steps.ROOT))


@pytest.fixture
def checkpoint(whole: Path, tmp_path: Path) -> Path:
    """A checkpoint whose record may be changed."""
    return Path(shutil.copytree(whole / "best", tmp_path / "checkpoint"))


def test_text_is_prepared_by_name_by_path_and_by_address(tmp_path: Path, emulator: Emulator) -> None:
    sonnets = steps.ROOT / "data" / "sonnets.txt"
    (tmp_path / "windows.txt").write_bytes(sonnets.read_bytes().replace(b"\n", b"\r\n"))
    emulator.storage.put(BUCKET, "texts/mine.txt", sonnets.read_bytes())
    found = [
        steps.prepare(data, tmp_path / "out" / "text")
        for data in ("sonnets", str(tmp_path / "windows.txt"), f"gs://{BUCKET}/texts/mine.txt")
    ]
    assert [item["name"] for item in found] == ["sonnets", "windows.txt", "mine.txt"]
    assert len({item["sha256"] for item in found}) == 1
    assert (tmp_path / "out" / "text").read_bytes() == sonnets.read_bytes()


def test_text_that_cannot_be_had_is_refused(tmp_path: Path, emulator: Emulator) -> None:
    with pytest.raises(CorpusError):
        steps.prepare(str(tmp_path / "no.txt"), tmp_path / "text")
    with pytest.raises(ResourceNotFoundError):
        steps.prepare(f"gs://{BUCKET}/no.txt", tmp_path / "text")


@pytest.mark.timeout(180)
def test_training_leaves_the_best_checkpoint_which_scores_as_its_record_says(tmp_path: Path, text: Path) -> None:
    options = ["--preset", "tiny", "--max-steps", "8", "--threads", "1", "--device", "cpu", "--sample-tokens", "0"]
    steps.train(text, "sonnets", "my-run", options, 1, tmp_path / "checkpoint")
    record = read_record(tmp_path / "checkpoint")
    assert record.corpus == "sonnets.txt"
    assert record.command.endswith("--data sonnets.txt --out my-run")
    figures = steps.evaluate(text, tmp_path / "checkpoint", 0.9)
    assert figures == pytest.approx(record.nats_per_character, abs=1e-4)


def test_training_that_fails_is_one_sentence(tmp_path: Path, text: Path) -> None:
    with pytest.raises(TrainingError, match="ended with the exit status 2"):
        steps.train(text, "sonnets", "my-run", ["--dropout", "3"], 1, tmp_path / "checkpoint")
    assert not (tmp_path / "checkpoint").exists()


@pytest.mark.parametrize(
    ("nats", "decision"), [(1.4, "deploy"), (1.5, "deploy"), (1.5001, "keep"), (float("nan"), "keep"), (9.0, "keep")]
)
def test_gate_opens_at_the_threshold(nats: float, decision: str) -> None:
    assert steps.gate(nats, 1.5) == decision


@pytest.mark.parametrize(
    ("nats", "recorded", "source"),
    [
        (2.0, 1.0, "says the evaluation"),
        (1.0, 2.0, "says the checkpoint's record"),
        (float("nan"), 1.0, "says the evaluation"),
    ],
)
def test_deploying_checks_the_figures_by_itself(
    checkpoint: Path, emulator: Emulator, nats: float, recorded: float, source: str
) -> None:
    fields = json.loads((checkpoint / "record.json").read_text(encoding="utf-8"))
    fields["nats_per_character"]["block"] = recorded
    (checkpoint / "record.json").write_text(json.dumps(fields), encoding="utf-8")
    with pytest.raises(TrainingError, match=f"{source}, and at most 1.5 may serve; nothing was deployed"):
        steps.deploy(checkpoint, nats, 1.5, api_endpoint=emulator.url, **PLACE)
    assert emulator.endpoints.endpoints == {}
    assert emulator.models.versions == {}
    assert emulator.storage.names(BUCKET) == []


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_deploying_is_the_commands(checkpoint: Path, emulator: Emulator) -> None:
    assert steps.deploy(checkpoint, 1.0, 9.0, api_endpoint=emulator.url, **PLACE) == "gpt version 1"
    (endpoint,) = emulator.endpoints.endpoints.values()
    assert len(endpoint["deployedModels"]) == 1


def test_error_of_a_step_is_words_and_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, steps.in_words():
        raise TrainingError("the run diverged")
    assert ended.value.code == "error: the run diverged"
