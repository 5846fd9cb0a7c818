"""JSON as a package may hold it: read so that every parser of the world would have read the same.

JSON parsers disagree on duplicate keys, big integers, lone surrogates and NUL; a name that one reader takes from the
first "name" and another from the last is a way around every check. So what is ambiguous is refused (RFC 8259 section 4,
6 and 8 name these places; the threat model lists them as H69 to H73).
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

import orjson

from fairway.errors import PackageRefused

MAX_DEPTH = 32
MAX_INT = 1 << 53
# A text of a few bytes a value costs 20 times its size as Python objects: 64 MB of "[],[],..." would be 1.5 GB.
MAX_CONTAINERS = 1_500_000
MAX_VALUES = 8_000_000

_NUL_ESCAPE = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def loads(data: bytes) -> Any:
    """The value of a JSON text.

    UTF-8 without BOM, no duplicate keys, integers within ±2^53, finite numbers, no lone surrogates, no U+0000, at most
    32 levels. Raises PackageRefused with `json_text`, `json_duplicate_key`, `json_number`, `json_depth`, `json_invalid`
    or (more values than any real file has) `metadata_too_large`.
    """
    containers = data.count(b"{") + data.count(b"[")
    if containers > MAX_CONTAINERS or (len(data) > MAX_VALUES and data.count(b",") > MAX_VALUES):
        raise PackageRefused("A JSON file holds more values than any real one does.", code="metadata_too_large")
    value, text = _parse(data)
    if containers > MAX_DEPTH:
        _check_depth(value)
    if "\\u" in text:
        _check_escapes(value)
    return value


def _parse(data: bytes) -> tuple[Any, str]:
    """The value and the text. The standard library's scanner is in C and asks us at each object and number; checking
    what a faster parser (orjson) lets pass costs more than that parser saves (measured on 200 B to 60 MB).
    """
    if data.startswith(b"\xef\xbb\xbf"):
        raise PackageRefused("A JSON file begins with a byte order mark.", code="json_text")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise PackageRefused(f"A JSON file is not UTF-8 (byte {error.start}).", code="json_text") from error
    if "\0" in text:
        raise PackageRefused("A JSON file has a NUL character; is it UTF-16?", code="json_text")
    try:
        value = _DECODER.decode(text)
    except RecursionError:
        _too_deep()
    except json.JSONDecodeError as error:
        raise PackageRefused(
            f"A JSON file cannot be read: {error.msg} (line {error.lineno}, column {error.colno}).", code="json_invalid"
        ) from error
    return value, text


def _check_escapes(value: Any) -> None:
    """Refuse what only an escape can bring into a string: a lone surrogate and U+0000."""
    try:
        text = orjson.dumps(value).decode()
    except orjson.JSONEncodeError as error:
        raise PackageRefused("A JSON file has half a surrogate pair.", code="json_text") from error
    if _NUL_ESCAPE.search(text):
        raise PackageRefused("A JSON file has a NUL character in a string.", code="json_text")


def _check_depth(value: Any) -> None:
    """Level by level, so that neither the depth nor the width of the value costs a Python call each."""
    level = [value] if type(value) in (dict, list) else []
    depth = 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            _too_deep()
        level = [
            child
            for container in level
            for child in (container.values() if type(container) is dict else container)
            if type(child) in (dict, list)
        ]


def _too_deep() -> NoReturn:
    raise PackageRefused(f"A JSON file is nested deeper than {MAX_DEPTH} levels.", code="json_depth")


def _bad_number(text: str) -> NoReturn:
    raise PackageRefused(
        f"A JSON file has the number {text[:40]}, which not every reader can hold.", code="json_number"
    )


def _integer(text: str) -> int:
    if len(text) > 17 or abs(value := int(text)) > MAX_INT:  # a sign and 16 digits: int() is quadratic
        _bad_number(text)
    return value


def _real(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        _bad_number(text)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise PackageRefused(f"A JSON file has the key {twice[:80]!r} twice in one object.", code="json_duplicate_key")
    return value


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_real, parse_constant=_bad_number
)
