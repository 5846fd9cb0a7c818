"""The order of conda versions (CEP 33), as bytes a database can sort by.

A version is read as an endless table of components: an epoch, then one row per segment, each row padded with zeros
for ever, so `1.1`, `1.1.0` and `1.1.0.0` are one version. Two versions are compared component by component, row by
row; `dev` < other strings < numbers < `post`. Local versions (after `+`) decide between equal main versions.

`sort_key` writes down only the components that are not zero, each with its distance from the one before. That is
enough: where two versions part, either both have a component there, or one of them has a zero; a string is below that
zero and a number above it, and the further away it is, the later it is met.
"""

from __future__ import annotations

import re

from fairway.errors import PackageRefused

MAX_LENGTH = 64
MAX_NUMERAL = (1 << 64) - 1  # what the clients' parsers hold (rattler u64, mamba size_t); CEP 33 asks for less

_PART = r"[0-9a-zA-Z]+(?:[._][0-9a-zA-Z]+)*"
_LITERAL = re.compile(rf"(?:[0-9]+!)?{_PART}_?(?:\+{_PART})?", re.ASCII)
# What clients read beyond that, and old channels hold: dashes for underscores, and more than one at the end.
_READABLE = re.compile(
    r"(?:(?P<epoch>[0-9]+)!)?"
    r"(?P<main>[0-9a-z]+(?:[._][0-9a-z]+)*(?:[._]?_)?)"
    r"(?:\+(?P<local>[0-9a-z]+(?:[._][0-9a-z]+)*(?:[._]?_)?))?",
    re.ASCII,
)
_SEGMENT = re.compile(r"[._]")
_DIGITS = re.compile(r"[0-9]+")
_RUN = re.compile(r"[0-9]+|[^0-9]+")

# One byte says what comes next in a part: below END a string, above END a number.
_END = 0x80
_DEV = b"\x01"
_POST = b"\xff"


def parse(text: str) -> str:
    """The text, if it is a version a package may have: CEP 33 within the characters and 64 places of CEP 26.

    Stricter than `sort_key` on purpose: a dash would make the file name ambiguous.

    Raises:
        PackageRefused: code `version_invalid`.
    """
    if len(text) > MAX_LENGTH:
        raise PackageRefused(f"A version has at most {MAX_LENGTH} characters.", code="version_invalid")
    if not _LITERAL.fullmatch(text):
        raise PackageRefused(
            f"'{_shown(text)}' is not a version: letters and digits, divided by single periods or underscores, "
            "with an optional number and '!' before and an optional '+' part behind.",
            code="version_invalid",
        )
    if any(int(run) > MAX_NUMERAL for run in _DIGITS.findall(text)):
        raise PackageRefused(f"A number in '{text}' is too large for conda clients.", code="version_invalid")
    return text


def sort_key(text: str) -> bytes:
    """Bytes that order (memcmp, `ORDER BY` on a blob) as conda orders the versions; equal versions give equal bytes.

    About two bytes and the digits for each segment: `1.2.3` gives 11. Reads what clients read, which is more than
    `parse` lets in: dashes in place of underscores, two underscores at the end, any length (but not more than 60
    segments of zeros in a row).

    Raises:
        PackageRefused: code `version_invalid`, for a text no client can read.
    """
    lowered = text.lower()
    if "-" in lowered and "_" not in lowered:
        lowered = lowered.replace("-", "_")
    found = _READABLE.fullmatch(lowered)
    if found is None:
        raise PackageRefused(f"'{_shown(text)}' is not a version.", code="version_invalid")
    try:
        first: list[int | str] = [_number(found["epoch"] or "0")]
        local = _segments(found["local"]) if found["local"] else []
        return _encode([first, *_segments(found["main"])]) + _encode(local)
    except OverflowError as error:
        raise PackageRefused(
            f"'{_shown(text)}' is too long, or a number in it too large, for conda clients.", code="version_invalid"
        ) from error


def starts_with(text: str, prefix: str) -> bool:
    """Whether a version is one of a series, as `1.2.*` has it: every component of the prefix is the version's, whatever
    follows. Zeros at a prefix's end need not be written in the version.

    Raises:
        PackageRefused: code `version_invalid`, for a text no client can read.
    """
    sort_key(text), sort_key(prefix)  # whether they can be read
    if epoch(text) != epoch(prefix):
        return False
    mine, wanted = (
        _segments(one.lower().rpartition("!")[2].partition("+")[0].replace("-", "_")) for one in (text, prefix)
    )
    *whole, last = wanted
    mine += [[0]] * (len(wanted) - len(mine))
    if any(_trimmed(one) != _trimmed(other) for one, other in zip(mine, whole, strict=False)):
        return False
    return mine[len(whole)][: len(last)] == last


def epoch(text: str) -> int:
    """The number before the `!` of a version that can be read."""
    return int(text.partition("!")[0]) if "!" in text else 0


def _trimmed(segment: list[int | str]) -> list[int | str]:
    while segment and segment[-1] == 0:
        segment = segment[:-1]
    return segment


def _segments(part: str) -> list[list[int | str]]:
    # A trailing underscore belongs to the last segment (openssl: 1.0.1_ < 1.0.1a), so it must not divide.
    tail = "_" if part.endswith("_") else ""
    segments = _SEGMENT.split(part.removesuffix("_"))
    segments[-1] += tail
    return [_components(segment) for segment in segments]


def _components(segment: str) -> list[int | str]:
    runs: list[int | str] = [_number(run) if run.isdigit() else run for run in _RUN.findall(segment)]
    # A segment is in phase with others only if it begins with a number.
    return runs if segment[0].isdigit() else [0, *runs]


def _encode(segments: list[list[int | str]]) -> bytes:
    """The components that are not zero, then END. Raises OverflowError where a byte cannot say it."""
    key = bytearray()
    rows = zeros = 0
    for segment in segments:
        for component in segment:
            if component == 0:
                zeros += 1
                continue
            # Zeros never follow each other inside a segment, so two places per segment are enough.
            distance = 2 * rows + zeros
            if distance >= _END - 1:
                raise OverflowError
            rows = zeros = 0
            if isinstance(component, str) and component != "post":
                key.append(1 + distance)
                key += _DEV if component == "dev" else component.encode("ascii") + b"\x00"
            else:
                key.append(0xFF - distance)
                key += _POST if component == "post" else _numeral(int(component))
        rows += 1
        zeros = 0
    key.append(_END)
    return bytes(key)


def _number(digits: str) -> int:
    # Counted first: Python refuses to convert thousands of digits with an error of its own.
    value = int(digits) if len(digits.lstrip("0")) <= len(str(MAX_NUMERAL)) else MAX_NUMERAL + 1
    if value > MAX_NUMERAL:
        raise OverflowError
    return value


def _numeral(value: int) -> bytes:
    size = (value.bit_length() + 7) // 8
    return bytes([size]) + value.to_bytes(size, "big")


def _shown(text: str) -> str:
    return ascii(text[:80])[1:-1]
