"""Checkpoints pulled by name over HTTP: progress, the new name, every refusal in words, and an end on request."""

from __future__ import annotations

import http.client
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from gpt.checkpoint import list_checkpoints
from tests.fake_backend import FakeBackend
from tests.fake_page import make_catalogue, save_random_checkpoint, served
from tests.gpt.hub.test_transformers_import import SHAKESPEARE, save_gpt2
from tests.hostile_zip import files_of
from tests.loopback_hub import LoopbackHub

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    root = tmp_path_factory.mktemp("checkpoints")
    with served(make_catalogue(root, {"laptop": FakeBackend("laptop")})) as address:
        yield urlsplit(address).netloc, root


@pytest.fixture
def root(server: tuple[str, Path]) -> Iterator[Path]:
    before = set(server[1].iterdir())
    yield server[1]
    for path in set(server[1].iterdir()) - before:
        shutil.rmtree(path)


def connect(server: tuple[str, Path], name: str, headers: dict[str, str] = JSON) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection(server[0], timeout=30)
    connection.request("POST", f"/checkpoints/hub?name={quote(name)}", b"", headers)
    return connection


def ask(server: tuple[str, Path], name: str, headers: dict[str, str] = JSON) -> tuple[int, list[dict[str, Any]]]:
    connection = connect(server, name, headers)
    try:
        answer = connection.getresponse()
        return answer.status, [json.loads(line) for line in answer.read().splitlines()]
    finally:
        connection.close()


def test_checkpoint_is_pulled_with_progress(
    server: tuple[str, Path], root: Path, loopback: LoopbackHub, tmp_path: Path
) -> None:
    files = files_of(save_random_checkpoint(tmp_path / "tiny", nats=1.5))
    loopback.add("someone/tiny", files, private=True)
    status, lines = ask(server, " someone/tiny ")
    assert status == 200 and lines[-1] == {"name": "tiny"}
    total = sum(map(len, files.values()))
    assert lines[-2] == {"received": total, "total": total}
    assert files_of(root / "tiny") == files


def test_gpt2_is_brought_by_name(server: tuple[str, Path], root: Path, loopback: LoopbackHub, tmp_path: Path) -> None:
    save_gpt2(tmp_path / "theirs")
    files = {path.name: path.read_bytes() for path in (tmp_path / "theirs").iterdir()}
    loopback.add("openai-community/gpt2", files | {"merges.txt": (SHAKESPEARE / "vocab.bpe").read_bytes()})
    assert ask(server, "gpt2")[1][-1] == {"name": "gpt2"}
    assert "gpt2" in [info.name for info in list_checkpoints(root)]


def test_refusals_are_in_words_and_leave_nothing(server: tuple[str, Path], root: Path, loopback: LoopbackHub) -> None:
    loopback.add("someone/pickled", {"pytorch_model.bin": b"x", "config.json": b"{}"})
    before = sorted(root.iterdir())
    for name, words in {
        "someone/nothing": "The model someone/nothing cannot be listed: the Hub has no such repository",
        "someone/pickled": "is never opened",
        "<b>/../x": "is no name of a repository",
        "": "is no name of a repository",
    }.items():
        status, lines = ask(server, name)
        assert status == 200 and words in lines[-1]["error"], name
    assert ask(server, "gpt2", {"Content-Type": "text/plain"})[0] == 415
    assert sorted(root.iterdir()) == before


def test_who_hangs_up_stops_it_and_the_next_may_pull(
    server: tuple[str, Path], root: Path, loopback: LoopbackHub, tmp_path: Path
) -> None:
    loopback.add("someone/tiny", files_of(save_random_checkpoint(tmp_path / "tiny")))
    loopback.pieces_s = 0.2
    before = sorted(root.iterdir())
    connection = connect(server, "someone/tiny")
    answer = connection.getresponse()
    assert json.loads(answer.readline())["total"]
    assert ask(server, "someone/tiny")[0] == 503
    answer.close()
    connection.close()
    while (found := ask(server, "someone/nothing"))[0] == 503:
        time.sleep(0.1)
    loopback.pieces_s = 0.0
    assert "error" in found[1][-1]
    assert sorted(root.iterdir()) == before
