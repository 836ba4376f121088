"""The checkpoint that texts are compared with: loaded once, exchanged, freed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gpt.completion import CompletionRequest
from gpt.errors import BackendClosedError, CheckpointError
from gpt.ui.second_model import SecondModel
from tests.fake_backend import FakeBackend


class Loader:
    """Makes a fake backend of each folder, and keeps them."""

    def __init__(self) -> None:
        self.loaded: list[FakeBackend] = []

    def __call__(self, folder: Path) -> FakeBackend:
        if not folder.is_dir():
            raise CheckpointError(f"there is no checkpoint {folder.name}")
        self.loaded.append(FakeBackend(folder.name))
        return self.loaded[-1]


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    return [tmp_path / "a", tmp_path / "b"]


def request(tokens: int = 5) -> CompletionRequest:
    return CompletionRequest(prompt="O", max_new_tokens=tokens, seed=0)


def text(second: SecondModel, folder: Path) -> str:
    return "".join(chunk.text for chunk in second.stream(folder, request()))


def test_a_checkpoint_is_loaded_when_it_is_first_asked_and_kept(folders: list[Path]) -> None:
    load = Loader()
    second = SecondModel(load)
    second.watch("visitor", compares=True)
    assert load.loaded == []
    assert text(second, folders[0]) == text(second, folders[0]) == load.loaded[0].text(0, 5)
    assert len(load.loaded) == 1 and not load.loaded[0].closed


def test_another_one_takes_its_place_and_texts_under_way_finish(folders: list[Path]) -> None:
    load = Loader()
    second = SecondModel(load)
    stream = second.stream(folders[0], request(8))
    first = next(stream).text
    text(second, folders[1])
    assert [backend.name for backend in load.loaded] == ["a", "b"] and not load.loaded[0].closed
    assert first + "".join(chunk.text for chunk in stream) == load.loaded[0].text(0, 8)
    assert load.loaded[0].closed and not load.loaded[1].closed


def test_a_replaced_checkpoint_is_loaded_anew(folders: list[Path]) -> None:
    load = Loader()
    second = SecondModel(load)
    text(second, folders[0])
    os.utime(folders[0], (1, 1))  # as when a run's best gives way to a better one
    text(second, folders[0])
    assert len(load.loaded) == 2 and load.loaded[0].closed


def test_the_last_visitor_who_stops_comparing_frees_it(folders: list[Path]) -> None:
    load = Loader()
    second = SecondModel(load)
    for visitor in ("one", "two"):
        second.watch(visitor, compares=True)
    stream = second.stream(folders[0], request(8))
    next(stream)
    second.watch("one", compares=False)
    second.watch("unknown", compares=False)
    text(second, folders[0])
    assert len(load.loaded) == 1
    second.watch("two", compares=False)
    assert not load.loaded[0].closed, "a text was under way"
    stream.close()
    assert load.loaded[0].closed and load.loaded[0].active == 0
    text(second, folders[0])
    assert len(load.loaded) == 2


def test_a_failed_load_leaves_the_one_at_hand(folders: list[Path]) -> None:
    load = Loader()
    second = SecondModel(load)
    text(second, folders[0])
    with pytest.raises(CheckpointError, match="there is no checkpoint none"):
        text(second, folders[0].with_name("none"))
    text(second, folders[0])
    assert len(load.loaded) == 1


def test_closing_ends_texts_under_way(folders: list[Path]) -> None:
    load = Loader()
    second = SecondModel(load)
    stream = second.stream(folders[0], request(8))
    next(stream)
    second.close()
    second.close()
    with pytest.raises(BackendClosedError):
        list(stream)
    assert load.loaded[0].closed and load.loaded[0].active == 0
