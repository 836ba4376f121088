"""python -m train.blind: a sheet that gives no name away, and answers counted for whom they are."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
import torch

from gpt.character_tokenizer import CharacterTokenizer
from gpt.checkpoint import save_checkpoint
from gpt.config import GPTConfig
from gpt.errors import ConfigError, CorpusError
from gpt.model import GPT
from train.blind import main, score, sheet, speakers, wilson

PLAY = "ANN:\nGo.\n\nFirst Man:\nCome, Ann: go.\n\nANN:\nWhy?\n\nfirst: no\n\nBOB:\nAnn.\n\nBOB:\nBob.\n\nANN:\nAy.\n"
KEY = json.dumps({"sheet": "ab12", "pairs": [{"texts": ["x", "y"]}, {"texts": ["y", "x"]}, {"texts": ["y", "x"]}]})
SHEET = sheet("ab12", [("ANN:\n", ["one", "two"])] * 3)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two checkpoints and a play, in the working folder."""
    monkeypatch.chdir(tmp_path)
    Path("play.txt").write_text(PLAY, encoding="utf-8")
    tokenizer = CharacterTokenizer("".join(sorted(set(PLAY))))
    names = ["plum", "quince"]
    for number, name in enumerate(names):
        torch.manual_seed(number)
        config = GPTConfig(vocab_dim=tokenizer.vocab_dim, sequence_dim=8, embed_dim=8, num_heads=2, num_layers=1)
        save_checkpoint(name, GPT.from_config(config), tokenizer)
    return names


def write(folders: list[str], seed: int = 1, **paths: str) -> int:
    options = [word for name, path in paths.items() for word in (f"--{name}", path)]
    settings = ["--data", "play.txt", "--prompts", "3", "--characters", "40", "--device", "cpu", "--seed", str(seed)]
    return main([*folders, *settings, *options])


def answered(*answers: str) -> str:
    text = SHEET
    for number, answer in enumerate(answers, start=1):
        text = text.replace(f"Pair {number}, better (1, 2 or =):", f"Pair {number}, better (1, 2 or =): {answer}")
    return text


def test_speakers_are_those_with_the_most_turns() -> None:
    assert speakers(PLAY, 3) == ["ANN:\n", "BOB:\n", "First Man:\n"]
    with pytest.raises(CorpusError, match=r"has 3 speakers, .*, not 4"):
        speakers(PLAY, 4)


def test_sheet_has_each_prompt_twice_and_no_names(folders: list[str]) -> None:
    assert write(folders) == 0
    text, key = Path("blind.md").read_text(encoding="utf-8"), json.loads(Path("blind-key.json").read_text())
    assert not any(name in text for name in folders)
    assert Counter(re.findall(r"^    (ANN|BOB|First Man):$", text, re.MULTILINE)) >= Counter(
        {"ANN": 2, "BOB": 2, "First Man": 2}
    )
    assert [sorted(pair["texts"]) for pair in key["pairs"]] == [folders] * 3
    texts = re.findall(r"^Text \d:\n\n((?:    .*\n)+)", text, re.MULTILINE)
    lengths = [len(part) - 4 * part.count("\n") - 1 for part in texts]
    assert lengths == [len(pair["prompt"]) + 40 for pair in key["pairs"] for _ in range(2)]


def test_seed_repeats_texts_and_order(folders: list[str]) -> None:
    for number, seed in enumerate((1, 1, 2)):
        assert write(folders, seed, sheet=f"{number}.md", key=f"{number}.json") == 0
    sheets = [Path(f"{number}.md").read_text(encoding="utf-8") for number in range(3)]
    assert sheets[0] == sheets[1] != sheets[2]


def test_texts_stand_in_either_place(folders: list[str]) -> None:
    firsts = set()
    for seed in range(6):
        assert write(folders, seed, sheet=f"{seed}.md", key=f"{seed}.json") == 0
        firsts |= {pair["texts"][0] for pair in json.loads(Path(f"{seed}.json").read_text())["pairs"]}
    assert firsts == set(folders)


def test_written_sheet_is_not_overwritten(folders: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("blind.md").write_text("answers", encoding="utf-8")
    assert write(folders) == 1
    assert "blind.md is there already" in capsys.readouterr().err
    assert Path("blind.md").read_text(encoding="utf-8") == "answers" and not Path("blind-key.json").exists()


def test_answers_are_counted_for_whom_they_are() -> None:
    assert next(score(answered("1", "2", "1"), KEY)) == (
        "x 2, y 1, equal 0: x is better in 67% of those decided, 21% to 94%"
    )
    assert next(score(answered("=", "", "="), KEY)) == "x 0, y 0, equal 2"


def test_written_sheet_is_scored(folders: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert write(folders) == 0
    pairs = json.loads(Path("blind-key.json").read_text())["pairs"]
    text = Path("blind.md").read_text(encoding="utf-8")
    for number, pair in enumerate(pairs, start=1):  # quince every time
        question = f"Pair {number}, better (1, 2 or =):"
        text = text.replace(question, f"{question} {1 + pair['texts'].index('quince')}")
    Path("blind.md").write_text(text, encoding="utf-8")
    capsys.readouterr()
    assert main(["--score"]) == 0
    assert capsys.readouterr().out.startswith("plum 0, quince 3, equal 0: plum is better in 0%")


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        (SHEET, KEY, "the sheet has no answers"),
        (answered("3"), KEY, "the answer to pair 1 is '3'; write 1, 2 or ="),
        (answered("1").replace("ab12", "ab13"), KEY, "the key is not this sheet's"),
        (answered("1").replace("Pair 2, better", "Pair two, better"), KEY, "a question of the sheet is missing"),
        (answered("1"), "[]", "the key is no file that"),
        (answered("1"), "{", "the key is no file that"),
    ],
)
def test_wrong_sheet_or_key_is_refused(text: str, key: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        list(score(text, key))


def test_interval_is_wilsons() -> None:
    """Values of Newcombe (1998), table I."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(29, 29) == pytest.approx((0.8830, 1.0), abs=5e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give two checkpoints or more to write a sheet, or --score alone"),
        (["a", "b", "--score"], "or --score alone"),
        (["a"], "give two different ones"),
        (["a", "b", "a"], "give two different ones"),
        (["a", "b", "--prompts", "0"], "prompts is 0; give a whole number from 1 to 100"),
        (["a", "b", "--temperature", "nan"], "temperature is nan"),
    ],
)
def test_wrong_argument_is_refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
