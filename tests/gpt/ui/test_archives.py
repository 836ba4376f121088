"""Checkpoints over HTTP: down and up as zips, every refusal in words."""

from __future__ import annotations

import http.client
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from gpt.checkpoint_archive import MAX_ARCHIVE_BYTES
from gpt.ui import archives
from gpt.ui.catalogue import Catalogue
from tests.fake_backend import FakeBackend
from tests.fake_page import make_catalogue, served
from tests.hostile_zip import files_of, with_entry, zip_of

ZIP = {"Content-Type": "application/zip"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Catalogue, Path]]:
    root = tmp_path_factory.mktemp("checkpoints")
    catalogue = make_catalogue(root, {"laptop": FakeBackend("laptop")})
    with served(catalogue) as address:
        yield urlsplit(address).netloc, catalogue, root


def ask(
    server: tuple[str, Catalogue, Path], method: str, path: str, body: bytes | None = None, headers: Any = ZIP
) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection(server[0], timeout=30)
    try:
        connection.request(method, path, body, headers if body is not None else {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def refused(answer: tuple[int, http.client.HTTPMessage, bytes], status: int, words: str) -> None:
    assert answer[0] == status
    assert words in json.loads(answer[2])["error"]


def test_a_checkpoint_comes_down_and_goes_up_again(server: tuple[str, Catalogue, Path]) -> None:
    status, headers, body = ask(server, "GET", "/checkpoints/laptop.zip")
    assert status == 200 and headers["Content-Type"] == "application/zip"
    assert headers["Content-Disposition"] == "attachment; filename*=UTF-8''laptop.zip"
    assert int(headers["Content-Length"]) == len(body)
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert archive.testzip() is None and "laptop/model.safetensors" in archive.namelist()

    status, _, answer = ask(server, "POST", "/checkpoints?called=laptop.zip", body)
    assert (status, json.loads(answer)) == (201, {"name": "laptop-2"})
    assert files_of(server[2] / "laptop-2") == files_of(server[2] / "laptop")
    server[1].delete("laptop-2")


@pytest.mark.parametrize("name", ["none", "../laptop", "/etc/passwd", "laptop/config.json", ".", ""])
def test_only_what_is_listed_comes_down(server: tuple[str, Catalogue, Path], name: str) -> None:
    status, headers, body = ask(server, "GET", f"/checkpoints/{quote(name, safe='')}.zip")
    assert status == 404 and headers["Content-Type"].startswith("text/plain")
    assert b"choose one from the list" in body


def test_what_is_no_checkpoint_is_refused_in_words(server: tuple[str, Catalogue, Path]) -> None:
    before = sorted(path.name for path in server[2].iterdir())
    files = files_of(server[2] / "laptop")
    called = quote("<b>.zip")
    refused(ask(server, "POST", f"/checkpoints?called={called}", b"hello"), 400, "<b>.zip is no zip file")
    refused(ask(server, "POST", "/checkpoints?called=a.zip", b""), 400, "a.zip is no zip file")
    refused(
        ask(server, "POST", "/checkpoints", with_entry(files, "../x.json")), 400, "The file has the path '../x.json'"
    )
    refused(ask(server, "POST", "/checkpoints", zip_of(files), {"Content-Type": "text/plain"}), 415, "the zip itself")
    assert sorted(path.name for path in server[2].iterdir()) == before


def test_a_name_in_the_address_leads_nowhere(server: tuple[str, Catalogue, Path]) -> None:
    data = zip_of(files_of(server[2] / "laptop"), top="")
    status, _, answer = ask(server, "POST", f"/checkpoints?called={quote('../../evil.zip', safe='')}", data)
    assert (status, json.loads(answer)) == (201, {"name": "evil"})
    server[1].delete("evil")


def test_one_that_is_too_large_is_refused_before_it_is_sent(server: tuple[str, Catalogue, Path]) -> None:
    connection = http.client.HTTPConnection(server[0], timeout=30)
    connection.putrequest("POST", "/checkpoints?called=big.zip")
    connection.putheader("Content-Type", "application/zip")
    connection.putheader("Content-Length", str(MAX_ARCHIVE_BYTES + 1))
    connection.endheaders(b"PK\x03\x04")
    answer = connection.getresponse()
    assert answer.status == 400 and "big.zip is too large; at most 1.0 GB" in json.loads(answer.read())["error"]
    connection.close()


def test_one_that_grows_too_large_is_refused(
    server: tuple[str, Catalogue, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MAX_ARCHIVE_BYTES", 100_000)
    connection = http.client.HTTPConnection(server[0], timeout=30)
    connection.request("POST", "/checkpoints", iter([b"x" * 60_000] * 2), ZIP, encode_chunked=True)
    answer = connection.getresponse()
    assert answer.status == 400 and "too large" in json.loads(answer.read())["error"]
    connection.close()


def test_a_visitor_who_leaves_frees_the_place_and_a_second_one_is_told_to_wait(
    server: tuple[str, Catalogue, Path], caplog: pytest.LogCaptureFixture
) -> None:
    connection = http.client.HTTPConnection(server[0], timeout=30)
    connection.putrequest("POST", "/checkpoints?called=half.zip")
    connection.putheader("Content-Type", "application/zip")
    connection.putheader("Content-Length", "100000")
    connection.endheaders(b"PK\x03\x04")
    answers = [ask(server, "POST", "/checkpoints", b"x")]
    while b"Another checkpoint" not in answers[-1][2]:  # the first one has perhaps not arrived
        answers.append(ask(server, "POST", "/checkpoints", b"x"))
    refused(answers[-1], 503, "Another checkpoint is being uploaded")
    connection.close()
    while b"Another checkpoint" in answers[-1][2]:
        threading.Event().wait(0.02)
        answers.append(ask(server, "POST", "/checkpoints", b"x"))
    refused(answers[-1], 400, "no zip file")
    assert caplog.text == ""
