"""The Train tab in the real application: from a text to a model that writes, and through every mishap on the way."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.field import fill_new
from tests.fake_page import save_random_checkpoint
from tests.test_app import started

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[2]
SONNETS = (ROOT / "data" / "sonnets.txt").read_text(encoding="utf-8")
Visit = Callable[..., "Page"]


class Application:
    """python app.py over folders of its own."""

    def __init__(self, folder: Path) -> None:
        self.checkpoints = folder / "checkpoints"
        self.arguments = (
            *("--checkpoint", str(save_random_checkpoint(self.checkpoints / "base", nats=4.5))),
            *("--checkpoints", str(self.checkpoints)),
            *("--texts", str(folder / "texts")),
        )

    def status(self, name: str) -> dict[str, object]:
        fields: dict[str, object] = json.loads((self.checkpoints / name / "status.json").read_text(encoding="utf-8"))
        return fields

    def kill_runs(self) -> None:
        """End whatever still trains in the folder."""
        for path in self.checkpoints.glob("*/status.json"):
            with contextlib.suppress(ProcessLookupError, ValueError):
                os.kill(int(str(json.loads(path.read_text(encoding="utf-8"))["pid"])), signal.SIGKILL)


@pytest.fixture
def application(tmp_path: Path) -> Iterator[Application]:
    made = Application(tmp_path)
    yield made
    made.kill_runs()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Iterator[str]:
    """The address of an application for many visitors, who train nothing; needs the browser, to be skipped with it."""
    with started(*Application(tmp_path_factory.mktemp("application")).arguments) as (_, address):
        yield address


@contextlib.contextmanager
def opened(application: Application, visit: Visit) -> Iterator[tuple[Page, subprocess.Popen[str]]]:
    """The application's page and process; the page is closed first, which would miss it."""
    with started(*application.arguments) as (process, address):
        page = visit(address)
        yield page, process
        page.context.close()


def upload(page: Page, folder: Path, content: bytes, name: str = "verse.txt") -> None:
    path = folder / name
    path.write_bytes(content)
    page.set_input_files("#train-upload input[type=file], input#train-upload, #train input[type=file]", str(path))


def choose(page: Page, field: str, option: str) -> None:
    page.locator(f"{field} input").click()
    page.get_by_role("option", name=option).click()


def prepare(page: Page, folder: Path, *, steps: int, name: str) -> None:
    """Open the tab, bring a text, choose the tiny preset, and name the run."""
    page.get_by_role("tab", name="Train").click()
    page.wait_for_selector("#train-facts b")
    upload(page, folder, SONNETS[:40_000].encode())
    page.wait_for_function("document.querySelector('#train-data input').value.includes('verse, yours')")
    choose(page, "#train-preset", "tiny, ")
    page.wait_for_function("document.querySelector('#train-name input, #train-name textarea').value === 'verse-tiny'")
    page.get_by_role("button", name="Settings").click()
    fill_new(page, "#train-max_steps input", str(steps))
    fill_new(page, "#train-eval_interval input", "20")
    page.fill("#train-name input, #train-name textarea", name)


def state(page: Page, words: str, timeout_s: float = 50) -> None:
    page.wait_for_function(
        "words => document.querySelector('.rv-state')?.textContent === words", arg=words, timeout=timeout_s * 1000
    )


def step(page: Page) -> int:
    found = re.search(r"Step ([\d,]+) of", page.inner_text(".rv-step"))
    return int(found.group(1).replace(",", "")) if found else 0


def wait_for_step(page: Page, least: int) -> None:
    page.wait_for_function(
        "least => Number((document.querySelector('.rv-step').textContent.match(/Step ([\\d,]+)/) || [0, '0'])[1]"
        ".replaceAll(',', '')) >= least",
        arg=least,
        timeout=50_000,
    )


@pytest.mark.browser
@pytest.mark.timeout(240)
def test_a_visitor_trains_a_model_on_a_text_and_writes_with_it(
    application: Application, tmp_path: Path, visit: Visit
) -> None:
    with opened(application, visit) as (page, _):
        prepare(page, tmp_path, steps=100_000, name="my first")
        page.wait_for_selector("#train-estimate b", timeout=60_000)
        assert "on this machine" in page.inner_text("#train-estimate")
        assert "python -m train --preset tiny" in page.inner_text("#train-estimate code")
        page.click("#train-start")
        state(page, "Training")
        wait_for_step(page, 60)
        assert page.locator(".rv-chart .rv-val").get_attribute("d")
        before, dots = step(page), page.locator(".rv-chart .rv-dot").count()
        first = page.inner_text(".rv-samples-step")
        page.wait_for_function(f"document.querySelectorAll('.rv-chart .rv-dot').length > {dots + 1}", timeout=50_000)
        assert step(page) > before
        assert page.inner_text(".rv-samples-step") != first, "the newest sample is shown"
        page.locator(".rv-scrub").focus()
        page.keyboard.press("Home")
        assert page.inner_text(".rv-samples-step") == "step 0"
        assert page.inner_text(".rv-text")

        page.reload()
        page.get_by_role("tab", name="Train").click()
        state(page, "Training")
        wait_for_step(page, before)
        assert page.inner_text(".rv-name") == "my first"

        page.click("#train-stop")
        state(page, "Stopped early")
        page.wait_for_selector(".rv-figure.rv-final")
        page.click("#train-use:not(:disabled)")
        page.wait_for_function("document.querySelector('#checkpoint input').value === 'my first'")
        page.wait_for_selector("#generate:visible")
        page.fill("#max_new_tokens input[type=number]", "60")
        page.click("#generate")
        page.wait_for_function("document.querySelectorAll('#output .tv-token').length === 60")
        page.get_by_role("tab", name="Models").click()
        page.wait_for_selector(".card:has-text('my first')")


@pytest.mark.browser
@pytest.mark.timeout(240)
def test_run_survives_the_page_the_application_and_its_own_death(
    application: Application, tmp_path: Path, visit: Visit
) -> None:
    with opened(application, visit) as (page, process):
        prepare(page, tmp_path, steps=100_000, name="survivor")
        page.click("#train-start")
        state(page, "Training")
        wait_for_step(page, 20)
        page.fill("#train-name input, #train-name textarea", "rival")
        page.click("#train-start")
        page.wait_for_selector("[data-testid=toast-text]:has-text('survivor is under way on cpu')")
        assert not (application.checkpoints / "rival").exists()
        reached = step(page)
        page.context.close()
        process.send_signal(signal.SIGKILL)
        process.wait()
    with opened(application, visit) as (page, _):
        page.get_by_role("tab", name="Train").click()
        state(page, "Training")
        wait_for_step(page, reached + 1)
        page.click("#train-pause")
        state(page, "Paused")
        paused_at = step(page)
        page.click("#train-resume:not(:disabled)")
        state(page, "Training")
        wait_for_step(page, paused_at + 20)
        os.kill(int(str(application.status("survivor")["pid"])), signal.SIGKILL)
        state(page, "Ended")
        message = page.inner_text(".rv-message")
        assert "its process was killed" in message and "Resume goes on from step" in message
        assert "Its best checkpoint" in message
        page.click("#train-use:not(:disabled)")
        page.wait_for_function("document.querySelector('#checkpoint input').value === 'survivor'")


@pytest.mark.browser
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (bytes(range(256)) * 40, "is not UTF-8"),
        (b"", "is empty"),
        (b"twenty bytes of text", "is too short: it has 20 characters"),
        (("Le caf\u00e9 est chaud. " * 50).encode("latin-1"), "is not UTF-8: the byte 0xe9"),
    ],
    ids=["binary", "empty", "20 bytes", "Latin-1"],
)
def test_file_that_is_no_text_is_refused_in_words(
    training_page: Page, tmp_path: Path, content: bytes, words: str
) -> None:
    upload(training_page, tmp_path, content, "bad.txt")
    training_page.wait_for_selector(f"#train-refusal p:has-text('{words}')")
    assert "bad" not in training_page.input_value("#train-data input")
    good = f"good-{len(content)}"  # the visitors before left theirs
    upload(training_page, tmp_path, SONNETS[:20_000].encode(), f"{good}.txt")
    training_page.wait_for_function(
        "name => document.querySelector('#train-data input').value.includes(`${name}, yours`)", arg=good
    )
    training_page.wait_for_selector("#train-refusal p", state="detached")


@pytest.mark.browser
@pytest.mark.timeout(120)
def test_base_that_lacks_characters_is_not_offered_and_settings_are_refused_in_words(
    training_page: Page, tmp_path: Path
) -> None:
    from playwright.sync_api import TimeoutError as NotSeenError

    page = training_page
    upload(page, tmp_path, ("Voil\u00e0 un \u00e9t\u00e9, \u0416. " + SONNETS[:20_000]).encode(), "strange.txt")
    page.wait_for_function("document.querySelector('#train-data input').value.includes('strange, yours')")
    page.wait_for_selector("#train-facts p:has-text('for lack of some of its characters: base')")
    page.locator("#train-base input").click()
    assert [words.split("\n")[-1] for words in page.get_by_role("option").all_inner_texts()] == [
        "Nothing: random weights"
    ]
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Settings").click()
    page.wait_for_timeout(500)  # in its first milliseconds a field that has only just come up takes nothing in
    words = page.locator("#train-facts p:has-text('Dropout (dropout) is 7.0; give a number from 0 to 0.95')")
    for _ in range(5):  # a form that is still being filled in may take a value back: then a visitor types it again
        page.fill("#train-dropout input", "0.3")  # the same number once more would be no change
        page.fill("#train-dropout input", "7")
        with contextlib.suppress(NotSeenError):
            words.wait_for(timeout=6_000)
            break
    words.wait_for()
    page.focus("#train-start")
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-testid=toast-text]:has-text('Dropout (dropout) is 7.0')")


@pytest.mark.browser
@pytest.mark.timeout(120)
def test_tiny_shakespeare_is_fetched_by_a_button_and_its_absence_said_in_words(training_page: Page) -> None:
    if (ROOT / "data" / "shakespeare.txt").exists():
        pytest.skip("data/shakespeare.txt is here already, and need not be fetched")
    page = training_page
    choose(page, "#train-data", "Tiny Shakespeare")
    page.wait_for_selector("#train-facts p:has-text('is not on this machine yet')")
    page.click("#train-fetch")
    page.wait_for_selector("#train-refusal p:has-text('Tiny Shakespeare could not be fetched')", timeout=60_000)


@pytest.mark.browser
@pytest.mark.timeout(240)
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting a small disk takes root")
def test_full_disk_ends_in_words_with_the_last_checkpoint_whole(tmp_path: Path, visit: Visit) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no small disk can be mounted here")
    try:
        application = Application(tmp_path)
        application.checkpoints = disk
        application.arguments = (*application.arguments[:3], str(disk), *application.arguments[4:])
        with opened(application, visit) as (page, _):
            prepare(page, tmp_path, steps=100_000, name="crowded")
            page.click("#train-start")
            state(page, "Training")
            wait_for_step(page, 40)
            (disk / "filler").write_bytes(b"")
            with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
                while True:
                    filler.write(b"x" * 4096)
            page.wait_for_selector(".rv-message:visible", timeout=60_000)
            message = page.inner_text(".rv-message")
            assert "No space left on device" in message or "the disk is full" in message
            assert "Its best checkpoint" in message and "Resume goes on from step" in message
            (disk / "filler").unlink()
            ended_at = step(page)
            page.click("#train-resume:not(:disabled)")
            state(page, "Training")
            wait_for_step(page, ended_at + 20)
            page.click("#train-stop")
            state(page, "Stopped early")
            page.click("#train-use:not(:disabled)")
            page.wait_for_function("document.querySelector('#checkpoint input').value === 'crowded'")
        application.kill_runs()
    finally:
        for _ in range(50):
            if subprocess.run(["umount", str(disk)], capture_output=True).returncode == 0:
                break
            time.sleep(0.2)


@pytest.mark.browser
@pytest.mark.timeout(120)
def test_last_of_two_quick_choices_is_what_would_train(training_page: Page) -> None:
    page = training_page
    page.get_by_role("button", name="Settings").click()
    choose(page, "#train-preset", "character, ")
    choose(page, "#train-preset", "tiny, ")
    page.wait_for_function("document.querySelector('#train-embed_dim input').value === '32'")
    page.wait_for_selector("#train-start:not(:disabled)")
    name = page.input_value("#train-name input, #train-name textarea")
    assert name.endswith("-tiny") and page.input_value("#train-embed_dim input") == "32"


@pytest.fixture
def training_page(running: str, visit: Visit) -> Page:
    """The Train tab, opened by a visitor of its own."""
    page = visit(running)
    page.get_by_role("tab", name="Train").click()
    page.wait_for_selector("#train-facts b")
    return page
