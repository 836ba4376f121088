"""Texts that visitors bring: kept as they are learnt, or refused in words with nothing written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

import train.texts
from gpt.errors import CorpusError
from train.corpus import load_corpus
from train.texts import TextStore

GOOD = "Shall I compare thee to a summer's day? Thou art more lovely and more temperate.\n" * 5


@pytest.fixture
def store(tmp_path: Path) -> TextStore:
    return TextStore(tmp_path / "texts")


def write(folder: Path, content: bytes, name: str = "upload.txt") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def test_text_is_kept_as_it_will_be_learnt(store: TextStore, tmp_path: Path) -> None:
    assert store.names() == []
    name = store.add(write(tmp_path, b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode()), "My Poems (1).txt")
    assert name == "My-Poems-1" and store.names() == [name]
    assert load_corpus(store.path(name), tmp_path).text == GOOD


def test_same_text_is_kept_once_and_another_gets_a_name_of_its_own(store: TextStore, tmp_path: Path) -> None:
    first, other = write(tmp_path, GOOD.encode(), "a"), write(tmp_path, GOOD.upper().encode(), "b")
    assert [store.add(file, "poem.txt") for file in (first, first, other, other)] == [
        "poem",
        "poem",
        "poem-2",
        "poem-2",
    ]
    assert store.names() == ["poem", "poem-2"]


@pytest.mark.parametrize("wish", ["../../etc/passwd", "...", "/", "", "  ", ".hidden.txt", "a" * 300])
def test_name_never_leaves_the_folder(store: TextStore, tmp_path: Path, wish: str) -> None:
    name = store.add(write(tmp_path, GOOD.encode()), wish)
    assert store.path(name).resolve().parent == store.root.resolve()
    assert store.names() == [name] and len(name) <= 48


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"twenty bytes of text", "is too short: it has 20 characters"),
        ("Le caf\u00e9. ".encode("latin-1") * 30, "is not UTF-8: the byte 0xe9 at position 6"),
        (bytes(range(256)) * 10, "is not UTF-8"),
        (b"text with a null \0 in it" * 20, "it has a null byte at position 17"),
        (GOOD.encode("utf-16"), "is in UTF-16, not UTF-8"),
        (b"\n \t\n" * 100, "is empty"),
    ],
)
def test_what_is_no_text_is_refused_and_not_kept(store: TextStore, tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(CorpusError, match=f"the text my poem.txt .*{words}"):
        store.add(write(tmp_path, content), "my poem.txt")
    assert not store.root.exists()


def test_text_that_is_too_large_is_refused(store: TextStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train.texts, "MAX_BYTES", 100)
    with pytest.raises(
        CorpusError, match="the text has 405 bytes; give at most 100, or train on it with python -m train"
    ):
        store.add(write(tmp_path, GOOD.encode()), "upload.txt")


def test_full_disk_leaves_nothing_half_written(
    store: TextStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(CorpusError, match=r"cannot be kept.*No space left on device"):
        store.add(write(tmp_path, GOOD.encode()), "upload.txt")
    assert list(store.root.iterdir()) == []
