"""Conditional requests and ranges (RFC 9110): small, exact, and the same for every file we serve."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime

RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Slice:
    """The part of a body that was asked for, in bytes."""

    start: int
    length: int


class Unsatisfiable(Exception):
    """The range begins behind the end."""


def http_date(ms: int) -> str:
    return format_datetime(datetime.fromtimestamp(ms // 1000, UTC), usegmt=True)


def not_modified(headers: Mapping[bytes, bytes], etag: bytes, modified_ms: int | None) -> bool:
    """Whether the client's copy is still good. A date is looked at only if no ETag was sent: conda sends both, and the
    ETag may be of another document while the date fits.
    """
    tags = headers.get(b"if-none-match")
    if tags is not None:
        return tags == etag or any(tag.strip().removeprefix(b"W/") in {etag, b"*"} for tag in tags.split(b","))
    since = headers.get(b"if-modified-since")
    if since is None or not modified_ms:
        return False
    try:
        # the very date, not an earlier one: after the clock was set back a newer document has an earlier date
        return modified_ms // 1000 == int(parsedate_to_datetime(since.decode("latin-1")).timestamp())
    except (ValueError, TypeError, OverflowError):
        return False


def asked_slice(headers: Mapping[bytes, bytes], size: int, etag: bytes) -> Slice | None:
    """The one range asked for; none for the whole. Several ranges, or one we do not understand, mean the whole too.

    Raises: Unsatisfiable.
    """
    text = headers.get(b"range")
    if text is None:
        return None
    condition = headers.get(b"if-range")
    if condition is not None and condition.strip() != etag:
        return None
    match = RANGE.fullmatch(text.decode("latin-1").strip())
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        length = min(int(match[2]), size)
        if length == 0:
            raise Unsatisfiable
        return Slice(size - length, length)
    start = int(match[1])
    end = min(int(match[2]), size - 1) if match[2] else size - 1
    if match[2] and int(match[2]) < start:
        return None
    if start >= size:
        raise Unsatisfiable
    return Slice(start, end - start + 1)
