"""python -m train.memorised: a copier is found out, seeds repeat, and what cannot be measured is said in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from gpt.character_tokenizer import CharacterTokenizer
from gpt.checkpoint import load_checkpoint, save_checkpoint
from gpt.checkpoint_info import read_card
from gpt.config import GPTConfig
from gpt.model import GPT
from gpt.record import TrainingRecord
from train.corpus import load_corpus
from train.memorised import main

ROOT = Path(__file__).parents[2]
LETTERS = "abcdefghijklmnopqrstuvwxyz\n"
FEW = ["--samples", "3", "--characters", "60", "--device", "cpu"]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """The alphabet again and again."""
    path = tmp_path / "letters.txt"
    path.write_text(LETTERS * 40, encoding="utf-8")
    return path


@pytest.fixture
def copier(tmp_path: Path, text: Path) -> Path:
    """A checkpoint that writes the alphabet: each letter's embedding points at the one behind it."""
    torch.manual_seed(1)
    tokenizer = CharacterTokenizer(LETTERS)
    config = GPTConfig(
        vocab_dim=27, sequence_dim=8, embed_dim=32, num_heads=2, num_layers=1, norm_bias=False, zero_init=True
    )
    model = GPT.from_config(config)
    with torch.no_grad():
        assert model.position_embedding is not None
        model.position_embedding.weight.zero_()
        model.token_embedding.weight.copy_(torch.eye(32)[:27])
        for letter, next_letter in zip(LETTERS, LETTERS[1:] + LETTERS[0], strict=True):
            model.head.weight[tokenizer.encode(next_letter)[0], tokenizer.encode(letter)[0]] = 4.0
    corpus = load_corpus(text, tmp_path)
    record = TrainingRecord(corpus=corpus.name, corpus_sha256=corpus.sha256)
    save_checkpoint(tmp_path / "copier", model, tokenizer, record, card="# copier\n\nIt writes.\n")
    return tmp_path / "copier"


def test_copier_is_found_out(copier: Path, text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(copier), "--data", str(text), *FEW, "--json", "--temperatures", "0,10"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["train_characters"] == int(0.9 * 27 * 40)
    sources = {row["source"]: row for row in found["sources"]}
    names = ["temperature 0, top-k 50", "temperature 10, top-k 50", *(f"{n}-grams" for n in range(1, 7))]
    assert list(sources) == [*names, "validation text"]
    copied = sources["temperature 0, top-k 50"]
    assert (copied["texts"], copied["characters"], copied["median"], copied["covered"]) == (3, 60, 60, 1)
    assert copied["longest"] == (LETTERS * 3)[:60]
    assert sources["temperature 10, top-k 50"]["maximum"] < 60
    assert sources["1-grams"]["maximum"] < 20
    assert sources["validation text"]["texts"] == 1 and sources["validation text"]["maximum"] == 60


def test_seeds_repeat_and_the_table_has_the_same_figures(
    copier: Path, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(copier), "--data", str(text), *FEW, "--temperatures", "10", "--top-k", "0"]
    outputs = []
    for seed in ("1", "1", "2"):
        assert main([*arguments, "--seed", seed]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1] != outputs[2]
    assert main([*arguments, "--seed", "1", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)["sources"][0]
    line = next(line for line in outputs[0].splitlines() if line.startswith("temperature 10 "))
    assert line.split()[2:7] == ["3", f"{row['median']:g}", f"{row['percentile_90']:g}", f"{row['maximum']}", "0.00%"]
    assert line.endswith(repr(row["longest"]))


def test_figures_are_kept_in_record_and_card(copier: Path, text: Path) -> None:
    before = load_checkpoint(copier)
    for _ in range(2):
        assert main([str(copier), "--data", str(text), *FEW, "--temperatures", "0", "--record"]) == 0
    record = load_checkpoint(copier).record
    assert record.corpus_sha256 == before.record.corpus_sha256
    assert [row["source"] for row in record.memorisation][::7] == ["temperature 0, top-k 50", "validation text"]
    card = read_card(copier)
    assert card.startswith("# copier\n\nIt writes.\n\n## Memorisation\n")
    assert card.count("| temperature 0, top-k 50 | 3 | 60 | 60 | 60 | 100.00% |") == 1


def test_other_text_is_refused(copier: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(copier), "--data", "sonnets", *FEW]) == 1
    assert "was trained on letters.txt (sha256 " in capsys.readouterr().err
    assert main([str(copier.parent / "nowhere"), *FEW]) == 1
    assert "there is no checkpoint" in capsys.readouterr().err


def test_too_long_texts_are_refused(copier: Path, text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(copier), "--data", str(text), "--characters", "200", "--device", "cpu"]) == 1
    assert "characters is 200, but the validation part has 108" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--temperatures", "0.5,hot"], "temperatures has 'hot'"),
        (["--temperatures", "nan"], "temperatures has 'nan'"),
        (["--train-fraction", "1"], "train-fraction is 1.0"),
        (["--samples", "0"], "samples is 0; give a whole number from 1 to 10,000"),
        (["--characters", "49"], "characters is 49; give a whole number from 50 "),
        (["--top-k", "-1"], "top-k is -1"),
        (["--seed", "-1"], "seed is -1"),
    ],
)
def test_wrong_argument_is_refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["checkpoints/laptop", *arguments])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
