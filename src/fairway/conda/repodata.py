"""The flat documents of a subdir: repodata.json (CEP 36) and run_exports.json (CEP 12), written piece by piece.

Both are spliced from records that are JSON bytes already, some thousand at a time and in one pass, so a subdir of a
million records needs the memory of a few. Keys are always written in the same order and nothing in here knows the time:
the same records give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import orjson

from fairway.conda.record import Section

# file name, record, what it exports (none: nothing); both as JSON bytes
Row = Sequence[tuple[str, bytes, bytes | None]]
# what to append to repodata.json and to run_exports.json
Pieces = tuple[bytes, bytes]


V3 = frozenset((Section.V3_TAR_BZ2, Section.V3_CONDA))


class Relations(NamedTuple):
    """The channels that go before and after one, by their names on the same server (CEP 42)."""

    base: str | None = None
    overrides: str | None = None

    @property
    def info(self) -> dict[str, dict[str, str]]:
        """What repodata.json and the shard index have of it in their `info`: references to a channel's neighbours."""
        said = {kind: f"../{name}" for kind, name in self._asdict().items() if name is not None}
        return {"channel_relations": said} if said else {}


NO_RELATIONS = Relations()


class Entry(NamedTuple):
    """A visible record: its key in its section (a file name, or a stem under v3), and its JSON bytes."""

    section: int
    key: str
    record: bytes


def key_of(filename: str, section: int) -> str:
    """What a record is listed under: its file name, or under v3 its stem, whose map names the extension (CEP 48)."""
    if section in V3:
        return filename.removesuffix(".conda").removesuffix(".tar.bz2")
    return filename


def documents(
    subdir: str,
    parts: Callable[[Section], Iterable[Row]],
    removed: Iterable[str],
    relations: Relations = NO_RELATIONS,
) -> Iterator[Pieces]:
    """repodata.json and run_exports.json in pieces. `parts` gives a section's records, some at a time, in the order of
    names; `removed` are file names, `relations` the channel's.

    `packages` and `packages.conda` are there even when empty, since clients ask for both; `v3` (CEP 48) only if not. In
    run_exports.json every file is listed, since a client downloads the package of one that is not; files with v3 records
    have no place in it, their records carry the field.
    """
    yield (
        b'{"info":' + orjson.dumps({"subdir": subdir, **relations.info}) + b',"packages":{',
        b'{"info":' + orjson.dumps({"subdir": subdir, "version": 1}) + b',"packages":{',
    )
    yield from members(Section.PACKAGES, parts)
    yield b'},"packages.conda":{', b'},"packages.conda":{'
    yield from members(Section.PACKAGES_CONDA, parts)
    yield b'},"removed":' + orjson.dumps(sorted(removed)) + b',"repodata_version":1', b"}}"
    v3 = [begun(members(section, parts)) for section in (Section.V3_TAR_BZ2, Section.V3_CONDA)]
    if any(v3):
        for opening, pieces in zip((b',"v3":{"tar.bz2":{', b'},"conda":{'), v3, strict=True):
            yield opening, b""
            for records, _ in pieces or ():
                yield records, b""
        yield b"}}", b""
    yield b"}", b""


def begun(pieces: Iterator[Pieces]) -> Iterator[Pieces] | None:
    """The same pieces; none if there are none."""
    first = next(pieces, None)
    return None if first is None else chain((first,), pieces)


def members(section: Section, parts: Callable[[Section], Iterable[Row]]) -> Iterator[Pieces]:
    """The section's `"key":value` pairs with their commas."""
    comma = b""
    for rows in parts(section):
        files = (filename for filename, _, _ in rows)
        names = [orjson.dumps(key_of(filename, section) if section in V3 else filename) for filename in files]
        records = [b"%b:%b" % (name, record) for name, (_, record, _) in zip(names, rows, strict=True)]
        exports = [
            b'%b:{"run_exports":%b}' % (name, found or b"{}") for name, (_, _, found) in zip(names, rows, strict=True)
        ]
        yield comma + b",".join(records), comma + b",".join(exports)
        comma = b","
