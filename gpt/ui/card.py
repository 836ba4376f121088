"""A model card on the page: Markdown as HTML, from whomever it comes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

MAX_CHARACTERS = 60_000


def render_card(text: str) -> str:
    """The card's HTML. What is HTML in it stays text; images are their descriptions, so that nothing is fetched."""
    cut = "\n\n*(The card is longer; Download has all of it.)*" if len(text) > MAX_CHARACTERS else ""
    html: str = _renderer().render(text[:MAX_CHARACTERS] + cut)
    return html


@lru_cache(maxsize=1)
def _renderer() -> MarkdownIt:
    from markdown_it import MarkdownIt

    renderer = MarkdownIt("commonmark", {"html": False}).enable("table")
    renderer.validateLink = _leads_to_the_web  # type: ignore[method-assign]
    renderer.add_render_rule("image", _describe_image)
    renderer.add_render_rule("link_open", _open_link)
    return renderer


def _leads_to_the_web(url: str) -> bool:
    """Whether a link may be one; others, of this page or run as a script, stay text."""
    return url.lower().startswith(("https://", "http://"))


def _describe_image(_renderer: Any, tokens: Sequence[Token], index: int, _options: Any, _environment: Any) -> str:
    return f"<em>{escape(tokens[index].content)}</em>"


def _open_link(_renderer: Any, tokens: Sequence[Token], index: int, _options: Any, _environment: Any) -> str:
    """A link that opens elsewhere, and tells that place nothing."""
    return f'<a href="{escape(str(tokens[index].attrs["href"]))}" target="_blank" rel="noopener noreferrer nofollow">'
