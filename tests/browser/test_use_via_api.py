"""The page's snippets, taken from the page, run as they stand."""

from __future__ import annotations

import shlex
import subprocess
import sys

import pytest
from playwright.sync_api import Page

from gpt.ui.api_snippet import SNIPPETS
from tests.fake_backend import SPEECH, FakeBackend

pytestmark = pytest.mark.browser


def test_each_snippet_runs_as_the_page_shows_it(page: Page, address: str, backend: FakeBackend) -> None:
    page.click("#use-via-api button")
    for title, (language, _) in SNIPPETS.items():
        page.get_by_role("tab", name=title).click()
        shown = page.locator("#use-via-api .cm-content:visible")
        shown.wait_for()
        code = shown.inner_text()
        assert address in code
        command = [sys.executable, "-c", code] if language == "python" else shlex.split(code)
        done = subprocess.run(command, capture_output=True, text=True, timeout=50)
        assert done.returncode == 0, done.stderr
        assert SPEECH[:10] in done.stdout, done.stdout
