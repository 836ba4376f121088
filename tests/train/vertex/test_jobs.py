"""Following a job: each line of its run's log is told once."""

from __future__ import annotations

from typing import Any, cast

from gpt.errors import ServiceUnavailableError
from gpt.vertex.bucket import Storage
from train.vertex.jobs import _Log


class GrowingObject:
    """An object that holds one content after the other; None is no object, an error a bucket that fails."""

    def __init__(self, *contents: Any) -> None:
        self._contents = list(contents)

    def read(self, address: str) -> bytes | None:
        content = self._contents.pop(0)
        if isinstance(content, Exception):
            raise content
        return cast("bytes | None", content)


def _told(*contents: Any) -> list[list[str]]:
    log = _Log(cast("Storage", GrowingObject(*contents)), "gs://my-bucket/train.log")
    return [log.news() for _ in contents]


def test_every_line_is_told_once() -> None:
    assert _told(None, b"", b"one\ntwo\n", b"one\ntwo\n", b"one\ntwo\nthree\n") == [
        [],
        [],
        ["one", "two"],
        [],
        ["three"],
    ]


def test_line_is_told_when_it_is_whole() -> None:
    assert _told(b"one\ntw", b"one\ntwo\nthr", b"one\ntwo\nthree\n") == [["one"], ["two"], ["three"]]


def test_bucket_that_fails_loses_no_line() -> None:
    broken = ServiceUnavailableError("the bucket cannot be reached now")
    assert _told(b"one\n", broken, b"one\ntwo\n") == [["one"], [], ["two"]]


def test_log_of_a_machine_that_went_on_from_an_earlier_state_is_told_from_there() -> None:
    assert _told(b"one\ntwo\nthree\n", b"one\n", b"one\nagain\n") == [["one", "two", "three"], [], ["again"]]
