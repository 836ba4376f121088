"""The checkpoints that texts are compared with: loaded once, exchanged, freed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gpt.completion import CompletionRequest
from gpt.errors import BackendClosedError, CheckpointError
from gpt.ui.other_models import OtherModels
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
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    return [tmp_path / "a", tmp_path / "b", tmp_path / "c"]


def request(tokens: int = 5) -> CompletionRequest:
    return CompletionRequest(prompt="O", max_new_tokens=tokens, seed=0)


def text(others: OtherModels, folder: Path) -> str:
    return "".join(chunk.text for chunk in others.stream(folder, request()))


def test_a_checkpoint_is_loaded_when_it_is_first_asked_and_kept(folders: list[Path]) -> None:
    load = Loader()
    others = OtherModels(load)
    others.watch("visitor", compares=True)
    assert load.loaded == []
    assert text(others, folders[0]) == text(others, folders[0]) == load.loaded[0].text(0, 5)
    assert len(load.loaded) == 1 and not load.loaded[0].closed


def test_another_one_takes_its_place_and_texts_under_way_finish(folders: list[Path]) -> None:
    load = Loader()
    others = OtherModels(load)
    stream = others.stream(folders[0], request(8))
    first = next(stream).text
    text(others, folders[1])
    text(others, folders[2])
    assert [backend.name for backend in load.loaded] == ["a", "b", "c"] and not load.loaded[0].closed
    assert first + "".join(chunk.text for chunk in stream) == load.loaded[0].text(0, 8)
    assert [backend.closed for backend in load.loaded] == [True, False, False]


def test_two_are_kept_and_the_one_not_asked_for_longest_goes(folders: list[Path]) -> None:
    load = Loader()
    others = OtherModels(load)
    for n in (0, 1, 0, 1, 0, 2, 0):
        text(others, folders[n])
    assert [backend.name for backend in load.loaded] == ["a", "b", "c"]
    assert [backend.closed for backend in load.loaded] == [False, True, False]


def test_a_replaced_checkpoint_is_loaded_anew(folders: list[Path]) -> None:
    load = Loader()
    others = OtherModels(load)
    text(others, folders[0])
    os.utime(folders[0], (1, 1))  # as when a run's best gives way to a better one
    text(others, folders[0])
    assert len(load.loaded) == 2 and load.loaded[0].closed


def test_the_last_visitor_who_stops_comparing_frees_it(folders: list[Path]) -> None:
    load = Loader()
    others = OtherModels(load)
    for visitor in ("one", "two"):
        others.watch(visitor, compares=True)
    stream = others.stream(folders[0], request(8))
    next(stream)
    others.watch("one", compares=False)
    others.watch("unknown", compares=False)
    text(others, folders[0])
    assert len(load.loaded) == 1
    others.watch("two", compares=False)
    assert not load.loaded[0].closed, "a text was under way"
    stream.close()
    assert load.loaded[0].closed and load.loaded[0].active == 0
    text(others, folders[0])
    assert len(load.loaded) == 2


def test_a_failed_load_leaves_the_one_at_hand(folders: list[Path]) -> None:
    load = Loader()
    others = OtherModels(load)
    text(others, folders[0])
    with pytest.raises(CheckpointError, match="there is no checkpoint none"):
        text(others, folders[0].with_name("none"))
    text(others, folders[0])
    assert len(load.loaded) == 1


def test_closing_ends_texts_under_way(folders: list[Path]) -> None:
    load = Loader()
    others = OtherModels(load)
    stream = others.stream(folders[0], request(8))
    next(stream)
    others.close()
    others.close()
    with pytest.raises(BackendClosedError):
        list(stream)
    assert load.loaded[0].closed and load.loaded[0].active == 0
