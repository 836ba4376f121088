"""Data sets of a hub on this machine: which files, which part, the same text; verified, and known afterwards."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from gpt.errors import CorpusError
from gpt.hub.repository import Hub
from tests.loopback_hub import Files, LoopbackHub
from train import hub_text
from train.hub_name import HubName, is_hub_name
from train.hub_text import HubText, pinned

TEXT = "The cat sat on the mat, and the dog looked on.\n" * 40


def lines(*rows: Any) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


def table(**columns: list[Any]) -> bytes:
    import pyarrow
    from pyarrow import parquet

    file = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), file)
    return file.getvalue()


def opened(loopback: LoopbackHub, tmp_path: Path, files: Files, name: str = "hf:someone/tales") -> HubText:
    loopback.add("someone/tales", files, "datasets")
    return HubText.open(pinned(name, tmp_path / "data", Hub()), tmp_path / "data", Hub())


def whole(text: HubText) -> str:
    return "".join(text.training_pieces(text.source.train_characters))


@pytest.mark.parametrize(
    ("data", "parts", "slug"),
    [
        ("hf:someone/tales", ("someone/tales", "", ""), "someone--tales@"),
        ("hf:wikitext", ("wikitext", "", ""), "wikitext@"),
        ("hf:a/b/sample/10BT", ("a/b", "sample/10BT", ""), "a--b--sample--10BT@"),
        ("hf:a/b@main", ("a/b", "", "main"), "a--b@main"),
        ("hf:a/b/c.txt@refs/convert/parquet", ("a/b", "c.txt", "refs/convert/parquet"), "a--b--c.txt@refs/convert"),
    ],
)
def test_name_has_repository_folder_and_revision(data: str, parts: tuple[str, str, str], slug: str) -> None:
    name = HubName.parse(data)
    assert (name.repository, name.folder, name.revision) == parts
    assert str(name) == data and name.slug == slug and is_hub_name(data)


@pytest.mark.parametrize("data", ["hf:", "hf:a/../b", "hf:../a", "hf:a/b@", "hf:a b/c", "hf:/a/b", "hf:a/b/../../c"])
def test_other_names_are_refused(data: str) -> None:
    with pytest.raises(CorpusError, match="is no name of a data set; give hf:OWNER/NAME"):
        HubName.parse(data)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"a.txt": "\ufeffone\r\ntwo\rthree".encode()}, "one\ntwo\nthree"),
        ({"b.txt": b"second", "a.txt": b"first", "README.md": b"x"}, "first\n\nsecond"),
        ({"a.jsonl": lines({"text": "one", "id": "7"}, {"text": "two", "id": "8"})}, "one\n\ntwo"),
        ({"a.jsonl": lines("one", "tw\ud83do") + b"\n\n"}, "one\n\ntw?o"),
        ({"a.jsonl": lines({"content": "one", "stars": 3})}, "one"),
        ({"a.parquet": table(text=["one", None, "two\r\nlines"], label=[1, 2, 3])}, "one\n\ntwo\nlines"),
        ({"a.txt": b"small", "a.jsonl": lines({"text": "the larger kind"})}, "the larger kind"),
        ({"data/train-0.txt": b"train", "data/test-0.txt": b"test", "data/valid.txt": b"valid"}, "train"),
    ],
)
def test_text_is_that_of_the_training_files(loopback: LoopbackHub, tmp_path: Path, files: Files, expected: str) -> None:
    text = opened(loopback, tmp_path, files)
    assert whole(text) == text.beginning(10**9) == expected
    assert text.source.train_characters == len(expected)
    assert text.source.alphabet == "".join(sorted(set(expected + "valid" * ("data/valid.txt" in files))))


def test_folder_is_a_part(loopback: LoopbackHub, tmp_path: Path) -> None:
    files = {"small/a.txt": b"small", "large/a.txt": b"large", "smaller/a.txt": b"smaller"}
    assert whole(opened(loopback, tmp_path, files, "hf:someone/tales/small")) == "small"
    assert whole(opened(loopback, tmp_path, files, "hf:someone/tales/large/a.txt")) == "large"


def test_files_that_validate_do(loopback: LoopbackHub, tmp_path: Path) -> None:
    text = opened(loopback, tmp_path, {"train.txt": b"learn this", "validation.txt": b"score that"})
    end = text.training_end(0.5)
    assert (end, text.validation(end), text.training_tail(end, 4)) == (10, "score that", "this")


def test_end_of_the_text_validates_otherwise(
    loopback: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = opened(loopback, tmp_path, {"a.txt": b"0123456789" * 10})
    assert (end := text.training_end(0.9)) == 90
    assert text.validation(end) == "0123456789" and text.training_tail(end, 3) == "789"
    assert "".join(text.training_pieces(end)) + text.validation(end) == whole(text)
    monkeypatch.setattr(hub_text, "MAX_VALIDATION", 4)
    assert text.training_end(0.9) == 96


def test_text_that_cannot_be_split_is_refused(loopback: LoopbackHub, tmp_path: Path) -> None:
    text = opened(loopback, tmp_path, {"a.txt": b"x"})
    with pytest.raises(CorpusError, match=r"cannot be split at the fraction 0\.9: no training or no validation text"):
        text.training_end(0.9)


def test_prepared_text_asks_nobody_again(loopback: LoopbackHub, tmp_path: Path) -> None:
    first = opened(loopback, tmp_path, {"a.txt": TEXT.encode()})
    loopback.asked.clear()
    again = HubText.open(str(first.name), tmp_path / "data", Hub("http://127.0.0.1:9"))
    assert again.source == first.source and loopback.asked == []


def test_commit_is_learnt_though_the_repository_goes_on(loopback: LoopbackHub, tmp_path: Path) -> None:
    before = opened(loopback, tmp_path, {"a.txt": b"before"}).name
    loopback.repositories["datasets", "someone/tales"].commit({"a.txt": b"after"})
    data = tmp_path / "elsewhere"
    assert whole(HubText.open(str(before), data, Hub())) == "before"
    assert whole(HubText.open(pinned("hf:someone/tales", data, Hub()), data, Hub())) == "after"


def test_damaged_download_is_refused(loopback: LoopbackHub, tmp_path: Path) -> None:
    loopback.damaged = {"a.txt"}
    with pytest.raises(CorpusError, match=r"cannot be had: a\.txt of someone/tales arrived damaged"):
        opened(loopback, tmp_path, {"a.txt": TEXT.encode()})
    loopback.damaged.clear()
    assert whole(opened(loopback, tmp_path, {"a.txt": TEXT.encode()})) == TEXT


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (
            {"README.md": b"x", "a.arrow": b"x"},
            r"has no file that ends in \.txt, \.jsonl, \.parquet \(it has README\.md",
        ),
        ({"test.txt": b"x", "valid.txt": b"y"}, "has files to validate and to test only"),
        ({"a.txt": b"\xff\xfe"}, "is not UTF-8"),
        ({"a.txt": b"a\0b"}, "has a null byte"),
        ({"a.txt": b" \n"}, "is empty"),
        ({"a.jsonl": b'{"text": "one"}\n{"text"'}, "line 2 of .* is not JSON"),
        (
            {"a.jsonl": lines({"title": "a", "body": "b"})},
            r"has no field 'text', and not one text alone \(body, title\)",
        ),
        ({"a.jsonl": lines([1])}, "is list; a text, or an object with one"),
        ({"a.parquet": b"PAR1 no"}, "cannot be read as Parquet"),
        ({"a.parquet": table(label=[1])}, "none that is a text"),
    ],
)
def test_what_will_not_do_is_refused_in_words(loopback: LoopbackHub, tmp_path: Path, files: Files, words: str) -> None:
    with pytest.raises(CorpusError, match=words):
        opened(loopback, tmp_path, files)
    assert not list((tmp_path / "data").rglob("source.json"))


def test_without_the_hub_the_message_names_what_is_here(loopback: LoopbackHub, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no such repository"):
        pinned("hf:someone/nothing", tmp_path / "data", Hub())
    name = opened(loopback, tmp_path, {"a.txt": TEXT.encode()}).name
    with pytest.raises(CorpusError, match=f"cannot be reached .*; or go on with what is here: {name}"):
        pinned("hf:someone/tales", tmp_path / "data", Hub("http://127.0.0.1:9"))
