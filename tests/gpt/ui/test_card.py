"""A model card as HTML: a stranger's cannot do anything to the page."""

from __future__ import annotations

import re

import pytest

from gpt.ui.card import MAX_CHARACTERS, render_card

TAGS = {"p", "a", "em", "pre", "code", "table", "thead", "tbody", "tr", "th", "td"}


def test_a_card_has_headings_tables_lists_and_code() -> None:
    html = render_card("# tiny\n\n| a | b |\n|---|---|\n| 1 | **2** |\n\n- one\n\n```\n<x>\n```\n")
    for part in ("<h1>tiny</h1>", "<td><strong>2</strong></td>", "<li>one</li>", "<code>&lt;x&gt;\n</code>"):
        assert part in html


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "a <img src=x onerror=alert(1)> b",
        "<div onclick=alert(1)>\n\ntext\n\n</div>",
        "<!-- --><svg/onload=alert(1)>",
        "[a](javascript:alert(1))",
        "[a](JaVaScript:alert(1))",
        "[a](data:text/html,x)",
        "[a](/gradio_api/config)",
        "[a](../../README.md)",
        '[a](https://x.org/"onmouseover="alert(1) "t")',
        "![a](https://x.org/pixel.png)",
        '![<b>"](https://x.org/pixel.png)',
        "<javascript:alert(1)>",
        "```<script>\nx\n```",
        '[a]: javascript:alert(1)\n\n[a] <a href="x">',
        "| <b> |\n|---|\n| <i onclick=x> |",
    ],
)
def test_nothing_in_a_card_runs_or_loads(text: str) -> None:
    html = render_card(text)
    tags = re.findall(r"<\s*(/?\w+)([^>]*)>", html)
    assert {name.lstrip("/") for name, _ in tags} <= TAGS
    for name, attributes in tags:
        allowed = r'( href="https?://[^"\s]*" target="_blank" rel="noopener noreferrer nofollow")?'
        allowed = allowed if name == "a" else r'( class="language-[^"<>]*")?'
        assert re.fullmatch(allowed, attributes), (name, attributes)


def test_an_image_is_its_description() -> None:
    assert render_card("![a <curve>](https://x.org/a.png)") == "<p><em>a &lt;curve&gt;</em></p>\n"


def test_a_link_opens_elsewhere() -> None:
    assert 'href="https://x.org" target="_blank" rel="noopener' in render_card("<https://x.org>")


def test_a_long_card_is_cut() -> None:
    html = render_card("word " * MAX_CHARACTERS)
    assert len(html) < MAX_CHARACTERS + 200 and "Download has all of it" in html
