"""The setup of a run: what the form shows of a text, and what it stands for."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

import train.corpus
from gpt.errors import CorpusError
from tests.fake_page import in_event_loop
from train.__main__ import _settings, build_parser
from train.job import Jobs
from train.presets import PRESETS
from train.texts import TextStore
from train.ui.settings import SETTINGS
from train.ui.setup import OFFERED, Setup
from train.ui.timing import Timing

ROOT = Path(__file__).parents[3]
SHAKESPEARE = b"ROMEO:\nBut soft, what light through yonder window breaks?\n\n" * 400
NAMES = [setting.name for setting in SETTINGS]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with the sonnets, two checkpoints and no Tiny Shakespeare."""
    (tmp_path / "data").mkdir()
    shutil.copy(ROOT / "data" / "sonnets.txt", tmp_path / "data")
    (tmp_path / "checkpoints").mkdir()
    for name in ("laptop", "shakespeare"):
        (tmp_path / "checkpoints" / name).symlink_to(ROOT / "checkpoints" / name)
    return tmp_path


@pytest.fixture
def setup(root: Path) -> Setup:
    jobs = Jobs(root / "checkpoints", "cpu", os.environ)

    def make() -> Setup:
        with gr.Blocks(analytics_enabled=False):
            return Setup(root, jobs, TextStore(root / "data" / "texts"), Timing("cpu", os.environ), None)

    return in_event_loop(make)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes | Exception], None]:
    """Let Tiny Shakespeare be this text, or fail to arrive."""
    monkeypatch.setattr(train.corpus, "SHAKESPEARE_SHA256", hashlib.sha256(SHAKESPEARE).hexdigest())

    def give(answer: bytes | Exception) -> None:
        def download(url: str, *, sha256: str, progress: Callable[[int], None]) -> bytes:
            progress(train.corpus.SHAKESPEARE_BYTES // 2)
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(train.corpus, "download", download)

    return give


def shown(setup: Setup, data: str, preset: str = "laptop", base: str = "") -> dict[str, Any]:
    """What the form shows after these were chosen."""
    data_update, fetch, facts, preset_update, bases, *fields, name = setup.suit(data, preset, base)
    return {
        "data": data_update, "fetch": fetch, "facts": facts, "preset": preset_update, "bases": bases, "name": name,
        **dict(zip(NAMES, fields, strict=True)),
    }  # fmt: skip


def values(form: dict[str, Any]) -> list[Any]:
    return [form[name]["value"] for name in NAMES]


def test_sonnets_are_the_text_where_nothing_else_is_here(setup: Setup) -> None:
    assert setup.data.value == "sonnets"
    form = shown(setup, "sonnets")
    assert "<b>94,370</b> characters" in form["facts"] and "passes" in form["facts"]
    assert form["max_steps"]["value"] < PRESETS["laptop"].config.max_steps, "a short text takes fewer steps"
    assert form["name"] == "sonnets-laptop"
    assert form["fetch"]["visible"] is False


def test_form_stands_for_its_command(setup: Setup) -> None:
    form = shown(setup, "sonnets", "tiny")
    config = setup.config("sonnets", "tiny", "", *values(form))
    words = shlex.split(setup.command(config, one_core=True))
    assert words[:3] == ["python", "-m", "train"] and words[-4:] == ["--threads", "1", "--out", "checkpoints/NAME"]
    assert _settings(build_parser().parse_args(words[3:]), Path("x")) == config


def test_checkpoints_are_offered_whose_tokenizers_know_the_text(setup: Setup, root: Path) -> None:
    form = shown(setup, "sonnets")
    assert [value for _, value in form["bases"]["choices"]] == ["", "checkpoints/shakespeare"]
    assert "for lack of some of its characters: laptop" in form["facts"]
    (root / "data" / "texts").mkdir()
    (root / "data" / "texts" / "plain.txt").write_bytes(SHAKESPEARE)
    plain = shown(setup, "data/texts/plain.txt", base="checkpoints/laptop")
    assert [value for _, value in plain["bases"]["choices"]] == ["", "checkpoints/laptop", "checkpoints/shakespeare"]
    assert plain["bases"]["value"] == "checkpoints/laptop" and plain["name"] == "plain-from-laptop"
    assert plain["embed_dim"] == gr.update(value=128, interactive=False)


def test_base_that_does_not_know_another_text_is_given_up(setup: Setup) -> None:
    assert shown(setup, "sonnets", base="checkpoints/laptop")["bases"]["value"] == ""


def test_text_that_is_gone_gives_way_to_the_default(setup: Setup) -> None:
    assert shown(setup, "data/texts/gone.txt")["data"]["value"] == "sonnets"


@pytest.mark.parametrize("preset", OFFERED)
def test_every_preset_that_is_offered_suits_the_sonnets(setup: Setup, preset: str) -> None:
    form = shown(setup, "sonnets", preset)
    assert form["preset"]["info"]
    assert setup.config("sonnets", preset, "", *values(form)).preset == preset


def test_tiny_shakespeare_is_fetched_when_asked_for_and_shows_how_far(
    setup: Setup, root: Path, network: Callable[[bytes | Exception], None]
) -> None:
    network(SHAKESPEARE)
    before = shown(setup, "shakespeare")
    assert before["fetch"]["visible"] is True and "is not on this machine yet" in before["facts"]
    assert not (root / "data" / "shakespeare.txt").exists(), "choosing it fetches nothing"
    assert ["50%" in words for words in setup.fetched()] == [False, True]
    after = shown(setup, "shakespeare")
    assert after["fetch"]["visible"] is False and "<b>" in after["facts"]


def test_fetch_without_a_network_says_what_to_do(
    setup: Setup, root: Path, network: Callable[[bytes | Exception], None]
) -> None:
    network(OSError("no route to host"))
    with pytest.raises(
        CorpusError, match=r"could not be fetched \(no route to host\); try again with a network, choose the sonnets"
    ):
        list(setup.fetched())
    assert not (root / "data" / "shakespeare.txt").exists()


def test_text_that_was_brought_is_a_choice(setup: Setup, root: Path, tmp_path: Path) -> None:
    (tmp_path / "my poem.txt").write_bytes(SHAKESPEARE)
    value = setup.bring(str(tmp_path / "my poem.txt"))
    assert value == "data/texts/my-poem.txt"
    assert ("my-poem, yours", value) in setup.choices()


def test_text_that_is_too_short_for_the_settings_stops_the_start(setup: Setup, root: Path) -> None:
    (root / "data" / "texts").mkdir()
    (root / "data" / "texts" / "short.txt").write_bytes(SHAKESPEARE[:1500])
    form = shown(setup, "data/texts/short.txt", "tiny")
    config = setup.config("data/texts/short.txt", "tiny", "", *values({**form, "sequence_dim": {"value": 300}}))
    with pytest.raises(CorpusError, match="the text is too short for a context of 300 tokens"):
        setup.check(config)


def test_choice_of_a_text_is_left_alone_where_it_is_one(setup: Setup) -> None:
    """Another may have been uploaded since: only a choice that is none is replaced."""
    assert "value" not in shown(setup, "sonnets")["data"]
    assert shown(setup, "gone.txt")["data"]["value"] == "sonnets"
