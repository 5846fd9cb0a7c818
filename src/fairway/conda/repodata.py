"""The flat documents of a subdir: repodata.json (CEP 36) and run_exports.json (CEP 12), written piece by piece.

Both are spliced from records that are JSON bytes already, so a subdir of a million records needs the memory of one.
Keys are always written in the same order and nothing in here knows the time: the same records give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

import orjson

from fairway.conda.record import Section


class Entry(NamedTuple):
    """A visible record: its key in its section (a file name, or a stem under v3), and its JSON bytes."""

    section: int
    key: str
    record: bytes
    run_exports: bytes | None


RECORD, RUN_EXPORTS = Entry._fields.index("record"), Entry._fields.index("run_exports")


def repodata(subdir: str, entries: Iterable[Entry], removed: Iterable[str]) -> Iterator[bytes]:
    """repodata.json in pieces. `entries` come ordered by section; `removed` are file names.

    `packages` and `packages.conda` are there even when empty, since clients ask for both; `v3` (CEP 48) only if not.
    """
    by_section = Sections(entries)
    yield b'{"info":' + orjson.dumps({"subdir": subdir}) + b',"packages":{'
    yield from by_section.members(Section.PACKAGES, RECORD)
    yield b'},"packages.conda":{'
    yield from by_section.members(Section.PACKAGES_CONDA, RECORD)
    yield b'},"removed":' + orjson.dumps(sorted(removed)) + b',"repodata_version":1'
    if by_section.rest:
        yield b',"v3":{"tar.bz2":{'
        yield from by_section.members(Section.V3_TAR_BZ2, RECORD)
        yield b'},"conda":{'
        yield from by_section.members(Section.V3_CONDA, RECORD)
        yield b"}}"
    yield b"}"


def run_exports(subdir: str, entries: Iterable[Entry]) -> Iterator[bytes]:
    """run_exports.json in pieces: every file is listed, since a client downloads the package of one that is not. Files
    with v3 records have no place in it; their records carry the field."""
    by_section = Sections(entries)
    yield b'{"info":' + orjson.dumps({"subdir": subdir, "version": 1}) + b',"packages":{'
    yield from by_section.members(Section.PACKAGES, RUN_EXPORTS)
    yield b'},"packages.conda":{'
    yield from by_section.members(Section.PACKAGES_CONDA, RUN_EXPORTS)
    yield b"}}"


class Sections:
    """Entries in the order of their sections, handed out one section at a time without holding any."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._groups = groupby(entries, key=attrgetter("section"))
        self._next = next(self._groups, None)

    @property
    def rest(self) -> bool:
        return self._next is not None

    def members(self, section: Section, field: int) -> Iterator[bytes]:
        """The section's `"key":value` pairs with their commas, if it is the next one; the value is the entry's `field`."""
        if self._next is None or self._next[0] != section:
            return
        comma = b""
        for entry in self._next[1]:
            value = entry[field]
            if field == RUN_EXPORTS:
                value = b'{"run_exports":' + (value or b"{}") + b"}"
            yield comma + orjson.dumps(entry.key) + b":" + value
            comma = b","
        self._next = next(self._groups, None)
