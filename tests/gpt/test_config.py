"""GPTConfig: every field's range, and to JSON and back."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import pytest

from gpt.block import ACTIVATIONS as BLOCK_ACTIVATIONS
from gpt.config import ACTIVATIONS, GPTConfig
from gpt.errors import ConfigError, GPTError

FIELDS: dict[str, Any] = {"vocab_dim": 11, "sequence_dim": 8, "embed_dim": 12, "num_heads": 3, "num_layers": 2}
SIZES = ["vocab_dim", "sequence_dim", "embed_dim", "num_heads", "num_layers", "feedforward_dim"]
SWITCHES = ["qkv_bias", "bias", "norm_bias", "head_bias", "tie_head", "rotary", "qk_norm", "zero_init"]


def test_config_checks_every_field() -> None:
    checked = {*SIZES, *SWITCHES, "dropout", "attention_dropout", "activation", "layer_norm_eps"}
    assert {field.name for field in dataclasses.fields(GPTConfig)} == checked


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("value", [0, -3, 2.0, "8", True, None])
def test_config_refuses_a_size_that_is_no_whole_number_of_at_least_one(name: str, value: Any) -> None:
    if name == "feedforward_dim" and value is None:
        assert GPTConfig(**FIELDS | {name: None}).feedforward_dim is None
        return
    message = re.escape(f"{name} is {value!r}; give a whole number of at least 1")
    with pytest.raises(ConfigError, match=f"^{message}$"):
        GPTConfig(**FIELDS | {name: value})


@pytest.mark.parametrize("name", ["dropout", "attention_dropout"])
@pytest.mark.parametrize("value", [-0.1, 1, 1.5, float("nan"), "0.1", True])
def test_config_refuses_a_dropout_that_is_no_probability_below_one(name: str, value: Any) -> None:
    message = re.escape(f"{name} is {value!r}; give a probability from 0 up to, not including, 1")
    with pytest.raises(ConfigError, match=f"^{message}$"):
        GPTConfig(**FIELDS | {name: value})


@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize("value", [1, 0, "true", None])
def test_config_refuses_a_switch_that_is_neither_true_nor_false(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"^{name} is {value!r}; give true or false$"):
        GPTConfig(**FIELDS | {name: value})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"embed_dim": 13},
            "embed_dim is 13, which num_heads = 3 does not divide; choose an embed_dim that is a multiple",
        ),
        ({"embed_dim": 9, "rotary": True}, "rotary needs an even head width, but embed_dim / num_heads = 3; choose"),
        ({"activation": "swish"}, "activation is 'swish'; choose one of gelu, gelu_tanh, relu, relu_squared"),
        ({"activation": None}, "activation is None; choose one of gelu,"),
        ({"layer_norm_eps": 0}, "layer_norm_eps is 0; give a number above 0"),
        ({"layer_norm_eps": float("inf")}, "layer_norm_eps is inf; give a number above 0"),
        ({"layer_norm_eps": "1e-5"}, "layer_norm_eps is '1e-5'; give a number above 0"),
        ({"layer_norm_eps": True}, "layer_norm_eps is True; give a number above 0"),
        ({"tie_head": True}, "head_bias is true with tie_head; a tied head has no bias: set head_bias to false"),
    ],
)
def test_config_refuses_fields_that_do_not_go_together(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GPTConfig(**FIELDS | fields)


def test_config_round_trips_through_json() -> None:
    config = GPTConfig(**FIELDS, feedforward_dim=7, dropout=0.25, activation="relu", rotary=True, layer_norm_eps=1e-6)
    assert GPTConfig.from_json(config.to_json()) == config
    assert json.loads(config.to_json()) == dataclasses.asdict(config)
    assert GPTConfig.from_dict(FIELDS) == GPTConfig(**FIELDS)
    assert GPTConfig(**FIELDS).head_dim == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "the configuration is not JSON .*; write it with GPTConfig.to_json"),
        ("[1]", "the configuration is list; a JSON object of GPTConfig's fields is needed"),
        (
            json.dumps(FIELDS | {"colour": 1, "a": 2}),
            "unknown fields a, colour; known are activation, attention_dropout, ",
        ),
        (json.dumps({"vocab_dim": 11}), "the configuration is incomplete: .*'num_layers'"),
        (json.dumps(FIELDS | {"num_heads": 5}), "embed_dim is 12, which num_heads = 5 does not divide"),
    ],
)
def test_config_refuses_other_json(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GPTConfig.from_json(text)


def test_config_is_frozen_and_its_error_is_both_ours_and_a_value_error() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        GPTConfig(**FIELDS).dropout = 0.5  # type: ignore[misc]
    assert issubclass(ConfigError, GPTError)
    assert issubclass(ConfigError, ValueError)


def test_config_names_the_activations_that_the_block_has() -> None:
    assert set(ACTIVATIONS) == set(BLOCK_ACTIVATIONS)
