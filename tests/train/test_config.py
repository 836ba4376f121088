"""TrainConfig: each setting's range, in words, and the way to JSON and back."""

from __future__ import annotations

import dataclasses
import json
import math
import typing
from typing import Any

import pytest

from gpt.config import GPTConfig
from gpt.errors import ConfigError
from train.config import TrainConfig

HINTS = typing.get_type_hints(TrainConfig)
FIELDS = {item.name: item for item in dataclasses.fields(TrainConfig)}
NUMBERS = [name for name in FIELDS if HINTS[name] in (int, float)]
BOUNDED = [name for name in NUMBERS if FIELDS[name].metadata["high"] != math.inf]
CHOICES = [name for name in FIELDS if FIELDS[name].metadata["choices"]]


def make(**settings: Any) -> TrainConfig:
    return TrainConfig(**settings)


def refusal(**settings: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        make(**settings)
    return str(caught.value)


@pytest.mark.parametrize("name", NUMBERS)
def test_number_under_its_range_is_refused(name: str) -> None:
    low = FIELDS[name].metadata["low"]
    value = HINTS[name](low - 1)
    message = refusal(**{name: value})
    assert message.startswith(f"{name} is {value};")
    assert f"at least {low}" in message or f"from {low} to" in message


@pytest.mark.parametrize("name", BOUNDED)
def test_number_over_its_range_is_refused(name: str) -> None:
    high = FIELDS[name].metadata["high"]
    assert f"to {high}" in refusal(**{name: HINTS[name](high + 1)})


@pytest.mark.parametrize("name", NUMBERS)
def test_ends_of_a_range_are_allowed(name: str) -> None:
    metadata = FIELDS[name].metadata
    for end in (metadata["low"], metadata["high"]):
        if end != math.inf and name not in ("embed_dim", "num_heads"):  # these must also fit each other
            assert getattr(make(**{name: HINTS[name](end)}), name) == end


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", [name for name in NUMBERS if HINTS[name] is float])
def test_number_that_is_not_finite_is_refused(name: str, value: float) -> None:
    assert refusal(**{name: value}).startswith(f"{name} is {value};")


@pytest.mark.parametrize("name", FIELDS)
def test_value_of_another_type_is_refused(name: str) -> None:
    value: Any = "yes" if HINTS[name] is not str else 1
    assert refusal(**{name: value}) == f"{name} is {value!r}; give a value of type {HINTS[name].__name__}"


@pytest.mark.parametrize("name", NUMBERS)
def test_truth_is_no_number(name: str) -> None:
    assert "type" in refusal(**{name: True})


@pytest.mark.parametrize("name", CHOICES)
def test_unknown_choice_is_refused_with_the_known_ones(name: str) -> None:
    message = refusal(**{name: "other"})
    assert "'other'" in message
    assert all(choice in message for choice in FIELDS[name].metadata["choices"])
    for choice in FIELDS[name].metadata["choices"]:
        assert getattr(make(**{name: choice}), name) == choice


def test_whole_number_will_do_for_a_fraction() -> None:
    config = make(learning_rate=1)
    assert config.learning_rate == 1.0
    assert isinstance(config.learning_rate, float)


def test_shape_that_no_model_can_have_is_refused() -> None:
    assert "num_heads = 3" in refusal(embed_dim=128, num_heads=3)
    assert "head_bias" in refusal(tie_head=True)
    assert "rotary" in refusal(rotary=True, embed_dim=12, num_heads=4)


def test_model_config_hands_every_shared_setting_on() -> None:
    config = other_config()
    shape = config.model_config(77)
    assert shape.vocab_dim == 77
    shared = {item.name for item in dataclasses.fields(GPTConfig)} & FIELDS.keys() - {"vocab_dim"}
    assert len(shared) == 15
    for name in shared:
        assert getattr(shape, name) == getattr(config, name), name


def test_json_brings_every_setting_back() -> None:
    config = other_config()
    assert all(getattr(config, name) != item.default for name, item in FIELDS.items())
    assert TrainConfig.from_json(config.to_json()) == config
    assert json.loads(config.to_json()) == dataclasses.asdict(config)


def test_setting_that_an_older_run_did_not_know_has_its_default() -> None:
    fields = dataclasses.asdict(make())
    del fields["patience"]
    assert TrainConfig.from_json(json.dumps(fields)) == make()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '{"unknown": 1}', '{"seed": -1}', '{"seed": "one"}', '{"bias": 1}']
)
def test_json_that_is_no_config_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        TrainConfig.from_json(text)


def test_every_setting_has_help() -> None:
    assert all(item.metadata["help"] for item in FIELDS.values())


def other_config() -> TrainConfig:
    """A config of which no setting has its default."""
    values: dict[str, Any] = {
        "embed_dim": 60,
        "num_heads": 3,
        "attention_dropout": 0.3,
        "tie_head": True,
        "head_bias": False,
    }
    for name, item in FIELDS.items():
        kind, metadata = HINTS[name], item.metadata
        default: Any = item.default
        if name in values:
            continue
        if metadata["choices"]:
            values[name] = next(choice for choice in metadata["choices"] if choice != default)
        elif kind is bool:
            values[name] = not default
        elif kind is str:
            values[name] = f"{default} é"
        elif kind is int:
            values[name] = default + 1
        else:
            values[name] = 0.25 if default != 0.25 else 0.5
    return make(**values)


def test_short_windows_are_a_whole_part_of_the_long_ones() -> None:
    assert make(sequence_dim=64, short_sequence_dim=16).short_sequence_dim == 16
    assert "short_sequence_dim is 48, which is no whole part of sequence_dim = 64" in refusal(
        sequence_dim=64, short_sequence_dim=48
    )


@pytest.mark.parametrize(
    ("changes", "left_out"),
    [
        ({"tokenizer": "character"}, {"bpe_dropout": 0.0}),
        ({"data": "hf:owner/name"}, {"bpe_dropout": 0.0}),
        ({"sequence_dim": 100}, {"short_sequence_dim": 0}),
        ({"sequence_dim": 128}, {}),
        ({"seed": 2}, {}),
    ],
)
def test_changes_leave_out_what_does_not_go_with_them(changes: dict[str, Any], left_out: dict[str, Any]) -> None:
    config = make(bpe_dropout=0.1, sequence_dim=64, short_sequence_dim=16)
    assert config.with_changes(**changes) == dataclasses.replace(config, **changes, **left_out)


def test_changes_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"bpe_dropout is 0\.2"):
        make().with_changes(tokenizer="character", bpe_dropout=0.2)
    with pytest.raises(ConfigError, match="short_sequence_dim is 48"):
        make().with_changes(sequence_dim=64, short_sequence_dim=48)


def test_bpe_dropout_needs_merges() -> None:
    assert "bpe_dropout is 0.1, but the tokenizer character merges nothing" in refusal(
        tokenizer="character", bpe_dropout=0.1
    )
