"""The checkpoints that the page offers, and which one is live."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gpt.backends.swappable import SwappableBackend
from gpt.completion import BackendInfo, CompletionRequest
from gpt.errors import BackendClosedError, CheckpointError
from gpt.ui.catalogue import Catalogue
from tests.fake_backend import FakeBackend
from tests.fake_page import BROKEN, make_catalogue, save_random_checkpoint


@pytest.fixture
def fakes() -> dict[str, FakeBackend]:
    return {name: FakeBackend(name) for name in ("laptop", "shakespeare")}


@pytest.fixture
def catalogue(tmp_path: Path, fakes: dict[str, FakeBackend]) -> Catalogue:
    return make_catalogue(tmp_path, fakes)


def test_entries_are_the_folders_checkpoints(catalogue: Catalogue) -> None:
    assert list(catalogue.entries()) == [BROKEN, "laptop", "shakespeare"]
    assert catalogue.live() == "laptop"


def test_use_loads_first_and_then_swaps(catalogue: Catalogue, fakes: dict[str, FakeBackend]) -> None:
    catalogue.use("shakespeare")
    assert catalogue.live() == "shakespeare"
    assert catalogue.info().name == "shakespeare"
    assert fakes["laptop"].closed


def test_a_failed_load_changes_nothing(catalogue: Catalogue, fakes: dict[str, FakeBackend]) -> None:
    with pytest.raises(CheckpointError, match="is damaged"):
        catalogue.use(BROKEN)
    assert catalogue.live() == catalogue.info().name == "laptop"
    assert not fakes["laptop"].closed


@pytest.mark.parametrize("name", ["none", "../laptop", "/etc", ""])
def test_only_what_is_on_the_list_can_be_used(catalogue: Catalogue, name: str) -> None:
    with pytest.raises(CheckpointError, match="choose one from the list"):
        catalogue.use(name)


def test_a_backend_that_cannot_be_put_to_use_is_closed(catalogue: Catalogue, fakes: dict[str, FakeBackend]) -> None:
    catalogue.backend.close()
    with pytest.raises(BackendClosedError):
        catalogue.use("shakespeare")
    assert fakes["shakespeare"].closed


def test_a_checkpoint_from_elsewhere_is_offered_too(tmp_path: Path) -> None:
    root = tmp_path / "checkpoints"
    save_random_checkpoint(root / "laptop")
    elsewhere = save_random_checkpoint(tmp_path / "elsewhere" / "laptop")
    other = save_random_checkpoint(tmp_path / "elsewhere" / "other")
    backend = SwappableBackend(FakeBackend())

    catalogue = Catalogue(backend, root, other, lambda folder: FakeBackend(folder.name))
    assert list(catalogue.entries()) == ["other", "laptop"]
    assert catalogue.live() == "other"
    catalogue.use("laptop")
    assert list(catalogue.entries()) == ["other", "laptop"], "the way back is gone"

    catalogue = Catalogue(backend, root, elsewhere, lambda folder: FakeBackend(folder.name))
    assert list(catalogue.entries()) == [str(elsewhere), "laptop"]
    assert catalogue.live() == str(elsewhere)


def test_a_live_checkpoint_may_be_deleted(catalogue: Catalogue, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "laptop")
    assert list(catalogue.entries()) == [BROKEN, "shakespeare"]
    assert catalogue.live() == "laptop"


def test_the_live_one_is_renamed_and_goes_on_serving(
    catalogue: Catalogue, tmp_path: Path, fakes: dict[str, FakeBackend]
) -> None:
    catalogue.rename("laptop", "mine")
    assert catalogue.live() == "mine" and list(catalogue.entries()) == [BROKEN, "mine", "shakespeare"]
    assert not fakes["laptop"].closed
    catalogue.use("shakespeare")
    fakes["mine"] = FakeBackend("mine")
    catalogue.use("mine")
    assert catalogue.live() == "mine"


def test_the_live_one_is_not_deleted_and_others_are(catalogue: Catalogue, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="'laptop' is live; use another one first"):
        catalogue.delete("laptop")
    catalogue.delete("shakespeare")
    assert list(catalogue.entries()) == [BROKEN, "laptop"]
    with pytest.raises(CheckpointError, match="choose one from the list"):
        catalogue.delete("shakespeare")


def test_a_live_run_is_renamed_whole(tmp_path: Path) -> None:
    folder = save_random_checkpoint(tmp_path / "run" / "best")
    catalogue = Catalogue(SwappableBackend(FakeBackend()), tmp_path, folder, lambda folder: FakeBackend(folder.name))
    assert catalogue.live() == "run" and catalogue.runs(catalogue.entries()) == {"run"}
    catalogue.rename("run", "better")
    assert catalogue.live() == "better" and list(catalogue.entries()) == ["better"]
    with pytest.raises(CheckpointError, match="is live"):
        catalogue.delete("better")


def test_what_lies_elsewhere_or_is_shipped_or_busy_is_protected(tmp_path: Path) -> None:
    root = tmp_path / "checkpoints"
    for name in ("laptop", "run/best", "other"):
        save_random_checkpoint(root / name)
    elsewhere = save_random_checkpoint(tmp_path / "elsewhere" / "mine")
    catalogue = Catalogue(
        SwappableBackend(FakeBackend()),
        root,
        elsewhere,
        lambda folder: FakeBackend(folder.name),
        shipped=("laptop",),
        is_busy=lambda folder: folder == root / "run",
    )
    protections = catalogue.protections(catalogue.entries())
    assert [bool(protections[name]) for name in ("mine", "laptop", "run", "other")] == [True, True, True, False]
    for name, words in (("mine", "lies outside"), ("laptop", "belongs to the repository"), ("run", "a training run")):
        with pytest.raises(CheckpointError, match=words):
            catalogue.rename(name, "new")
        with pytest.raises(CheckpointError, match=f"{words}|is live"):
            catalogue.delete(name)
    with (tmp_path / "mine.zip").open("w+b") as file:
        catalogue.pack("mine", file)
        assert catalogue.unpack(file, "mine.zip") == "mine"
    assert len(catalogue.entries()) == 5


def test_a_text_is_compared_with_one_that_is_loaded_when_asked(
    catalogue: Catalogue, fakes: dict[str, FakeBackend]
) -> None:
    request = CompletionRequest(prompt="O", max_new_tokens=3, seed=0)
    compared = catalogue.compared("shakespeare")
    assert compared.info().name == "shakespeare" and not fakes["shakespeare"].requests
    assert "".join(chunk.text for chunk in compared.stream(request)) == fakes["shakespeare"].text(0, 3)
    assert catalogue.live() == "laptop"
    for name, words in (("none", "choose one from the list"), (BROKEN, "is damaged")):
        with pytest.raises(CheckpointError, match=words):
            list(catalogue.compared(name).stream(request))

    list(catalogue.compared("laptop").stream(request))
    assert len(fakes["laptop"].requests) == 1, "the live one was loaded a second time"
    catalogue.close()
    assert fakes["laptop"].closed and fakes["shakespeare"].closed


class Elsewhere(FakeBackend):
    """A backend that is no checkpoint of this machine."""

    def info(self) -> BackendInfo:
        return BackendInfo("vertex", "laptop", "us-central1")


def test_backend_elsewhere_is_live_under_its_own_name(catalogue: Catalogue, fakes: dict[str, FakeBackend]) -> None:
    far = Elsewhere()
    catalogue.use_elsewhere(far)
    assert catalogue.live() == "laptop (us-central1)" and catalogue.info().kind == "vertex"
    assert "laptop (us-central1)" not in catalogue.entries()
    assert fakes["laptop"].closed
    fakes["laptop"] = FakeBackend("laptop")
    catalogue.use_here()
    assert catalogue.live() == "laptop" and catalogue.info().kind == "local" and far.closed
    catalogue.use_here()
    assert not fakes["laptop"].closed, "what serves already was loaded again"


def test_way_back_leads_to_the_checkpoint_that_was_live_last(
    catalogue: Catalogue, fakes: dict[str, FakeBackend]
) -> None:
    catalogue.use("shakespeare")
    catalogue.use_elsewhere(Elsewhere())
    fakes["shakespeare"] = FakeBackend("shakespeare")
    catalogue.use_here()
    assert catalogue.live() == "shakespeare"


def test_checkpoint_of_the_list_replaces_a_backend_elsewhere(catalogue: Catalogue) -> None:
    catalogue.use_elsewhere(Elsewhere())
    catalogue.use("shakespeare")
    assert catalogue.live() == catalogue.info().name == "shakespeare"
