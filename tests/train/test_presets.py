"""Presets: each is a model that can be built, and the named ones have exactly the published sizes."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpt.model import GPT
from gpt.tokenizer import KINDS
from train.config import TrainConfig
from train.corpus import load_corpus
from train.presets import PRESETS

DATA = Path(__file__).parents[2] / "data"
SHAKESPEARE_CHARACTERS = 65


def num_parameters(config: TrainConfig) -> int:
    """Counted on the meta device, where the numbers themselves take no memory."""
    return GPT.from_config(config.model_config(config.vocab_dim), device="meta").num_parameters()


@pytest.mark.parametrize("name", PRESETS)
def test_preset_builds_and_knows_its_name(name: str) -> None:
    preset = PRESETS[name]
    assert preset.config.preset == name
    assert preset.config.tokenizer in KINDS
    assert preset.summary
    assert preset.minutes
    assert preset.result
    assert num_parameters(preset.config) > 0


@pytest.mark.parametrize(("name", "parameters"), [("shakespeare", 8_193_457), ("gpt2", 163_059_793)])
def test_reference_configurations_have_their_parameters(name: str, parameters: int) -> None:
    config = PRESETS[name].config
    assert (config.tokenizer, config.vocab_dim) == ("gpt2", 50257)
    assert num_parameters(config) == parameters
    assert f"{parameters:,}" in PRESETS[name].summary


def test_character_preset_has_10_65_million_parameters() -> None:
    config = PRESETS["character"].config
    assert (config.vocab_dim, config.tokenizer) == (SHAKESPEARE_CHARACTERS, "character")
    assert (config.num_layers, config.embed_dim, config.sequence_dim) == (6, 384, 256)
    assert 10.65e6 <= num_parameters(config) <= 10.7e6
    assert f"{num_parameters(config) / 1e6:.2f}M" in PRESETS["character"].summary


def test_laptop_preset_has_1_05_million_parameters() -> None:
    assert round(num_parameters(PRESETS["laptop"].config) / 1e6, 2) == 1.05
    assert "1.05M" in PRESETS["laptop"].summary


def test_tiny_preset_needs_no_network_and_is_tiny() -> None:
    config = PRESETS["tiny"].config
    assert (config.data, config.tokenizer) == ("sonnets", "character")
    characters = len(set(load_corpus("sonnets", DATA).text))
    parameters = GPT.from_config(config.model_config(characters), device="meta").num_parameters()
    assert f"{parameters:,} parameters" in PRESETS["tiny"].summary
