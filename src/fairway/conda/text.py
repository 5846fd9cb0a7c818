"""Strangers' texts, made harmless to print: no terminal escapes, nothing that reorders a line, no endless ones."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import orjson

MAX_SUMMARY = 1_000
MAX_LINE = 2_048
MAX_TEXT = 64 * 1024
MAX_ABOUT = 128 * 1024  # bytes as JSON; those of real packages have some 7,000
MAX_MARKS = 4  # combining marks in a row; no script needs more, and a thousand paint over the lines above

# C0 and C1 controls but tab, newline and carriage return; direction marks, overrides and isolates; line and paragraph
# separators; zero-width space and byte order mark; language tags; lone surrogates.
_CONTROL = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_LONG = frozenset({"description"})


def has_control(value: Any) -> bool:
    """Whether any text in this JSON value, keys included, holds a character a terminal or a line would act upon."""
    if isinstance(value, str):
        return _CONTROL.search(value) is not None
    if isinstance(value, dict):
        return any(has_control(key) or has_control(item) for key, item in value.items())
    return isinstance(value, list) and any(map(has_control, value))


def one_line(text: str, limit: int = MAX_LINE) -> str:
    """The text in one line of at most `limit` characters: spaces joined, control characters dropped."""
    return " ".join(_fewer_marks(_CONTROL.sub("", text[: 4 * limit])).split())[:limit]


def many_lines(text: str, limit: int = MAX_TEXT) -> str:
    """The text with its lines, at most `limit` characters, control characters dropped."""
    return _fewer_marks(_CONTROL.sub("", text[:limit].replace("\r\n", "\n").replace("\r", "\n"))).strip()


def clean_about(about: dict[str, Any]) -> dict[str, Any]:
    """`info/about.json` with every text cleaned: the summary to one line, others keeping their lines. Where all of it
    would be larger than `MAX_ABOUT`, the largest values are left out, so that a summary or an address never is.
    """
    cleaned = {one_line(key): _clean(key, value) for key, value in about.items()}
    if len(orjson.dumps(cleaned)) <= MAX_ABOUT:
        return cleaned
    sizes = {key: len(orjson.dumps({key: value})) for key, value in cleaned.items()}
    kept = set()
    room = MAX_ABOUT
    for key in sorted(sizes, key=sizes.__getitem__):
        room -= sizes[key]
        if room < 0:
            break
        kept.add(key)
    return {key: value for key, value in cleaned.items() if key in kept}


def _clean(key: str, value: Any) -> Any:
    if isinstance(value, str):
        if key in _LONG:
            return many_lines(value)
        return one_line(value, MAX_SUMMARY) if key == "summary" else many_lines(value)
    if isinstance(value, dict):
        return {one_line(name): _clean(name, item) for name, item in value.items()}
    return [_clean(key, item) for item in value] if isinstance(value, list) else value


def _fewer_marks(text: str) -> str:
    if text.isascii():
        return text
    kept: list[str] = []
    marks = 0
    for character in text:
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks <= MAX_MARKS:
            kept.append(character)
    return "".join(kept)
