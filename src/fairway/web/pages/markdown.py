"""Strangers' Markdown as harmless HTML.

Three walls: HTML in it is text; what is made of the rest is looked through by a sanitiser that knows few tags and fewer
attributes; and the page's Content-Security-Policy runs no script but our own. Pictures of other hosts would tell them
who reads the page, so they are links.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import nh3
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup, escape

# What is longer is cut: the worst of this length takes a second, and whoever looks at the page would pay it.
LENGTH_MAX = 64 << 10
KEPT = 64
REL = "nofollow noopener"
TAGS = {
    *("a", "blockquote", "br", "code", "em", "hr", "li", "ol", "p", "pre", "s", "strong", "ul"),
    *("h2", "h3", "h4", "h5", "h6", "table", "tbody", "td", "th", "thead", "tr"),
}
ATTRIBUTES = {"a": {"href", "title"}, "ol": {"start"}}
SCHEMES = {"http", "https"}


def is_link(address: str) -> bool:
    """Whether this is a whole http or https address."""
    try:
        parts = urlsplit(address.strip())
        return parts.scheme in SCHEMES and bool(parts.hostname)
    except ValueError:
        return False


def _image(_: Any, tokens: Sequence[Token], index: int, *__: Any) -> str:
    token = tokens[index]
    address = str(token.attrGet("src") or "")
    label = escape(token.content or address)
    return f'<a href="{escape(address)}">{label}</a>' if is_link(address) else str(label)


def _attribute(_: str, name: str, value: str) -> str | None:
    return None if name == "href" and not is_link(value) else value


def _lower_headings(state: Any) -> None:
    """The page's own title is the only first heading."""
    for token in state.tokens:
        if token.type in {"heading_open", "heading_close"}:
            token.tag = f"h{min(int(token.tag[1]) + 1, 6)}"


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "maxNesting": 20}).enable(["table", "strikethrough"])
    parser.add_render_rule("image", _image)
    parser.core.ruler.push("lower_headings", _lower_headings)
    return parser


PARSER = _parser()


def render(text: str) -> Markup:
    """HTML that may stand in a page."""
    return _rendered(text[:LENGTH_MAX])


@lru_cache(maxsize=KEPT)
def _rendered(text: str) -> Markup:
    html = PARSER.render(text)
    return Markup(  # noqa: S704 - this is the place that makes it safe
        nh3.clean(
            html,
            tags=TAGS,
            attributes=ATTRIBUTES,
            attribute_filter=_attribute,
            url_schemes=SCHEMES,
            link_rel=REL,
            strip_comments=True,
        )
    )
