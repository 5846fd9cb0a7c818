"""Colours that can be told apart and read, in light and in dark, and templates that keep to the policy of the pages."""

import re

import pytest

from tests.conftest import ROOT

TOKENS = (ROOT / "frontend" / "src" / "tokens.css").read_text()
COLOURS = dict(re.findall(r"--([a-z-]+): light-dark\((#\w+, #\w+)\)", TOKENS))
TEMPLATES = sorted((ROOT / "src" / "fairway" / "web" / "templates").rglob("*.html"))

# WCAG 2.2 AA: text 4.5 to 1 on whatever it may stand on, borders of what can be used and pictures that say something 3 to 1.
GROUNDS = ("ground", "surface", "sunken", "hover")
TEXT = [
    *((ink, ground) for ink in ("ink", "muted", "accent", "bad") for ground in GROUNDS),
    *((tone, f"{tone}-soft") for tone in ("good", "warn", "bad", "accent")),
    *(("ink", f"{tone}-soft") for tone in ("good", "warn", "bad", "accent")),
    ("accent-strong", "accent-soft"), ("on-accent", "accent"), ("on-accent", "accent-strong"), ("on-bad", "bad"),
    ("ink", "match"), ("accent", "match"), ("good", "surface"), ("warn", "surface"),
]  # fmt: skip
SEEN = [*((edge, ground) for edge in ("edge", "accent", "bad") for ground in ("ground", "surface")), ("accent", "line")]


def luminance(colour):
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(first, second):
    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_black_on_white_is_21():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_can_be_read_and_told_apart(scheme):
    def of(name):
        return COLOURS[name].split(", ")[scheme]

    weak = [(*pair, contrast(of(pair[0]), of(pair[1]))) for pair in TEXT if contrast(of(pair[0]), of(pair[1])) < 4.5]
    weak += [(*pair, contrast(of(pair[0]), of(pair[1]))) for pair in SEEN if contrast(of(pair[0]), of(pair[1])) < 3]
    assert weak == []


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_templates_keep_to_the_policy(template):
    """Found by a browser too, but only on a page that a test opens."""
    text = re.sub(r"\{#.*?#\}", "", template.read_text(), flags=re.DOTALL)
    assert re.findall(r"<[^>]*\s(?:style|on[a-z]+|hx-on[^=]*)=", text) == []
    assert (
        re.findall(r"<style|<script(?![^>]*\ssrc=)|javascript:(?!alert\(1\)\"\))|\|\s*safe\b(?!\s*\}\}</svg>)", text)
        == []
    )
    assert re.findall(r"(?:href|src|action)=\"/", text) == []
