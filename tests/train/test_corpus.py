"""Corpora: by name or path, verified, fetched once, refused in words."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import train.corpus
from gpt.errors import CorpusError
from train.corpus import SHAKESPEARE_SHA256, SHAKESPEARE_URL, Corpus, load_corpus

DATA = Path(__file__).parents[2] / "data"
SMALL = b"First Citizen:\nBefore we proceed any further, hear me speak.\n"


@pytest.fixture
def small_shakespeare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a short text stand for Tiny Shakespeare."""
    monkeypatch.setattr(train.corpus, "SHAKESPEARE_SHA256", hashlib.sha256(SMALL).hexdigest())
    monkeypatch.setattr(train.corpus, "SHAKESPEARE_BYTES", len(SMALL))


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes | Exception], list[str]]:
    """Make downloads give these bytes, or fail so; the addresses that were asked for are in the list."""

    def answer(content: bytes | Exception) -> list[str]:
        asked: list[str] = []

        def download(url: str, *, sha256: str, progress: Callable[[int], None]) -> bytes:
            asked.append(url)
            assert sha256 == train.corpus.SHAKESPEARE_SHA256
            if isinstance(content, Exception):
                raise content
            progress(len(content))
            return content

        monkeypatch.setattr(train.corpus, "download", download)
        return asked

    return answer


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_sonnets_are_bundled() -> None:
    corpus = load_corpus("sonnets", DATA)
    assert corpus.name == "sonnets"
    assert corpus.text.encode() == (DATA / "sonnets.txt").read_bytes()


def test_shakespeare_splits_as_published() -> None:
    if not (DATA / "shakespeare.txt").exists():
        pytest.skip("data/shakespeare.txt is not there; it is fetched by the first training on it")
    corpus = load_corpus("shakespeare", DATA)
    assert corpus.sha256 == SHAKESPEARE_SHA256
    assert [len(part) for part in corpus.split()] == [1_003_854, 111_540]
    assert len(set(corpus.text)) == 65 and corpus.text.count("\n") == 40_000


def test_shakespeare_is_fetched_once(
    tmp_path: Path, small_shakespeare: None, serve: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = serve(SMALL)
    first = load_corpus("shakespeare", tmp_path / "new" / "data")
    assert load_corpus("shakespeare", tmp_path / "new" / "data") == first
    assert first == Corpus("shakespeare", SMALL.decode(), hashlib.sha256(SMALL).hexdigest())
    assert asked == [SHAKESPEARE_URL]
    assert os.listdir(tmp_path / "new" / "data") == ["shakespeare.txt"]
    captured = capsys.readouterr()
    assert "Fetching Tiny Shakespeare: 100%" in captured.err and captured.out == ""


def test_shakespeare_put_in_place_by_hand_is_used_without_asking(
    tmp_path: Path, small_shakespeare: None, serve: Any
) -> None:
    asked = serve(OSError("no network"))
    write(tmp_path / "shakespeare.txt", SMALL)
    assert load_corpus("shakespeare", tmp_path).text == SMALL.decode()
    assert asked == []


def test_shakespeare_without_a_network_says_what_to_do(tmp_path: Path, serve: Any) -> None:
    serve(OSError("Name or service not known"))
    with pytest.raises(CorpusError) as caught:
        load_corpus("shakespeare", tmp_path)
    message = str(caught.value)
    assert SHAKESPEARE_URL in message and "Name or service not known" in message
    assert f"save it as {tmp_path / 'shakespeare.txt'}" in message
    assert "--data sonnets" in message
    assert os.listdir(tmp_path) == []


def test_shakespeare_of_another_content_is_refused_with_both_hashes(tmp_path: Path) -> None:
    write(tmp_path / "shakespeare.txt", SMALL)
    with pytest.raises(CorpusError) as caught:
        load_corpus("shakespeare", tmp_path)
    message = str(caught.value)
    assert hashlib.sha256(SMALL).hexdigest() in message and SHAKESPEARE_SHA256 in message
    assert "61 bytes" in message and "1,115,394 bytes" in message and "delete it" in message


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_shakespeare_is_never_left_half_written(
    tmp_path: Path, small_shakespeare: None, serve: Any, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    serve(SMALL)

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(CorpusError, match=r"shakespeare.txt cannot be written \(No space left on device\)"):
        load_corpus("shakespeare", tmp_path)
    assert os.listdir(tmp_path) == []


def test_file_of_ones_own_loses_its_mark_and_its_line_ends(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.txt", b"\xef\xbb\xbfna\xc3\xafve\r\none\rtwo\n")
    corpus = load_corpus(path, DATA)
    assert corpus.name == "mine.txt"
    assert corpus.text == "naïve\none\ntwo\n"
    assert corpus.sha256 == hashlib.sha256("naïve\none\ntwo\n".encode()).hexdigest()
    assert load_corpus(str(path), DATA) == corpus


def test_name_wins_over_a_file_that_a_path_still_reaches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "sonnets", b"mine")
    assert len(load_corpus("sonnets", DATA).text) > 4
    assert load_corpus("./sonnets", DATA).text == "mine"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf \r\n\n", "is empty"),
        (b"abc", "is too short: it has 3 characters, and training needs 10 at least"),
        (b"caf\xe9 au lait", "is not UTF-8: the byte 0xe9 at position 3, counted from 0"),
        (b"\xef\xbb\xbfcaf\xe9", "is not UTF-8: the byte 0xe9 at position 6, counted from 0"),
        ("text in Windows' Unicode".encode("utf-16"), "is in UTF-16, not UTF-8"),
        (b"PK\x03\x04\x00 and so on", "is not a text: it has a null byte at position 4"),
    ],
)
def test_file_that_is_no_good_text_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = write(tmp_path / "mine.txt", content)
    with pytest.raises(CorpusError, match=f"the corpus {path} {message}"):
        load_corpus(path, DATA, min_characters=10)


def test_file_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CorpusError, match=r"none.txt is not there; give the path .* one of shakespeare, sonnets"):
        load_corpus(tmp_path / "none.txt", DATA)
    with pytest.raises(CorpusError, match="is a folder; give the path of one UTF-8 text file"):
        load_corpus(tmp_path, DATA)
    with pytest.raises(CorpusError, match="cannot be read"):
        load_corpus("a\0b", DATA)

    def refuse(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(CorpusError, match=r"cannot be read \(Permission denied\)"):
        load_corpus(tmp_path / "secret.txt", DATA)


def test_split_cuts_at_whole_characters_and_refuses_empty_parts() -> None:
    corpus = Corpus("c", "naïve 日本語!", "")
    assert corpus.split() == ("naïve 日本語", "!")
    assert corpus.split(0.55) == ("naïve", " 日本語!")
    for fraction in (0.0, 1.0, 0.05, -0.5):
        with pytest.raises(CorpusError, match=f"cannot be split at the fraction {fraction}: "):
            corpus.split(fraction)
