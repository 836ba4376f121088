"""The model card: the figures, the command and the settings of its run, nothing made up."""

from __future__ import annotations

import dataclasses

from gpt.config import GPTConfig
from gpt.record import TrainingRecord
from train.card import model_card, with_memorisation
from train.presets import PRESETS

SETTINGS = PRESETS["laptop"].config
CONFIG = GPTConfig(vocab_dim=1024, sequence_dim=64, embed_dim=128, num_heads=4, num_layers=4, rotary=True)
RECORD = TrainingRecord(
    preset="laptop",
    command="python -m train --preset laptop --seed 3",
    corpus="shakespeare",
    corpus_sha256="86c4e6aa",
    corpus_characters=1_115_394,
    machine="2 threads of a small machine",
    torch_version="2.13.0",
    steps=1750,
    tokens=3_584_000,
    seconds=183.4,
    seed=3,
    nats_per_character={"block": 1.46221, "sliding": 1.44732},
    curve=[
        {"step": 250, "train_loss": 4.1, "val_loss": 4.05},
        {"step": 500, "train_loss": 3.6, "val_loss": 3.7},
    ],
    best_step=500,
)


def card(**changes: object) -> str:
    arguments: dict[str, object] = {
        "name": "laptop",
        "config": CONFIG,
        "settings": SETTINGS,
        "record": RECORD,
        "num_parameters": 1_048_576,
        "ladder": [3.3471, 2.4872],
        "sample": "\nROMEO:\nWhat light?\n",
    }
    return model_card(**{**arguments, **changes})  # type: ignore[arg-type]


def test_card_has_the_command_and_the_figures() -> None:
    text = card()
    assert text.startswith("# laptop\n\n1,048,576 parameters")
    assert "\n    python -m train --preset laptop --seed 3\n" in text
    assert "| block (windows of 64 tokens, none overlapping) | **1.4622** |" in text
    assert "| sliding (stride of half a window) | **1.4473** |" in text
    assert "| n-grams of order 1 to 2, for comparison | 3.347, 2.487 |\n\nThe figures" in text
    assert "1,115,394 characters" in text
    assert "first 90% of them" in text
    assert "(float16)" in text
    assert "python -m train.evaluate" in text


def test_card_has_what_it_took() -> None:
    text = card()
    assert "1,750 steps, 3,584,000 tokens, 3.1 minutes on 2 threads of a small machine" in text
    assert "torch 2.13.0, seed 3; the best step was 500" in text
    assert "AdamW 0.008, Muon 0.04 on the blocks' matrices, weight decay 0.1, dropout 0.1" in text
    assert "rotary positions" in text
    assert "Text sha256: 86c4e6aa" in text


def test_card_has_what_keeps_the_text_from_being_learnt_by_heart() -> None:
    settings = dataclasses.replace(
        SETTINGS, bpe_dropout=0.02, label_smoothing=0.03, sequence_dim=64, short_sequence_dim=16, short_fraction=0.7
    )
    text = card(settings=settings)
    assert "dropout 0.1, BPE dropout 0.02, label smoothing 0.03," in text
    assert "32 windows a step (128 of 16 tokens for the first 70%)." in text
    assert "BPE dropout" not in card() and "label smoothing" not in card() and "16 tokens for" not in card()


def test_card_has_the_curve_and_the_sample() -> None:
    text = card()
    assert "| 250 | 4.100 | 4.050 |\n| 500 | 3.600 | 3.700 |\n" in text
    assert text.endswith("```\nROMEO:\nWhat light?\n```\n")


def test_card_leaves_out_what_was_not() -> None:
    plain = card(
        ladder=[],
        settings=dataclasses.replace(SETTINGS, muon_learning_rate=0.0),
        config=dataclasses.replace(CONFIG, rotary=False),
    )
    assert "n-grams" not in plain
    assert "Muon" not in plain
    assert "learned positions" in plain
    assert "**1.4473** |\n\nThe figures" in plain


ROW: dict[str, str | float] = {
    "source": "temperature 0.8",
    "texts": 64,
    "characters": 1000,
    "median": 24.5,
    "percentile_90": 28.0,
    "maximum": 36,
    "covered": 0.0123,
    "longest": "",
}


def test_card_has_what_texts_have_in_common_with_the_training_text() -> None:
    assert "Memorisation" not in card()
    text = card(record=dataclasses.replace(RECORD, memorisation=[ROW]))
    assert "that a text of 1,000 has" in text
    assert "|---|---|---|---|---|---|\n| temperature 0.8 | 64 | 24.5 | 28 | 36 | 1.23% |\n\n" in text
    assert text == with_memorisation(card(), [ROW])


def test_newer_figures_take_the_place_of_older_ones() -> None:
    older = with_memorisation(card(), [{**ROW, "maximum": 99}]) + "\n## What was tried\n\nThis.\n"
    newer = with_memorisation(older, [ROW])
    assert newer == with_memorisation(card(), [ROW]) + "\n## What was tried\n\nThis.\n"
