"""TrainingRecord: to JSON and back, and strict about it."""

from __future__ import annotations

import dataclasses

import pytest

from gpt.errors import CheckpointError
from gpt.record import TrainingRecord


def test_record_round_trips_through_json() -> None:
    record = TrainingRecord(
        preset="tiny",
        corpus="sonnets",
        seconds=12,
        nats_per_character={"block": 1.5},
        curve=[{"step": 10, "train_loss": 3.0, "val_loss": 3.5}],
    )
    assert TrainingRecord.from_json(record.to_json()) == record
    remembered = dataclasses.replace(record, memorisation=[{"source": "2-grams", "median": 7.5}])
    assert TrainingRecord.from_json(remembered.to_json()) == remembered
    assert TrainingRecord.from_json("{}") == TrainingRecord()


def test_record_without_memorisation_has_no_such_field() -> None:
    """Versions that do not know the field refuse a record that has it."""
    assert "memorisation" not in TrainingRecord(preset="tiny").to_json()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "is list; a JSON object"),
        ('{"colour": 1}', "unknown field colour; known are preset, "),
        ('{"steps": "many"}', "steps is 'many'; it must be int"),
        ('{"steps": 1.5}', "steps is 1.5; it must be int"),
        ('{"seconds": true}', "seconds is True; it must be float"),
        ('{"nats_per_character": {"block": "1.5"}}', "must be numbers with names"),
        ('{"curve": [1.5]}', "must be numbers with names"),
        ('{"corpus": "\\ud800"}', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"memorisation": [[]]}', "must be words and numbers with names"),
        ('{"memorisation": [{"source": []}]}', "must be words and numbers with names"),
        ('{"memorisation": 3}', "memorisation is 3; it must be list"),
        ('{"curve": {}}', "curve is {}; it must be list"),
    ],
)
def test_record_refuses_other_json(text: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        TrainingRecord.from_json(text)
