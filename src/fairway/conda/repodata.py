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


def key_of(filename: str, section: int) -> str:
    """What a record is listed under: its file name, or under v3 its stem, whose map names the extension (CEP 48)."""
    if section in {Section.V3_TAR_BZ2, Section.V3_CONDA}:
        return filename.removesuffix(".conda").removesuffix(".tar.bz2")
    return filename


def repodata(subdir: str, entries: Iterable[Entry], removed: Iterable[str]) -> Iterator[bytes]:
    """repodata.json in pieces. `entries` come ordered by section; `removed` are file names.

    `packages` and `packages.conda` are there even when empty, since clients ask for both; `v3` (CEP 48) only if not.
    """
    by_section = Sections(entries)
    yield b'{"info":' + orjson.dumps({"subdir": subdir}) + b',"packages":{'
    yield from by_section.members(Section.PACKAGES)
    yield b'},"packages.conda":{'
    yield from by_section.members(Section.PACKAGES_CONDA)
    yield b'},"removed":' + orjson.dumps(sorted(removed)) + b',"repodata_version":1'
    if by_section.rest:
        yield b',"v3":{"tar.bz2":{'
        yield from by_section.members(Section.V3_TAR_BZ2)
        yield b'},"conda":{'
        yield from by_section.members(Section.V3_CONDA)
        yield b"}}"
    yield b"}"


def run_exports(subdir: str, entries: Iterable[Entry]) -> Iterator[bytes]:
    """run_exports.json in pieces: every file is listed, since a client downloads the package of one that is not. Files
    with v3 records have no place in it; their records carry the field.
    """
    by_section = Sections(entries)
    yield b'{"info":' + orjson.dumps({"subdir": subdir, "version": 1}) + b',"packages":{'
    yield from by_section.members(Section.PACKAGES, exports=True)
    yield b'},"packages.conda":{'
    yield from by_section.members(Section.PACKAGES_CONDA, exports=True)
    yield b"}}"


class Sections:
    """Entries in the order of their sections, handed out one section at a time without holding any."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._groups = groupby(entries, key=attrgetter("section"))
        self._next = next(self._groups, None)

    @property
    def rest(self) -> bool:
        return self._next is not None

    def members(self, section: Section, *, exports: bool = False) -> Iterator[bytes]:
        """The section's `"key":value` pairs with their commas, if it is the next one; the value is the record,
        or with `exports` what it exports.
        """
        if self._next is None or self._next[0] != section:
            return
        comma = b""
        for entry in self._next[1]:
            value = b'{"run_exports":' + (entry.run_exports or b"{}") + b"}" if exports else entry.record
            yield comma + orjson.dumps(entry.key) + b":" + value
            comma = b","
        self._next = next(self._groups, None)
