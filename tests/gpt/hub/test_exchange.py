"""Checkpoints pushed, pulled and imported with the real client, against a hub on this machine."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from gpt.checkpoint_info import FILES, read_info
from gpt.checkpoint_store import CheckpointStore
from gpt.errors import CheckpointError, CheckpointNameError, GPTError, HubError
from gpt.hub.exchange import bring_checkpoint, import_checkpoint, pull_checkpoint, push_checkpoint
from gpt.hub.repository import Hub
from tests.fake_page import save_random_checkpoint
from tests.gpt.hub.test_transformers_import import SHAKESPEARE, save_gpt2
from tests.hostile_zip import Files, changed, files_of
from tests.loopback_hub import TOKEN, LoopbackHub

# The library's own, about how it hands a file to what sends it.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
LAPTOP = SHAKESPEARE.parent / "laptop"


@pytest.fixture
def hub(loopback: LoopbackHub, tmp_path: Path) -> Hub:
    return Hub(loopback.endpoint, TOKEN, tmp_path / "cache")


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    (tmp_path / "checkpoints").mkdir()
    return CheckpointStore(tmp_path / "checkpoints")


@pytest.fixture
def good(tmp_path: Path) -> Files:
    """The files of a small checkpoint."""
    return files_of(save_random_checkpoint(tmp_path / "good", nats=1.5, steps=9))


def everything(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def test_pulled_checkpoint_is_what_was_pushed(loopback: LoopbackHub, hub: Hub, store: CheckpointStore) -> None:
    address = push_checkpoint(hub, read_info(LAPTOP), "someone/verse", license="mit")
    assert address.startswith(f"{loopback.endpoint}/someone/verse/commit/")
    assert pull_checkpoint(hub, store, "someone/verse") == "verse"
    assert files_of(store.root / "verse") == files_of(LAPTOP)
    assert everything(store.root) == ["verse"]
    assert pull_checkpoint(hub, store, "someone/verse") == "verse-2"
    assert pull_checkpoint(hub, store, "someone/verse", name="mine") == "mine"


def test_card_has_metadata_and_figures(loopback: LoopbackHub, hub: Hub) -> None:
    from huggingface_hub import ModelCard

    push_checkpoint(hub, read_info(LAPTOP), "someone/verse", license="mit")
    text = loopback.files("someone/verse")["README.md"].decode()
    data: Any = ModelCard(text).data
    assert (data.license, data.pipeline_tag) == ("mit", "text-generation")
    figures = {result.metric_name: result.metric_value for result in data.eval_results}
    record = read_info(LAPTOP).record
    assert figures == {f"nats per character, {name}": value for name, value in record.nats_per_character.items()}
    assert text.endswith((LAPTOP / "README.md").read_text(encoding="utf-8"))


def test_checkpoint_without_a_card_gets_one(loopback: LoopbackHub, hub: Hub, tmp_path: Path) -> None:
    push_checkpoint(hub, read_info(save_random_checkpoint(tmp_path / "plain")), "someone/plain")
    text = loopback.files("someone/plain")["README.md"].decode()
    assert "# plain\n" in text and "license" not in text and "model-index" not in text


def test_push_replaces_what_an_earlier_one_left(loopback: LoopbackHub, hub: Hub) -> None:
    push_checkpoint(hub, read_info(SHAKESPEARE), "someone/verse")
    push_checkpoint(hub, read_info(LAPTOP), "someone/verse", message="smaller")
    assert sorted(loopback.files("someone/verse")) == sorted([".gitattributes", *(FILES[i] for i in (0, 1, 2, 4, 5))])
    assert [message for _, message, _ in loopback.repositories["models", "someone/verse"].commits] == [
        "files",
        "Push shakespeare",
        "smaller",
    ]


def test_revision_is_pulled_as_it_was(loopback: LoopbackHub, hub: Hub, store: CheckpointStore, good: Files) -> None:
    first = loopback.add("someone/tiny", good).commits[0][0]
    loopback.repositories["models", "someone/tiny"].commit({"README.md": b"gone"})
    assert pull_checkpoint(hub, store, "someone/tiny", revision=first) == "tiny"
    with pytest.raises(HubError, match=r"is no checkpoint|has no model\.safetensors"):
        pull_checkpoint(hub, store, "someone/tiny")


def test_private_repository_needs_the_token(
    loopback: LoopbackHub, hub: Hub, store: CheckpointStore, tmp_path: Path
) -> None:
    push_checkpoint(hub, read_info(LAPTOP), "someone/mine", private=True)
    stranger = Hub(loopback.endpoint, "hf_other", tmp_path / "other")
    with pytest.raises(HubError, match="no such repository, or not for this account; set HF_TOKEN"):
        pull_checkpoint(stranger, store, "someone/mine")
    assert pull_checkpoint(hub, store, "someone/mine") == "mine"


def test_progress_is_told_and_can_stop(loopback: LoopbackHub, hub: Hub, store: CheckpointStore, good: Files) -> None:
    loopback.add("someone/tiny", good)
    told: list[tuple[int, int]] = []
    pull_checkpoint(hub, store, "someone/tiny", progress=lambda done, total: told.append((done, total)))
    total = sum(len(content) for content in good.values())
    assert told[-1] == (total, total) and all(a <= b for (a, _), (b, _) in itertools.pairwise(told))

    class Stopped(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        pull_checkpoint(hub, store, "someone/tiny", progress=stop)
    assert everything(store.root) == ["tiny"]


def test_broken_connection_is_taken_up_again(
    loopback: LoopbackHub, hub: Hub, store: CheckpointStore, good: Files
) -> None:
    loopback.add("someone/tiny", good)
    loopback.cut = {"model.safetensors"}
    assert pull_checkpoint(hub, store, "someone/tiny") == "tiny"
    assert files_of(store.root / "tiny") == good


def test_damaged_file_is_refused_and_not_kept(
    loopback: LoopbackHub, hub: Hub, store: CheckpointStore, good: Files
) -> None:
    loopback.add("someone/tiny", good)
    loopback.damaged = {"model.safetensors"}
    with pytest.raises(HubError, match=r"model\.safetensors of someone/tiny arrived damaged .* try again"):
        pull_checkpoint(hub, store, "someone/tiny")
    assert everything(store.root) == []
    loopback.damaged.clear()
    assert pull_checkpoint(hub, store, "someone/tiny") == "tiny"


@pytest.mark.parametrize("path", ["../escape.json", "/etc/passwd", "a/../../b", "..\\b", "C:\\b", "a\nb"])
def test_listing_that_leaves_its_folder_is_refused(
    loopback: LoopbackHub, hub: Hub, store: CheckpointStore, good: Files, path: str
) -> None:
    loopback.add("someone/tiny", good)
    loopback.lists = [{"type": "file", "path": path, "size": 1, "oid": "0" * 40}]
    with pytest.raises(HubError, match="which leaves its folder; nothing of it is fetched"):
        pull_checkpoint(hub, store, "someone/tiny")
    assert not [line for line in loopback.asked if "resolve" in line]


def test_only_a_checkpoints_files_are_fetched(
    loopback: LoopbackHub, hub: Hub, store: CheckpointStore, good: Files
) -> None:
    loopback.add("someone/tiny", good | {"evil.py": b"boom", "weights/model.bin": b"boom", "optimizer.pt": b"boom"})
    pull_checkpoint(hub, store, "someone/tiny")
    assert files_of(store.root / "tiny") == good and everything(store.root / "tiny") == sorted(good)
    assert not [line for line in loopback.asked if line.endswith((".py", ".bin", ".pt"))]


def test_what_is_no_checkpoint_is_refused_and_leaves_nothing(
    loopback: LoopbackHub, hub: Hub, store: CheckpointStore, good: Files
) -> None:
    def without(name: str) -> Files:
        return {path: content for path, content in good.items() if path != name}

    cases: dict[str, tuple[Files, str]] = {
        "pickled": (without("model.safetensors") | {"pytorch_model.bin": b"x"}, "a pickle, which can run any code"),
        "lacking": (without("tokenizer.json"), "is no checkpoint of this project: it has no tokenizer.json"),
        "disguised": (good | {"model.safetensors": b"PK\x03\x04" + b"0" * 64}, "is a pickle, as torch.save writes it"),
        "mismatched": (changed(good, "config.json", lambda c: c.update(num_layers=2)), "lacks weights"),
        "unknown": (changed(good, "config.json", lambda c: c.update(code="x")), "has unknown fields code"),
        "talkative": (good | {"record.json": b" " * 4_000_001}, "has 4,000,001 bytes; 4,000,000 are allowed"),
    }
    for name, (files, words) in cases.items():
        loopback.add(f"someone/{name}", files)
        with pytest.raises(GPTError, match=words):
            pull_checkpoint(hub, store, f"someone/{name}")
        assert everything(store.root) == []


def test_names_are_checked(loopback: LoopbackHub, hub: Hub, store: CheckpointStore, good: Files) -> None:
    loopback.add("someone/tiny", good)
    for name in ("a/b/c", "-x", "some one/x", "../x"):
        with pytest.raises(HubError, match=r"is no name of a repository|no such repository"):
            pull_checkpoint(hub, store, name)
    with pytest.raises(HubError, match="no such revision"):
        pull_checkpoint(hub, store, "someone/tiny", revision="nope")
    with pytest.raises(CheckpointNameError):
        pull_checkpoint(hub, store, "someone/tiny", name="../x")
    pull_checkpoint(hub, store, "someone/tiny", name="x")
    with pytest.raises(CheckpointError, match="is taken"):
        pull_checkpoint(hub, store, "someone/tiny", name="x")


def test_refusals_are_in_words(loopback: LoopbackHub, hub: Hub, store: CheckpointStore, good: Files) -> None:
    info = read_info(LAPTOP)
    with pytest.raises(HubError, match=r"answered 401 .*no token, or one that is not known; set HF_TOKEN"):
        push_checkpoint(Hub(loopback.endpoint, "hf_other"), info, "someone/verse")
    with pytest.raises(HubError, match=r"answered 403 .*the token may not do this"):
        push_checkpoint(hub, info, "somebody-else/verse")
    loopback.add("someone/gated", good, gated=True)
    with pytest.raises(HubError, match="lets in only who asked"):
        pull_checkpoint(Hub(loopback.endpoint, "hf_other"), store, "someone/gated")
    with pytest.raises(HubError, match=r"cannot be reached \(.*\); try again with a network"):
        pull_checkpoint(Hub("http://127.0.0.1:9", TOKEN), store, "someone/tiny")


def test_gpt2_is_imported_by_either_name(
    loopback: LoopbackHub, hub: Hub, store: CheckpointStore, tmp_path: Path
) -> None:
    save_gpt2(tmp_path / "theirs")
    merges = (SHAKESPEARE / "vocab.bpe").read_bytes()
    files = {path.name: path.read_bytes() for path in (tmp_path / "theirs").iterdir()} | {"merges.txt": merges}
    loopback.add("openai-community/gpt2", files | {"pytorch_model.bin": b"boom", "64.tflite": b"boom"})
    assert import_checkpoint(hub, store, "gpt2") == "gpt2"
    assert import_checkpoint(hub, store, "openai-community/gpt2") == "gpt2-2"
    assert bring_checkpoint(hub, store, "gpt2", tiktoken_cache=None) == "gpt2-3"
    assert "openai-community/gpt2 of the Hugging Face Hub" in (store.root / "gpt2" / "README.md").read_text()
    assert not [line for line in loopback.asked if "pytorch_model" in line]
    with pytest.raises(HubError, match=r"in transformers' format; bring it in with python -m gpt\.hub import openai"):
        pull_checkpoint(hub, store, "gpt2")


def test_checkpoint_is_brought_by_what_it_is(
    loopback: LoopbackHub, hub: Hub, store: CheckpointStore, good: Files
) -> None:
    loopback.add("someone/tiny", good)
    assert bring_checkpoint(hub, store, "someone/tiny", tiktoken_cache=None) == "tiny"
    with pytest.raises(HubError, match=r"use python -m gpt\.hub pull someone/tiny"):
        import_checkpoint(hub, store, "someone/tiny")
