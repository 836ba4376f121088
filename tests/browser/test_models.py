"""The Models tab, as a visitor uses it: cards, renaming, deleting, and zips in both directions."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gpt.atomic import hold
from gpt.backends.swappable import SwappableBackend
from gpt.ui.catalogue import Catalogue
from tests.fake_backend import FakeBackend
from tests.fake_page import save_random_checkpoint, served
from tests.hostile_zip import files_of, with_entry, zip_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from tests.loopback_hub import LoopbackHub

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
STATUS = "#models .models-status"
CARD = "# Evil\n\n<img src=x onerror=\"document.title='caught'\"> <script>document.title='caught'</script>\n\n![p](http://x.org/p.png)\n"


@pytest.fixture(scope="module")
def site(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path, Catalogue]]:
    """A page over fake backends: its address, its folder of checkpoints, its catalogue."""
    root = tmp_path_factory.mktemp("checkpoints")
    save_random_checkpoint(root / "laptop", nats=1.447, steps=2600)
    catalogue = Catalogue(
        SwappableBackend(FakeBackend("laptop")),
        root,
        root / "laptop",
        lambda folder: FakeBackend(folder.name),
        shipped=("laptop",),
    )
    with served(catalogue) as address:
        yield address, root, catalogue


@pytest.fixture
def root(site: tuple[str, Path, Catalogue]) -> Path:
    """The folder of checkpoints: the shipped one, which is live, and a run of the visitor's."""
    _, root, catalogue = site
    catalogue.use("laptop")
    for path in root.iterdir():
        if path.name != "laptop":
            shutil.rmtree(path, ignore_errors=True)  # the page's server may be about to remove it itself
    save_random_checkpoint(root / "my-run" / "best", nats=2.474, steps=400)
    (root / "my-run" / "best" / "README.md").write_text(CARD)
    (root / "my-run" / "metrics.jsonl").write_text("{}\n")
    return root


@pytest.fixture
def page(site: tuple[str, Path, Catalogue], root: Path, visit: Callable[..., Page]) -> Page:
    """The Models tab on a desktop."""
    return _models(visit(site[0]))


def test_a_run_is_renamed_and_its_words_stay_in_the_dialog(page: Page, root: Path) -> None:
    page.click("[aria-label='Rename my-run']")
    field = page.locator("#models dialog[open] input")
    assert field.input_value() == "my-run"
    field.press_sequentially("<b>x")  # the old name is selected, and gives way
    page.keyboard.press("Enter")
    page.wait_for_selector("#models .sheet-error:has-text(\"The name '<b>x' cannot be a checkpoint's\")")
    field.fill("laptop")
    page.click("#models dialog[open] .yes")
    page.wait_for_selector("#models .sheet-error:has-text('is taken')")
    field.fill("Verse 2.0")
    page.keyboard.press("Enter")
    page.wait_for_selector("#models .card:has-text('Verse 2.0')")
    assert page.inner_text(STATUS) == "my-run is called Verse 2.0 now."
    assert (root / "Verse 2.0" / "metrics.jsonl").exists() and not (root / "my-run").exists()
    page.locator("#checkpoint input").click()
    assert page.get_by_role("option", name="Verse 2.0").count() == 1


def test_a_model_is_pulled_by_name(page: Page, root: Path, loopback: LoopbackHub, tmp_path: Path) -> None:
    loopback.add("someone/verse", files_of(save_random_checkpoint(tmp_path / "verse", nats=1.9)))
    loopback.pieces_s = 0.05
    name = page.get_by_label("Name on the Hugging Face Hub")
    name.fill("someone/verse")
    name.press("Enter")
    page.wait_for_selector(f"{STATUS}:has-text('Pulling someone/verse: ')")
    page.wait_for_selector("#models .card:has-text('verse')")
    assert page.inner_text(STATUS) == "verse is added."
    assert name.input_value() == "" and (root / "verse" / "model.safetensors").is_file()


def test_a_pull_is_stopped_or_refused_in_words(page: Page, root: Path, loopback: LoopbackHub, tmp_path: Path) -> None:
    loopback.add("someone/verse", files_of(save_random_checkpoint(tmp_path / "verse")))
    name = page.get_by_label("Name on the Hugging Face Hub")
    name.fill("someone/<b>nothing")
    page.get_by_role("button", name="Pull from the Hub").click()
    page.wait_for_selector(f"{STATUS}.bad:has-text('is no name of a repository')")
    loopback.pieces_s = 0.5
    name.fill("someone/verse")
    name.press("Enter")
    page.wait_for_selector(f"{STATUS}:has-text('Pulling someone/verse: ')")
    page.get_by_role("button", name="Stop the pull").click()
    page.wait_for_selector(f"{STATUS}:has-text('The pull was stopped; nothing was added.')")
    assert page.get_by_role("button", name="Pull from the Hub").is_visible()
    assert sorted(path.name for path in root.iterdir() if not path.name.startswith(".")) == ["laptop", "my-run"]


def test_the_live_one_is_renamed_and_goes_on(page: Page, site: tuple[str, Path, Catalogue]) -> None:
    page.click("[aria-label='Use my-run']")
    page.wait_for_selector("#models .card.live:has-text('my-run')")
    assert page.locator("[aria-label='Delete my-run']").count() == 0
    page.click("[aria-label='Rename my-run']")
    page.locator("#models dialog[open] input").fill("mine")
    page.keyboard.press("Enter")
    page.wait_for_selector("#models .card.live:has-text('mine')")
    page.wait_for_function("document.querySelector('#checkpoint input').value === 'mine'")
    page.get_by_role("tab", name="Playground").click()
    page.click("#generate")
    page.wait_for_selector("#output .tv-token")
    assert site[2].live() == "mine"


def test_deleting_asks_first_and_can_be_left_with_the_keyboard(page: Page, root: Path) -> None:
    page.focus("[aria-label='Delete my-run']")
    page.keyboard.press("Enter")
    question = page.locator("#models dialog[open] .sheet-question")
    assert "with its state; the run cannot go on" in question.inner_text()
    assert page.evaluate("document.activeElement.textContent") == "Keep it"
    for leave in ("Escape", "Enter"):
        page.keyboard.press(leave)
        page.wait_for_selector("#models dialog[open]", state="hidden")
        assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Delete my-run"
        page.keyboard.press("Enter")
    assert (root / "my-run").is_dir()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("#models .card:has-text('my-run')", state="detached")
    assert page.inner_text(STATUS) == "my-run is deleted."
    assert os.listdir(root) == ["laptop"]


def test_what_is_shipped_live_or_busy_is_not_deleted(page: Page, root: Path) -> None:
    shipped = page.locator("#models .card:has-text('laptop')")
    assert "Stays as it is: part of the repository." in shipped.inner_text()
    assert (
        shipped.get_by_role("button", name="Rename").count()
        == shipped.get_by_role("button", name="Delete").count()
        == 0
    )
    page.click("[aria-label='Delete my-run']")
    with hold(root / "my-run"):  # a run that began after the page was shown
        page.click("#models dialog[open] .danger")
        page.wait_for_selector("#models .sheet-error:has-text('stop the run first')")
        page.keyboard.press("Escape")
        page.reload()
        _models(page)
        page.wait_for_selector("#models .card:has-text('a run trains in it')")
    assert (root / "my-run" / "best").is_dir()


def test_a_strangers_card_is_read_and_does_nothing(page: Page) -> None:
    assert page.locator("[aria-label='Card laptop']").count() == 0
    page.click("[aria-label='Card my-run']")
    page.wait_for_selector("#models .card-text h1:has-text('Evil')")
    page.wait_for_timeout(200)
    assert page.title() != "caught"
    assert page.locator("#models .card-text :is(img, script)").count() == 0
    assert "<script>" in page.inner_text("#models .card-text")
    page.keyboard.press("Escape")
    page.wait_for_selector("#models dialog[open]", state="hidden")


def test_a_checkpoint_comes_down_goes_up_and_is_used(page: Page, root: Path, tmp_path: Path) -> None:
    with page.expect_download() as download:
        page.click("[aria-label='Download my-run']")
    assert download.value.suggested_filename == "my-run.zip"
    download.value.save_as(tmp_path / "gift.zip")
    _upload(page, tmp_path / "gift.zip")
    page.wait_for_selector(f"{STATUS}:has-text('my-run-2 is added.')")
    page.click("[aria-label='Use my-run-2']")
    page.wait_for_selector("#models .card.live:has-text('my-run-2')")
    assert files_of(root / "my-run-2") == files_of(root / "my-run" / "best")


def test_a_hostile_zip_is_refused_in_words_and_nothing_is_written(
    page: Page, root: Path, tmp_path: Path, complaints: list[str]
) -> None:
    files = files_of(root / "my-run" / "best")
    for name, data, words in (
        ("<i>.zip", b"hello", "<i>.zip is no zip file"),
        ("leaves.zip", with_entry(files, "../evil.json"), "leaves.zip has the path '../evil.json', which leaves"),
        ("pickle.zip", with_entry(files, "tiny/model.pt"), "a pickle, which can run any code"),
        ("cut.zip", zip_of(files)[:-99], "cut.zip is damaged or was cut short"),
    ):
        (tmp_path / name).write_bytes(data)
        _upload(page, tmp_path / name)
        page.wait_for_function(
            "words => document.querySelector('.models-status.bad')?.textContent.includes(words)", arg=words
        )
    assert sorted(os.listdir(root)) == ["laptop", "my-run"]
    page.wait_for_selector("#models .card >> nth=1")
    assert all("400" in complaint for complaint in complaints)
    complaints.clear()  # the browser notes every answer that is a refusal


def test_a_server_that_is_gone_is_said(page: Page, complaints: list[str], tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"x")
    page.route("**/checkpoints?*", lambda route: route.abort())
    page.route("**/component_server/", lambda route: route.abort())
    _upload(page, tmp_path / "a.zip")
    page.wait_for_selector(f"{STATUS}.bad:has-text('The server does not answer')")
    page.click("[aria-label='Rename my-run']")
    page.locator("#models dialog[open] input").fill("x")
    page.keyboard.press("Enter")
    page.wait_for_selector("#models .sheet-error:has-text('The server does not answer')")
    complaints.clear()  # the browser notes the aborted requests


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_dialogs_fit_on_a_phone(
    site: tuple[str, Path, Catalogue], root: Path, visit: Callable[..., Page], scheme: str
) -> None:
    page = _models(visit(site[0], color_scheme=scheme, **PHONE))
    for action in ("Card", "Rename", "Delete"):
        page.locator(f"[aria-label='{action} my-run']").tap()
        box = page.locator("#models dialog[open]").bounding_box()
        assert box and box["x"] >= 0 and box["x"] + box["width"] <= 390 and box["y"] >= 0
        colours = page.locator("#models dialog[open]").evaluate(
            "node => [getComputedStyle(node).backgroundColor, getComputedStyle(node).color]"
        )
        lightness = [
            sum(float(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]) for colour in colours
        ]
        assert (lightness[0] < lightness[1]) == (scheme == "dark")
        page.locator("#models dialog[open] .no").tap()
        page.wait_for_selector("#models dialog[open]", state="hidden")


def _models(page: Page) -> Page:
    page.get_by_role("tab", name="Models").click()
    page.wait_for_selector("#models .card:has-text('my-run')")
    return page


def _upload(page: Page, path: Path) -> None:
    with page.expect_file_chooser() as chooser:
        page.click("#models .models-upload")
    chooser.value.set_files(path)
