"""The cards of the Models tab."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from gpt.checkpoint_info import CheckpointInfo, damaged_checkpoints
from gpt.config import GPTConfig
from gpt.record import TrainingRecord
from gpt.ui.cards import cards


def info(name: str, **record: object) -> CheckpointInfo:
    config = GPTConfig(vocab_dim=1024, sequence_dim=64, embed_dim=128, num_heads=4, num_layers=4)
    return CheckpointInfo(name, Path(name), 1_050_000, 2_100_000, config, TrainingRecord(**record), "bpe")  # type: ignore[arg-type]


def test_a_card_shows_what_is_known() -> None:
    one = info(
        "laptop",
        corpus="shakespeare",
        steps=3000,
        best_step=2600,
        created_at="2026-01-02T03:04:05+00:00",
        nats_per_character={"block": 1.462, "sliding": 1.447},
    )
    html = cards({"laptop": one}, live="laptop")
    for text in (
        "laptop",
        "1,050,000",
        "64 tokens",
        "shakespeare",
        "2,600",
        "2026-01-02",
        "2.1 MB",
        "1.447",
        "sliding",
    ):
        assert text in html
    assert "Live" in html and 'data-action="use"' not in html


def test_a_card_leaves_out_what_is_unknown() -> None:
    html = cards({"run": info("run")}, live="other")
    assert "no validation figure" in html
    assert "Corpus" not in html and "Steps" not in html and "Trained" not in html
    assert 'data-action="use" data-name="run"' in html


def test_names_are_text_and_never_markup() -> None:
    name = '<i a="b">'
    html = cards({name: info("x", corpus="<script>")}, live="", protected={name: "<b>"})
    assert "<i" not in html and "<script" not in html
    assert 'data-name="&lt;i a=&quot;b&quot;&gt;"' in html


def test_while_one_loads_no_other_can_be_chosen() -> None:
    entries = {name: info(name) for name in ("a", "b", "c")}
    html = cards(entries, live="a", loading="b")
    assert html.count("Loading") == 1 and html.count('class="use loading"') == 1
    assert 'data-action="use" data-name="c" aria-label="Use c" disabled' in html


def test_what_can_be_done_hangs_on_the_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# A card")
    entries = {name: info(name) for name in ("live", "shipped", "run", "plain")}
    entries["plain"] = replace(info("plain"), folder=tmp_path)
    html = cards(entries, live="live", protected={"shipped": "it is ours", "plain": ""}, runs=["run"])
    one = dict(zip(entries, html.split("<article")[1:], strict=True))
    offered = {name: re.findall(r'data-action="(\w+)"', text) for name, text in one.items()}
    assert offered == {
        "live": ["rename"],
        "shipped": ["use"],
        "run": ["use", "rename", "delete"],
        "plain": ["use", "card", "rename", "delete"],
    }
    assert "Stays as it is: it is ours." in one["shipped"]
    assert "with its state; the run cannot go on" in one["run"] and "state" not in one["plain"]
    assert all(f'href="checkpoints/{name}.zip"' in text for name, text in one.items())


def test_link_to_the_zip_holds_any_name() -> None:
    assert 'href="checkpoints/%2Fa%20%22b%22%3F%23.zip"' in cards({'/a "b"?#': info("x")}, live="")


def test_without_checkpoints_there_is_a_hint() -> None:
    assert "python -m train" in cards({}, live="")


def test_damaged_checkpoint_is_named_with_what_is_wrong(tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"cut off")
    messages = damaged_checkpoints(tmp_path)
    assert len(messages) == 1 and "broken" in messages[0] and "config.json" in messages[0]
    assert "Left out: the checkpoint" in cards({}, "", messages)
